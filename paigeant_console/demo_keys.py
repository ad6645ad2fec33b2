"""Keys of the demo, made for one run, and a policy that knows them."""

from __future__ import annotations

from typing import Final

from paigeant_core.security.keys import SigningKey, import_jwk
from paigeant_core.security.trust import Principal, Trust, TrustedKey

AUDIENCE: Final = "demo"
WORKERS: Final = ("onboarding", "orders", "support")


class Keys:
    """The shop starts workflows, the workers do their steps, and you operate.

    Attributes:
        of: the keys, by who signs with them.
    """

    def __init__(self) -> None:
        all_of = frozenset({"*"})
        worker = frozenset({"worker"})
        self._principals = [
            Principal(name="shop", roles=frozenset({"dispatcher"})),
            *(Principal(name=name, roles=worker, activities=all_of) for name in WORKERS),
            Principal(name="you", roles=frozenset({"dispatcher", "operator"}), operations=all_of),
        ]
        self.of = {
            principal.name: SigningKey.generate(principal.name, audience=AUDIENCE) for principal in self._principals
        }

    def trust(self) -> Trust:
        """The policy; each thread has its own, for it remembers what it verified."""
        return Trust(map(self._trusted, self._principals), AUDIENCE)

    def _trusted(self, principal: Principal) -> TrustedKey:
        key = self.of[principal.name]
        public = import_jwk(key.public_document())
        return TrustedKey(kid=key.kid, algorithm=key.algorithm, key=public, principal=principal)
