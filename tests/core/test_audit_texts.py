"""The audit keeps every text that it is given, and nothing is done whose texts it could not keep as they are."""

from __future__ import annotations

import msgspec
import pytest

from paigeant_core import get_transport
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import ConfigError
from paigeant_core.journal import State
from paigeant_core.operations import Cancel, Operations
from paigeant_core.operations.audit import entry, linked
from paigeant_core.operations.plan import Result

NO_UTF8 = "gr\udcf6sse"
"""What Python makes of an argument that is no UTF-8."""


@pytest.mark.parametrize("what", ["reason", "selection", "operator"])
async def test_what_cannot_be_kept_as_it_is_is_refused_before_anything_is_done(what: str) -> None:
    texts = {"reason": "x", "selection": "id:w1", "operator": "ann"} | {what: NO_UTF8}
    async with get_transport(f"memory://audit-{what}") as transport:
        await WorkflowDispatcher(transport).dispatch_workflow(["a"], correlation_id="w1")
        operations = Operations(transport, operator=texts["operator"])
        with pytest.raises(ConfigError, match=rf"cancel: the {what} 'gr\\udcf6sse' is no UTF-8"):
            await operations.plan(Cancel(), ["w1"], reason=texts["reason"], selection=texts["selection"])
        standing = await operations.standing("w1")
        assert standing is not None
        assert standing.state == State.QUEUED
        assert await transport.audit("workflows") == []


def test_an_entry_is_made_of_whatever_was_done() -> None:
    done = (Result("w1", "done", before="queued", after="cancelled"),)
    data = entry(
        NO_UTF8,
        0.0,
        operator=NO_UTF8,
        reason=NO_UTF8,
        operation_id="o1",
        targets=1,
        outcome=NO_UTF8,
        selection=NO_UTF8,
        results=done,
    )
    document = msgspec.json.decode(linked(data, b"", None))
    for name in ("action", "operator", "reason", "outcome", "selection"):
        assert document[name] == r"gr\udcf6sse"
