"""Every verb on signed workflows: what operators could do before, workers with a policy accept."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from paigeant_core import Worker, WorkflowDispatcher
from paigeant_core.names import new_id
from paigeant_core.operations import Operations
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Principal, Trust
from paigeant_core.transports import Transport
from paigeant_core.transports.memory import MemoryTransport
from tests.core.security.kit import names, trusted
from tests.transports import mending, operations, verbs
from tests.transports.contract import Connect
from tests.transports.mending import MendingContract
from tests.transports.operations import OperationsContract

SHOP, CREW = SigningKey.generate("shop"), SigningKey.generate("crew")
OPERATORS = {
    # By the names that the contract gives them, which no keygen would.
    name: SigningKey(OKPKey.generate_key("Ed25519"), name)
    for name in ("ann@desk", "bob@home", "")
}


def policy() -> Trust:
    return Trust(
        [
            trusted(SHOP, Principal(name="shop", roles=names("dispatcher"))),
            trusted(CREW, Principal(name="crew", roles=names("worker"), activities=names("*"), inserts=names("*"))),
            *(
                trusted(key, Principal(name=name, roles=names("operator", "dispatcher"), operations=names("*")))
                for name, key in OPERATORS.items()
            ),
        ]
    )


def signing(transport: Transport, topic: str, *, operator: str = "", **options: Any) -> Operations:
    """The command bus of an operator with a key, and with the policy."""
    return Operations(transport, topic, signer=OPERATORS[operator], trust=policy(), **options)


class TestSigned(MendingContract, OperationsContract):
    """The contract of all transports' verbs, each record signed, each message verified."""

    @pytest.fixture(autouse=True)
    def signed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (operations, verbs):
            monkeypatch.setattr(module, "WorkflowDispatcher", partial(WorkflowDispatcher, signer=SHOP))
        for module in (operations, verbs, mending):
            monkeypatch.setattr(module, "Operations", signing)
        monkeypatch.setattr(operations, "Worker", partial(Worker, signer=CREW, trust=policy()))
        monkeypatch.setattr(verbs, "Worker", partial(Worker, signer=CREW, trust=policy()), raising=False)

    @pytest.fixture
    def topic(self) -> str:
        return "t"

    @pytest.fixture
    def connect(self) -> Connect:
        name = new_id()

        async def connect() -> Transport:
            return MemoryTransport(name)

        return connect
