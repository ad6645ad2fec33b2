"""The transport on RabbitMQ: quorum queues for work, a stream as the journal."""

from paigeant_core.transports.rabbitmq.consumer import RabbitConsumer
from paigeant_core.transports.rabbitmq.transport import RabbitTransport

__all__ = ["RabbitConsumer", "RabbitTransport"]
