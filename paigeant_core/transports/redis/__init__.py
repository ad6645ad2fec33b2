"""The transport on Redis Streams."""

from paigeant_core.transports.redis.consumer import RedisConsumer
from paigeant_core.transports.redis.transport import RedisTransport

__all__ = ["RedisConsumer", "RedisTransport"]
