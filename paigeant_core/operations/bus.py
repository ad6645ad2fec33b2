"""The bus itself: resolve, plan, execute, audit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from paigeant_core import handoff
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import (
    AmbiguousID,
    ConfigError,
    DuplicateWorkflow,
    OverLimit,
    PaigeantError,
    Refused,
    WorkflowNotFound,
)
from paigeant_core.journal import Kind, Record, State
from paigeant_core.limits import BULK_LIMIT
from paigeant_core.names import new_id
from paigeant_core.operations.action import Action, next_epoch, onward, said
from paigeant_core.operations.approval import Approvals
from paigeant_core.operations.audit import check_text, checked, default_operator
from paigeant_core.operations.erasing import Erasing
from paigeant_core.operations.outlook import Outlook
from paigeant_core.operations.plan import BEFORE, Line, Plan, Report, Result
from paigeant_core.operations.reach import Reach, reach
from paigeant_core.operations.reading import OperationLog
from paigeant_core.operations.standing import Standing, standing_of
from paigeant_core.payload_schema import check_against
from paigeant_core.transition import Place, Transition
from paigeant_core.transports import Transport
from paigeant_core.transports.types import Settled, WorkerStatus

if TYPE_CHECKING:
    # Not at run time: who signs nothing starts without the cryptography.
    from paigeant_core.security.intervention import Pen
    from paigeant_core.security.keys import Signer
    from paigeant_core.security.trust import Trust


_STAYS = frozenset({"hold", "cancel", "dead-letter"})
"""Operations after which nothing is run."""


class Operations(Erasing, Approvals):
    """Acts on the workflows of one topic, on behalf of one operator.

    Args:
        transport: where.
        topic: the topic.
        operator: who acts; None: user and host. With a key it is whose key that is.
        read_only: refuse every operation.
        limit: workflows that one operation may touch.
        signer: the key that operations are signed with.
        trust: the policy that workers here go by; what it would refuse is refused here.
    """

    def __init__(
        self,
        transport: Transport,
        topic: str = "workflows",
        *,
        operator: str | None = None,
        read_only: bool = False,
        limit: int = BULK_LIMIT,
        signer: Signer | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.transport = transport
        self.topic = topic
        self.operator = (operator or default_operator()) if signer is None else signer.name
        self.read_only = read_only
        self.limit = limit
        self.signer = signer
        self.trust = trust
        self._pen: Pen | None = None
        self._log = OperationLog(transport, topic)

    @property
    def pen(self) -> Pen:
        """What signs, and knows what the policy would refuse."""
        if self._pen is None:
            from paigeant_core.security.intervention import Pen

            self._pen = Pen(self.signer, self.trust)
        return self._pen

    @property
    def _plain(self) -> bool:
        """Whether there is neither a key nor a policy."""
        return self.signer is None and self.trust is None

    async def resolve(self, prefix: str) -> str:
        """The one correlation ID that ``prefix`` stands for.

        Raises:
            WorkflowNotFound: there is none.
            AmbiguousID: there is more than one.
        """
        found = await self.transport.find(self.topic, prefix, 6) if prefix else []
        if len(found) == 1:
            return found[0]
        if not found:
            raise WorkflowNotFound(f"no workflow {ascii(prefix)[:140]} in topic {self.topic}")
        shown = ", ".join(sorted(found)[:5]) + (", …" if len(found) > 5 else "")
        raise AmbiguousID(f"{ascii(prefix)[:140]} is the beginning of more than one ID: {shown}")

    async def standing(self, correlation_id: str, workers: Sequence[WorkerStatus] | None = None) -> Standing | None:
        """Where a workflow stands now, or None.

        Args:
            correlation_id: its whole ID.
            workers: who lives, where that is known already.
        """
        history = await self.transport.history(self.topic, correlation_id)
        return standing_of(history, await self.transport.workers(self.topic) if workers is None else workers)

    async def plan(
        self,
        action: Action,
        correlation_ids: Sequence[str],
        *,
        reason: str,
        selection: str = "",
        limit: int | None = None,
        trial: bool = False,
    ) -> Plan:
        """Look at each workflow and say what would happen; nothing is done.

        Args:
            action: what to do.
            correlation_ids: whole IDs; twice the same counts once.
            reason: why, for the audit.
            selection: by what they were selected, as it was written; for the audit.
            limit: workflows that it may touch; None: as many as every operation here.
            trial: nobody means to do it, so that it is refused goes to no audit.

        Raises:
            Refused: read-only, no reason, more workflows than the limit, or what the policy would refuse.
            ConfigError: reason, selection or operator are no UTF-8, so the audit could not keep them.
            WorkflowNotFound: none was named.
        """
        if trial:
            self.allow(action.name)
        else:
            targets = len(correlation_ids)
            await self.permit(action.name, action.name, reason=reason, targets=targets, selection=selection)
        reason = checked(action.name, reason)
        check_text(action.name, "selection", selection)
        ids = list(dict.fromkeys(correlation_ids))
        if not ids:
            raise WorkflowNotFound(f"{action.name}: nothing matched")
        most = self.limit if limit is None else limit
        if len(ids) > most:
            if not trial:
                why = OverLimit.why(len(ids), most)
                await self.denied(action.name, why, reason=reason, targets=len(ids), selection=selection)
            raise OverLimit(action.name, len(ids), most)
        outlook = await Outlook.of(self.transport, self.topic)
        schemas, lines = await self.declared(action), []
        for item in ids:
            line = self.line(action, item, await self.standing(item, outlook.workers), outlook, schemas)
            lines.append(await self._still_waited_for(line))
        return Plan(new_id()[:16], action, reason, tuple(lines), selection)

    async def declared(self, action: Action) -> Mapping[str, bytes]:
        """What workers announced of the payloads of activities, where ``action`` changes a payload; else nothing."""
        return await self.transport.schemas(self.topic) if action.edits else {}

    def line(
        self,
        action: Action,
        correlation_id: str,
        standing: Standing | None,
        outlook: Outlook | None = None,
        schemas: Mapping[str, bytes] | None = None,
    ) -> Line:
        """What would happen to one workflow.

        Args:
            action: what to do.
            correlation_id: its ID.
            standing: where it stands, as :meth:`standing` told; None: there is no such workflow.
            outlook: who serves what; None: nothing is said of it.
            schemas: from :meth:`declared`; an edited payload that breaks what its step declares is refused.
        """
        if standing is None:
            return Line(correlation_id, None, False, "there is no such workflow")
        try:
            said = action.check(standing)
            if standing.state != State.QUARANTINED and _may_be_signed(standing, plain=self._plain):
                self.pen.look(action, standing, self.transport.clock.now())
            over = _token_is_over(action, standing, self.transport.clock.now())
            ahead = unknown = ""
            if (outlook is not None or schemas) and (message := action.queues(standing)) is not None:
                ahead = "" if outlook is None else outlook.look(message)
                if schemas and not message.routing_slip.undoing:
                    unknown = check_against(schemas, message.headers.activity, message.payload_bytes)
            return Line(correlation_id, standing, True, "; ".join(filter(None, (said, unknown, ahead, over))))
        except PaigeantError as error:
            return Line(correlation_id, standing, False, str(error))

    async def _still_waited_for(self, line: Line) -> Line:
        """``line``, not eligible where it is of a quarantined message whose workflow went on without it."""
        standing = line.standing
        if standing is None or standing.state != State.QUARANTINED or not line.eligible:
            return line
        message = standing.message()
        current = await self.standing(message.correlation_id)
        if current is not None and current.record.id == message.headers.message_id:
            return line
        why = "is unknown" if current is None else f"went on without it, and is {current.state}"
        return replace(line, eligible=False, why=f"it is superseded: workflow {message.correlation_id} {why}")

    async def dispatch(self, steps: Sequence[object], variables: Mapping[str, Any] | None = None) -> str:
        """Start a workflow, unless this is read-only; see :meth:`WorkflowDispatcher.dispatch_workflow`.

        Raises:
            Refused: read-only, or the policy does not let this operator start workflows.
        """
        if self.read_only:
            raise Refused("dispatch: this is read-only")
        if self.trust is not None:
            if self.signer is None:
                raise Refused("dispatch: the trust policy asks for signatures, and there is no key to sign with")
            try:
                self.trust.check_signer(self.signer, "dispatcher", self.transport.clock.now())
            except ConfigError as error:
                raise Refused(f"dispatch: {error}") from None
        dispatcher = WorkflowDispatcher(self.transport, signer=self.signer)
        return await dispatcher.dispatch_workflow(steps, variables, topic=self.topic)

    async def execute(self, plan: Plan, *, progress: Callable[[Result], None] | None = None) -> Report:
        """Do what was planned; a workflow that moved since is left alone and reported.

        Args:
            plan: from :meth:`plan`.
            progress: called with each result.

        Raises:
            Refused: read-only.
        """
        self.allow(plan.action.name)
        if why := self.second(plan):
            raise Refused(f"{plan.action.name}: it takes a second person, {why}; propose it by command")
        results: list[Result] = []
        try:
            for line in plan.lines:
                results.append(await self.act(plan, line))
                if progress is not None:
                    progress(results[-1])
        except BaseException:
            # Somebody ended the command, or nobody reads its output any more: what was done is on record all the same.
            broken = Report(plan.operation_id, tuple(results))
            with suppress(PaigeantError):
                await asyncio.shield(self.audit(plan, broken, targets=len(plan.lines), said="broken off"))
            raise
        report = Report(plan.operation_id, tuple(results))
        await self.audit(plan, report, targets=len(plan.lines))
        return report

    def proposal(self, plan: Plan, line: Line) -> str:
        """See :meth:`Approvals.proposal`."""
        standing, action, at = line.standing, plan.action, self.transport.clock.now()
        assert standing is not None  # it is eligible
        if standing.record.body is None or standing.state == State.QUARANTINED:
            return ""
        if action.asks(standing) == action.name:
            made = None
        else:
            made = action.apply(standing, at, {"reason": plan.reason, "operation_id": plan.operation_id})
        reason, operation_id = plan.reason, plan.operation_id
        return self.pen.proposal(made, action, standing, reason=reason, operation_id=operation_id, at=at)

    async def gone_on_with(self, line: Line) -> Line:
        """See :meth:`Approvals.gone_on_with`."""
        standing = line.standing
        if standing is None or standing.state != State.QUARANTINED:
            return line
        return replace(line, standing=await self.standing(standing.message().correlation_id) or standing)

    async def act(self, plan: Plan, line: Line) -> Result:
        """Do what was planned to one workflow; it is not put on record in the audit yet.

        Args:
            plan: of the operation.
            line: of the workflow.
        """
        standing = line.standing
        if standing is None:
            return Result(line.correlation_id, "skipped", line.why)
        if not line.eligible:
            return Result(line.correlation_id, "skipped", line.why, before=standing.state)
        return replace(await self._act(plan, line, standing), before=standing.state)

    async def _act(self, plan: Plan, line: Line, standing: Standing) -> Result:
        action = plan.action
        at = self.transport.clock.now()
        detail: dict[str, Any] = {
            "action": action.name,
            "operator": self.operator,
            "reason": plan.reason,
            "operation_id": plan.operation_id,
            "before": standing.before(),
            **action.details(),
        }
        approval = (plan.approvals or {}).get(line.correlation_id, "")
        if self.signer is not None:
            detail["key"] = self.signer.kid
        if standing.state == State.QUARANTINED:
            return await self._readmit(line.correlation_id, action, standing, at, detail, approval)
        wish, settled, after = action.asks(standing), Settled.DONE, ""
        try:
            if not wish:
                made = action.apply(standing, at, dict(detail))
                transition = self._sealed(made, action, standing, detail, at, approval)
                new, after = transition.record.headers.correlation_id, transition.record.state
                if new != line.correlation_id:
                    return await self._start(transition, standing)
                settled = await self.transport.operate(
                    self.topic, transition, expect=standing.fence, unless_claimed=action.at_handoff
                )
                if settled is Settled.CLAIMED:
                    # A worker has it, and has not said so yet.
                    wish = action.name
            if wish:
                if wish == action.name and _may_be_signed(standing, plain=self._plain):
                    record = self.pen.asked(
                        action,
                        standing,
                        reason=plan.reason,
                        operation_id=plan.operation_id,
                        at=at,
                        approval=approval,
                    )
                    detail |= {"signed": record} if record else {}
                asked = handoff.request(standing.headers, at, wish, detail)
                settled = await self.transport.request(self.topic, asked, expect=standing.fence)
            if settled is Settled.SUPERSEDED:
                return Result(line.correlation_id, "failed", await self._who_was_first(standing))
        except PaigeantError as error:
            return Result(line.correlation_id, "failed", str(error))
        if wish == handoff.GO_ON:
            return Result(line.correlation_id, "done", "taken back")
        if wish:
            activity = standing.headers.activity
            return Result(line.correlation_id, "done", f"asked for: done when {activity} is handed on")
        return Result(line.correlation_id, "done", after=after)

    async def _start(self, copy: Transition, standing: Standing) -> Result:
        """Start a workflow beside the one of ``standing``, unless that moved since.

        Raises:
            PaigeantError: the broker did not take it.
        """
        old, new = standing.headers.correlation_id, copy.record.headers.correlation_id
        # The fence of the one guards no start of another: what moves it between this look and the dispatch, a few
        # round trips to the broker, is not noticed.
        current = await self.standing(old, ())
        if current is None or current.fence != standing.fence:
            if await self.transport.find(self.topic, new, 1):
                return Result(old, "done", BEFORE)
            return Result(old, "failed", await self._who_was_first(standing))
        try:
            await self.transport.dispatch(self.topic, copy)
        except DuplicateWorkflow:
            return Result(old, "done", BEFORE)
        return Result(old, "done", f"started as {new}", new, after=State.QUEUED)

    def _sealed(
        self,
        transition: Transition,
        action: Action,
        standing: Standing,
        detail: Mapping[str, Any],
        at: float,
        approval: str = "",
    ) -> Transition:
        if not _may_be_signed(standing, plain=self._plain):
            return transition
        reason, operation_id = detail["reason"], detail["operation_id"]
        return self.pen.sealed(
            transition, action, standing, reason=reason, operation_id=operation_id, at=at, approval=approval
        )

    async def _readmit(
        self,
        quarantined: str,
        action: Action,
        standing: Standing,
        at: float,
        detail: dict[str, Any],
        approval: str,
    ) -> Result:
        """Let a workflow go on whose message was quarantined, and take that out of quarantine; in this order."""
        try:
            message = standing.message()
            workflow = message.correlation_id
            current = await self.standing(workflow)
            if current is None or current.record.id != message.headers.message_id:
                return Result(quarantined, "failed", f"workflow {workflow} is unknown, or went on without it")
            detail["restored"] = quarantined
            again = self._sealed(onward(next_epoch(current, at), at, detail), action, current, detail, at, approval)
            settled = await self.transport.operate(self.topic, again, expect=current.fence)
            if settled is Settled.SUPERSEDED:
                return Result(quarantined, "failed", await self._who_was_first(current))
            gone = Record(
                Kind.CANCELLED, standing.headers, state=State.CANCELLED, detail=said(detail), id=new_id(), at=at
            )
            await self.transport.operate(
                self.topic, Transition(place=Place.NOWHERE, record=gone), expect=standing.fence
            )
        except PaigeantError as error:
            return Result(quarantined, "failed", str(error))
        return Result(quarantined, "done", f"workflow {workflow} goes on", after=State.CANCELLED)

    async def _who_was_first(self, standing: Standing) -> str:
        known = {record.position for record in standing.history}
        for record in await self.transport.history(self.topic, standing.headers.correlation_id):
            who, what = record.detail.get("operator"), record.detail.get("action")
            if record.position not in known and record.kind == Kind.OPERATED and who and what:
                return f"it moved meanwhile: {who} was first, {what} at {rfc3339(record.at)}"
        return "the workflow moved meanwhile: look again"

    async def acted(self, prefix: str) -> Reach:
        """See :func:`paigeant_core.operations.reach.reach`."""
        return await reach(self.transport, self.topic, self._log, prefix)

    def allow(self, what: str) -> None:
        """See :meth:`Control.allow`."""
        if self.read_only:
            raise Refused(f"{what}: this is read-only")
        check_text(what, "operator", self.operator)
        if self.trust is not None:
            self.pen.check(what, self.transport.clock.now())


def _token_is_over(action: Action, standing: Standing, now: float) -> str:
    """That a workflow will not get far whose user's token expired; empty: that is not so, or no matter."""
    body = standing.record.body
    if action.name in _STAYS or body is None or b'"delegation":' not in body or standing.state == State.QUARANTINED:
        return ""
    delegation = standing.message().delegation
    if delegation is None or not delegation.expired(now) or getattr(action, "token", None) is not None:
        return ""
    return f"its token expired at {rfc3339(delegation.exp)}: its next step is held, until release hands it another"


def _may_be_signed(standing: Standing, *, plain: bool) -> bool:
    """Whether there is something to look at; without a key and a policy most workflows show by their bytes."""
    return not plain or (standing.record.body is not None and b'"records":[' in standing.record.body)
