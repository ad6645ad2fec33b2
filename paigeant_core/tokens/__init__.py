"""On-behalf-of tokens where messages are stored: encrypted or in a vault, and exchanged just before a step."""

from paigeant_core.tokens.exchange import TokenExchange
from paigeant_core.tokens.tokens import Tokens
from paigeant_core.tokens.topic_key import TopicKey
from paigeant_core.tokens.vault import FileVault, Vault

__all__ = ["FileVault", "TokenExchange", "Tokens", "TopicKey", "Vault"]
