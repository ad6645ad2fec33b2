"""What the tests of steps and their tokens share: keys, dispatches, workers, and workflows that wait for a token."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from paigeant_core import (
    ActivityContext,
    RetryPolicy,
    State,
    Worker,
    WorkflowDispatcher,
)
from paigeant_core.clock import ManualClock
from paigeant_core.operations import Operations, Release
from paigeant_core.secret import Secret
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Principal, Trust
from paigeant_core.tokens import Tokens, TopicKey
from tests.core.bench import Bench
from tests.core.security.kit import names, trusted
from tests.core.tokens.kit import jwt

KEY = TopicKey.generate()
SHOP, PAYMENTS, ANN = (SigningKey.generate(name) for name in ("shop", "payments", "ann"))
TRUST = Trust(
    [
        trusted(SHOP, Principal(name="shop", roles=names("dispatcher"))),
        trusted(PAYMENTS, Principal(name="payments", roles=names("worker"), activities=names("*"))),
        trusted(ANN, Principal(name="ann", roles=names("operator", "dispatcher"), operations=names("*"))),
    ]
)
Given = list[str | None]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.clock = bench.transport.clock = bench.broker.clock = ManualClock(time.time())
    return bench


async def dispatch(
    bench: Bench, *steps: object, token: str | None = None, tokens: Tokens | None = None, **options: Any
) -> str:
    signer = options.pop("signer", None)
    dispatcher = WorkflowDispatcher(bench.transport, signer=signer, tokens=tokens or Tokens([KEY]))
    token = jwt() if token is None else token
    return await dispatcher.dispatch_workflow(list(steps), {"a": 1}, topic=bench.topic, obo_token=token, **options)


def worker(
    bench: Bench,
    given: Given | None = None,
    *,
    then: Callable[[ActivityContext], Any] | None = None,
    scopes: tuple[str, ...] = ("pay",),
    **options: Any,
) -> Worker:
    """Of `pay`, which needs a scope, and `notify`, which needs none; each notes the token that it was given."""
    options.setdefault("tokens", Tokens([KEY]))
    made = bench.worker(**options)

    async def handler(ctx: ActivityContext) -> Any:
        if given is not None:
            given.append(ctx.obo_token)
        return None if then is None else then(ctx)

    made.activity("pay", scopes=scopes, retry=RetryPolicy(max_attempts=2, jitter=0))(handler)
    made.activity("notify")(handler)
    return made


def body(bench: Bench, activity: str = "pay") -> bytes:
    with bench.broker.topic(bench.topic) as topic:
        (entry,) = topic.work[activity]
        return entry.body


async def kept(bench: Bench, workflow: str) -> bytes:
    """All that the broker ever held of the workflow."""
    parts = [record.encode_meta() + (record.body or b"") for record in await bench.history(workflow)]
    return b"".join(parts)


async def held(bench: Bench, **options: Any) -> str:
    """A workflow that stands held because its token expired."""
    signer = options.pop("signer", None)
    keys: dict[str, Any] = {"signer": PAYMENTS, "trust": TRUST} if signer else {}
    workflow = await dispatch(
        bench, "pay", "notify", token=jwt("pay notify", exp=bench.clock.now() + 30), signer=signer, **options
    )
    bench.clock.advance(31)
    async with bench.serving(worker(bench, tokens=options.get("tokens"), **keys)):
        await bench.reaches(workflow, State.HELD)
    return workflow


async def release(bench: Bench, workflow: str, token: str | None, tokens: Tokens | None, **options: Any) -> str:
    """Release it; what came of it, or why it cannot be."""
    operations = Operations(bench.transport, bench.topic, operator=None if options else "ann", **options)
    action = Release({}, None if token is None else Secret(token), tokens)
    plan = await operations.plan(action, [workflow], reason="signed in again")
    (result,) = (await operations.execute(plan)).results
    return f"{result.outcome} {result.reason}".strip()


PUBLIC = Tokens([TopicKey.from_document(KEY.public_document())])
