"""The in-memory transport: development, tests and the demo."""

from paigeant_core.transports.memory.broker import MemoryBroker
from paigeant_core.transports.memory.transport import MemoryTransport

__all__ = ["MemoryBroker", "MemoryTransport"]
