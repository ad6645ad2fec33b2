"""What an operator does beside a single operation on workflows: long operations, activities, and the audit of all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from paigeant_core.errors import AmbiguousID, Conflict, Refused, WorkflowNotFound
from paigeant_core.names import new_id
from paigeant_core.operations import audit
from paigeant_core.operations.action import Action
from paigeant_core.operations.log import (
    OVER,
    OperationState,
    OperationStatus,
    Pace,
    at_once,
    entry,
    from_document,
    opening,
    to_document,
)
from paigeant_core.operations.plan import Line, Plan, Report, Result
from paigeant_core.operations.reading import Known, OperationLog, all_begun, without_old
from paigeant_core.operations.run import ASIDE, Running
from paigeant_core.operations.standing import Standing
from paigeant_core.pauses import PAUSE, RESUME, Pause, switched
from paigeant_core.transports import Transport

if TYPE_CHECKING:
    from paigeant_core.security.keys import Signer

FIRST = 5_000
"""Entries of the log of operations that are read before it is known how many it takes."""

LISTED = 20_000
"""The same where all are asked for: what waits or braked says nothing more, and is seen where it began."""

APPEND_TRIES = 50
"""How often an entry of the audit is made anew because another one came first."""

ACTIVITY = "activity"
"""What a policy calls the right to pause and resume activities."""
TOPIC = "topic"
"""What a policy calls the right to delete the topic."""

DELETE = "topic delete"
"""What the audit calls that the topic was to be deleted."""


class Control(ABC):
    """The part of the command bus that watches over operations, see :class:`paigeant_core.operations.Operations`.

    Attributes:
        transport: where.
        topic: the topic.
        operator: who acts.
        read_only: refuse every operation.
        signer: the key that entries of the audit are signed with, if there is one.
    """

    transport: Transport
    topic: str
    operator: str
    read_only: bool
    signer: Signer | None
    _log: OperationLog

    @abstractmethod
    async def standing(self, correlation_id: str) -> Standing | None:
        """Where a workflow stands now, or None."""

    @abstractmethod
    async def declared(self, action: Action) -> Mapping[str, bytes]:
        """What an edited payload is checked against, by activity."""

    @abstractmethod
    def line(
        self,
        action: Action,
        correlation_id: str,
        standing: Standing | None,
        *,
        schemas: Mapping[str, bytes] | None = None,
    ) -> Line:
        """What would happen to one workflow."""

    @abstractmethod
    async def act(self, plan: Plan, line: Line) -> Result:
        """Do what was planned to one workflow."""

    @abstractmethod
    def second(self, plan: Plan) -> str:
        """Why the plan needs a second person; empty: it needs none."""

    @abstractmethod
    def allow(self, what: str) -> None:
        """Say no to who may not, before anything is looked at or asked.

        Args:
            what: a verb, :data:`ACTIVITY` or :data:`TOPIC`.

        Raises:
            Refused: read-only, or the policy would refuse it.
        """

    # -- the audit ------------------------------------------------------------------------

    async def permit(self, what: str, order: str, *, reason: str, targets: int = 1, selection: str = "") -> None:
        """Say no to who may not, as :meth:`allow` does, and put that on record.

        Args:
            what: what the policy calls it.
            order: what the audit calls it.
            reason: what the operator gave.
            targets: how many were selected.
            selection: by what.

        Raises:
            Refused: read-only, or the policy would refuse it.
        """
        try:
            self.allow(what)
        except Refused as refused:
            await self.denied(order, str(refused), reason=reason, targets=targets, selection=selection)
            raise

    async def audit(self, plan: Plan, report: Report, *, targets: int, said: str = "") -> None:
        """Put it on record that an operation was done.

        Args:
            plan: what was planned.
            report: what came of it.
            targets: how many workflows were selected.
            said: how it ended, where it did not come to its end.
        """
        counts = [f"{report.count(item)} {item}" for item in ("done", "skipped", "failed")]
        outcome = ", ".join(counts + ([said] if said else []))
        await self._put_on_record(plan, outcome, targets, report.results)

    async def denied(self, action: str, why: str, *, reason: str, targets: int, selection: str = "") -> None:
        """Put it on record that an operation was refused; a read-only console writes nothing, not even that.

        Args:
            action: the verb.
            why: it was refused.
            reason: what the operator gave.
            targets: how many workflows were selected.
            selection: by what.
        """
        if not self.read_only:
            data = audit.entry(
                action,
                self.transport.clock.now(),
                operator=self.operator,
                reason=reason[: audit.MAX_REASON],
                operation_id="",
                targets=targets,
                outcome=f"denied: {why}",
                allowed=False,
                selection=selection,
            )
            await self._append(data)

    async def _append(self, data: bytes) -> None:
        """Put an entry behind the newest one; of two consoles that do so at once one tries again."""
        for _ in range(APPEND_TRIES):
            newest = (await self.transport.audit(self.topic, 1) or [b""])[-1]
            entry = audit.linked(data, newest, self.signer)
            if await self.transport.append_audit(self.topic, entry, follows=newest):
                return
        raise Conflict(f"the audit of topic {self.topic} is written to all the time; this entry is not in it")

    async def _put_on_record(
        self, plan: Plan, outcome: str, targets: int, results: tuple[Result, ...] = (), order: str = ""
    ) -> None:
        data = audit.entry(
            f"{order} {plan.action.name}".strip(),
            self.transport.clock.now(),
            operator=self.operator,
            reason=plan.reason,
            operation_id=plan.operation_id,
            targets=targets,
            outcome=outcome,
            selection=plan.selection,
            results=results,
        )
        await self._append(data)

    # -- operations that take their time ----------------------------------------------------

    async def runs(self, limit: int = LISTED) -> dict[str, OperationStatus]:
        """Operations that take, or took, their time, by ID, the oldest first; of those that are over the newest 1 000.

        Args:
            limit: entries of their log that are read at least, the newest; and as many more as it takes to come
                to the beginning of every operation among them that is not over.
        """
        return without_old(await self._log.read(limit, all_begun))

    async def listed(self) -> list[OperationStatus]:
        """All operations in progress and past, the oldest first: :meth:`runs`, and those that were done at once.

        Of these the audit tells, of which the newest 1 000 entries are read.
        """
        known = at_once(await self.transport.audit(self.topic)) | await self.runs()
        return sorted(known.values(), key=lambda status: status.at)

    async def start(self, plan: Plan, pace: Pace | None = None) -> Running:
        """Begin an operation that another console can see, pause and go on with.

        Args:
            plan: from :meth:`plan`; its workflows are frozen with this.
            pace: how fast, and when it stops by itself.

        Raises:
            Refused: read-only, or it hands over a token, which no record may hold.
        """
        self.allow(plan.action.name)
        if why := self.second(plan):
            raise Refused(f"{plan.action.name}: it takes a second person, {why}; propose it by command")
        if getattr(plan.action, "token", None) is not None:
            raise Refused(
                f"{plan.action.name}: a token is handed over at once, to at most 100 workflows, without --rate, --ramp "
                "and --brake: nobody else could go on with it"
            )
        now = self.transport.clock.now()
        status = OperationStatus(
            plan.operation_id,
            operator=self.operator,
            action=to_document(plan.action),
            reason=plan.reason,
            pace=pace or Pace(),
            at=now,
            updated_at=now,
            # What was not eligible when it was confirmed stays out of it, whatever becomes of it until its turn comes.
            targets=[line.correlation_id for line in plan.lines if line.eligible],
            by=new_id(),
            selection=plan.selection,
        )
        if status.pace.delay:
            status.state = OperationState.ARMED
        for data in opening(status):
            await self.transport.append_operation(self.topic, data)
        await self._put_on_record(plan, "armed" if status.pace.delay else "started", len(plan.lines))
        # What runs something is meant for the step that was shown: where somebody else was first, it is not done again.
        kept = () if isinstance(plan.action, ASIDE) else plan.lines
        planned = {line.correlation_id: line for line in kept if line.eligible}
        return Running(
            self, status, plan.action, planned=planned, left=[line for line in plan.lines if not line.eligible]
        )

    async def pause(self, operation_id: str) -> OperationStatus:
        """Let whoever carries an operation out wait; raises as :meth:`abort`."""
        return await self._order(operation_id, "pause", "paused")

    async def abort(self, operation_id: str) -> OperationStatus:
        """End an operation: what was done stays done, and the rest is left alone.

        Args:
            operation_id: its ID, or the beginning of it.

        Raises:
            Refused: read-only, it is over, the policy would refuse what it does, or it waits for a second person, who
                rejects it.
            WorkflowNotFound: there is no such operation.
            AmbiguousID: there is more than one.
        """
        return await self._order(operation_id, "abort", "aborted")

    async def resume(self, operation_id: str) -> Running | None:
        """Go on with an operation that was paused, that braked, or that nobody carries out any more.

        Returns:
            What carries it out here; None: whoever paused goes on with it.

        Raises:
            Refused: read-only, it is over, or somebody carries it out.
            WorkflowNotFound: there is no such operation.
            AmbiguousID: there is more than one.
        """
        status = await self._known(operation_id, "resume")
        await self._permit_order(status, "resume")
        now = self.transport.clock.now()
        alone = status.silent(now) or status.state is OperationState.BRAKED
        if status.approvals and (alone or status.state is OperationState.WAITING):
            raise Refused(f"operation {status.operation_id} takes a second person: approve or reject it")
        if not alone and status.state is not OperationState.PAUSED:
            raise Refused(f"operation {status.operation_id}: {status.operator} carries it out now")
        more = {"by": new_id()} if alone else {}
        data = entry(status.operation_id, "resumed", now, operator=self.operator, **more)
        await self.transport.append_operation(self.topic, data)
        await self._put_on_record(status.plan(), "resumed", len(status.targets), order="resume")
        if not alone:
            return None
        status.by, status.state, status.said = more["by"], OperationState.RUNNING, ""
        return Running(self, status, from_document(status.action))

    async def _order(self, operation_id: str, order: str, event: str) -> OperationStatus:
        status = await self._known(operation_id, order)
        await self._permit_order(status, order)
        if status.state is OperationState.WAITING:
            raise Refused(f"operation {status.operation_id} takes a second person: approve or reject it")
        now = self.transport.clock.now()
        said = f"{event} by {self.operator}"
        data = entry(status.operation_id, event, now, operator=self.operator, said=said)
        await self.transport.append_operation(self.topic, data)
        await self._put_on_record(status.plan(), event, len(status.targets), order=order)
        status.state, status.said = OperationState(event), said
        return status

    async def _permit_order(self, status: OperationStatus, order: str) -> None:
        """Let only who may do what an operation does stop it, go on with it or end it; raises as :meth:`permit`."""
        name = str(status.action.get("name", ""))
        await self.permit(
            name,
            f"{order} {name}",
            reason=status.reason,
            targets=len(status.targets),
            selection=status.selection,
        )

    async def _known(self, operation_id: str, what: str) -> OperationStatus:
        if self.read_only:
            raise Refused(f"{what}: this is read-only")

        def named(known: Known) -> list[str]:
            begun = [key for key in known if operation_id and key.startswith(operation_id)]
            return [operation_id] if operation_id in begun else begun

        # What waits or braked says nothing more, so it can lie far behind what others said since.
        known = await self._log.read(
            FIRST, lambda known: all_begun(known) and any(known[key].whole for key in named(known))
        )
        if not (found := named(known)):
            known = at_once(await self.transport.audit(self.topic))
            found = named(known)
        if not found:
            raise WorkflowNotFound(f"no operation {ascii(operation_id)[:60]} in topic {self.topic}")
        if len(found) > 1:
            raise AmbiguousID(f"{ascii(operation_id)[:60]} is the beginning of more than one operation")
        status = known[found[0]]
        if status.state in OVER:
            raise Refused(f"operation {status.operation_id} is {status.state.value}")
        return status

    # -- the topic --------------------------------------------------------------------------

    async def delete_topic(self, *, reason: str) -> None:
        """Take away all that the topic has on its broker, the audit too; nothing brings it back.

        Args:
            reason: why.

        Raises:
            Refused: read-only, no reason, or a worker lives that would begin it anew.
        """
        await self.permit(TOPIC, DELETE, reason=reason)
        audit.checked(DELETE, reason)
        if alive := [status.info.worker for status in await self.transport.workers(self.topic)]:
            names = ", ".join(alive[:5]) + (", …" if len(alive) > 5 else "")
            why = f"{len(alive)} workers serve topic {self.topic}, stop them first: {names}"
            await self.denied(DELETE, why, reason=reason, targets=1)
            raise Refused(f"{DELETE}: {why}")
        await self.transport.delete_topic(self.topic)

    # -- activities ---------------------------------------------------------------------------

    async def pause_activity(self, activity: str, *, reason: str) -> Pause | None:
        """Let no worker begin a step of an activity until it is resumed: no attempt is spent on it.

        What runs is finished; retries that come due, and workflows that come to it, wait.
        Journalled as ``operated`` of no workflow.

        Args:
            activity: which.
            reason: why, for the audit.

        Returns:
            Who had paused it before, and then nothing is done; None: it is paused now.

        Raises:
            Refused: read-only, or no reason.
            WorkflowNotFound: the topic knows no such activity.
        """
        return await self._switch(PAUSE, activity, reason)

    async def resume_activity(self, activity: str, *, reason: str) -> Pause | None:
        """Let workers serve an activity again.

        Args:
            activity: which.
            reason: why, for the audit.

        Returns:
            The pause that is over; None: it was not paused, and nothing is done.

        Raises:
            Refused: read-only, or no reason.
            WorkflowNotFound: the topic knows no such activity.
        """
        return await self._switch(RESUME, activity, reason)

    async def check_activity(self, activity: str) -> None:
        """Check that the topic knows an activity.

        Args:
            activity: which.

        Raises:
            WorkflowNotFound: it does not; the message names those that it does.
        """
        known = [queue.activity for queue in await self.transport.queues(self.topic)]
        if activity not in known:
            names = "known: " + ", ".join(known[:10]) + (", …" if len(known) > 10 else "") if known else "none yet"
            raise WorkflowNotFound(f"no activity {ascii(activity)[:80]} in topic {self.topic}; {names}")

    async def _switch(self, action: str, activity: str, reason: str) -> Pause | None:
        await self.permit(ACTIVITY, f"{action} {activity}", reason=reason)
        reason = audit.checked(action, reason)
        await self.check_activity(activity)
        at, operation_id = self.transport.clock.now(), new_id()[:16]
        detail = {"operator": self.operator, "reason": reason, "operation_id": operation_id}
        before = await self.transport.switch(self.topic, switched(self.topic, activity, action, at, detail))
        done = (before is None) == (action == PAUSE)
        data = audit.entry(
            f"{action} {activity}",
            at,
            operator=self.operator,
            reason=reason,
            operation_id=operation_id,
            targets=1,
            outcome="1 done" if done else "1 skipped",
        )
        await self._append(data)
        return before
