"""Erasing: what a broker has of one person's workflows is taken away, for good.

Its messages and the details of its records go; that there was such a workflow, how far it
came and who erased it stays. It is the one operation that nothing undoes, so it is no part
of what can be paced, armed or proposed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from paigeant_core.clock import rfc3339
from paigeant_core.erasure import is_marker, marker
from paigeant_core.errors import NotEligible, OverLimit, PaigeantError, Refused, WorkflowNotFound
from paigeant_core.journal import ENDED, PARKED
from paigeant_core.names import new_id
from paigeant_core.operations import audit
from paigeant_core.operations.action import Action
from paigeant_core.operations.control import Control
from paigeant_core.operations.plan import Line, Plan, Report, Result
from paigeant_core.operations.reading import all_begun
from paigeant_core.operations.standing import Standing
from paigeant_core.transition import Place
from paigeant_core.transports.types import Erased, Settled


class _Erase(Action):
    """Take away the contents of workflows that are over, or parked."""

    name: ClassVar[str] = "erase"
    needs: ClassVar[frozenset[str]] = ENDED | PARKED

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        if is_marker(standing.record):
            raise NotEligible(f"it was erased at {rfc3339(standing.record.at)}")
        return super().check(standing)

    def refusal(self, state: str) -> str:
        """See :meth:`Action.refusal`."""
        return f"it is {state}, and its message is on its way: cancel or dead-letter it first"


@dataclass(frozen=True, slots=True)
class Erasure(Report):
    """How an erasure ended.

    Attributes:
        erased: what the broker did to each workflow that it was done to.
    """

    erased: dict[str, Erased] = field(default_factory=dict)


class Erasing(Control):
    """The part of the command bus that erases."""

    limit: int

    async def plan_erasure(self, correlation_ids: Sequence[str], *, reason: str, trial: bool = False) -> Plan:
        """Look at each workflow and say whether it can be erased; nothing is done.

        By what the workflows were selected is no part of it: a query for a person names the person, and the audit
        is kept.

        Args:
            correlation_ids: whole IDs; twice the same counts once.
            reason: why, for the audit.
            trial: nobody means to do it, so that it is refused goes to no audit.

        Raises:
            Refused: read-only, no reason, more workflows than the limit, or the policy does not let this operator.
            WorkflowNotFound: none was named.
        """
        action, ids = _Erase(), list(dict.fromkeys(correlation_ids))
        try:
            self.allow(action.name)
            reason = audit.checked(action.name, reason)
            if len(ids) > self.limit:
                raise OverLimit("erase", len(ids), self.limit)
        except Refused as refused:
            if not trial and reason.strip():
                await self.denied(action.name, str(refused), reason=reason, targets=len(ids))
            raise
        if not ids:
            raise WorkflowNotFound("erase: nothing matched")
        lines = [_checked(action, item, await self.standing(item)) for item in ids]
        return Plan(new_id()[:16], action, reason, tuple(lines))

    async def erase(self, plan: Plan, *, progress: Callable[[Result, Erased | None], None] | None = None) -> Erasure:
        """Do what was planned; a workflow that moved since is left alone and reported.

        Args:
            plan: from :meth:`plan_erasure`.
            progress: called with each result.

        Raises:
            Refused: read-only, or the policy wants a second person, who cannot sign for what is no step.
        """
        self.allow(plan.action.name)
        if why := self.second(plan):
            raise Refused(f"erase: it takes a second person, {why}; nobody can sign an erasure, so erase fewer at once")
        known = await self._kept_elsewhere(plan)
        results: list[Result] = []
        erased: dict[str, Erased] = {}
        try:
            for line in plan.lines:
                result, done = await self._erase(plan, line, known.get(line.correlation_id, ()))
                results.append(result)
                if done is not None:
                    erased[line.correlation_id] = done
                if progress is not None:
                    progress(result, done)
        except BaseException:
            # As in `execute`: the command was ended, or nobody reads its output any more.
            with suppress(PaigeantError):
                await asyncio.shield(self._erased(plan, results, erased, broken=True))
            raise
        return await self._erased(plan, results, erased)

    async def _erased(
        self, plan: Plan, results: Sequence[Result], erased: dict[str, Erased], *, broken: bool = False
    ) -> Erasure:
        """Put it on record what was erased."""
        report = Erasure(plan.operation_id, tuple(results), erased=erased)
        records = sum(item.records for item in erased.values())
        parked = sum(item.parked for item in erased.values())
        said = f"{records} records and {parked} parked messages"
        await self.audit(plan, report, targets=len(plan.lines), said=f"{said}, broken off" if broken else said)
        return report

    async def _erase(self, plan: Plan, line: Line, more: Sequence[str]) -> tuple[Result, Erased | None]:
        standing = line.standing
        if standing is None or not line.eligible:
            before = standing.state if standing is not None else ""
            return Result(line.correlation_id, "skipped", line.why, before=before), None
        headers = standing.headers
        detail: dict[str, Any] = {
            "action": plan.action.name,
            "operator": self.operator,
            "reason": plan.reason,
            "operation_id": plan.operation_id,
            # Not the words that it was held with: they may be about the person.
            "before": {"state": str(standing.state), "hop": headers.hop, "attempt": headers.attempt},
        }
        if self.signer is not None:
            detail["key"] = self.signer.kid
        marked = marker(standing.record, self.transport.clock.now(), detail)
        try:
            done = await self.transport.erase(self.topic, marked, expect=standing.fence)
        except PaigeantError as error:
            return Result(line.correlation_id, "failed", str(error), before=standing.state), None
        if done.settled is Settled.SUPERSEDED:
            why = "the workflow moved meanwhile: look again"
            return Result(line.correlation_id, "failed", why, before=standing.state), None
        whole = Erased(
            settled=done.settled,
            records=done.records,
            parked=done.parked,
            remains=(*done.remains, *more),
            until=done.until,
        )
        return Result(line.correlation_id, "done", before=standing.state, after=marked.state), whole

    async def _kept_elsewhere(self, plan: Plan) -> dict[str, list[str]]:
        """What else of the workflows is on the broker, under another name, and is not erased with them."""
        wanted = {line.correlation_id for line in plan.lines if line.eligible}
        found: dict[str, list[str]] = {}
        for record in await self.transport.parked(self.topic, Place.QUARANTINE, 100_000):
            try:
                message = record.message
            except PaigeantError:
                continue  # nobody can say whose it is
            if message is not None and message.correlation_id in wanted:
                own = record.headers.correlation_id
                found.setdefault(message.correlation_id, []).append(f"quarantine has a message of it: erase {own} too")
        for operation_id, status in (await self._log.read(100_000, all_begun)).items():
            if any(status.action.get(name) for name in ("payload", "changes", "values", "steps", "itinerary")):
                for target in wanted.intersection(status.targets):
                    said = f"the log of operation {operation_id} has the values that were given with it: 90 days"
                    found.setdefault(target, []).append(said)
        return found


def _checked(action: Action, correlation_id: str, standing: Standing | None) -> Line:
    if standing is None:
        return Line(correlation_id, None, False, "there is no such workflow")
    try:
        return Line(correlation_id, standing, True, action.check(standing))
    except NotEligible as error:
        return Line(correlation_id, standing, False, str(error))
