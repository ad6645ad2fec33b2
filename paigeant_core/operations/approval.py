"""A second person's approval: the operation waits on the broker until another operator carries it out.

Who asks signs, for each workflow, just what is to be done to it; who approves looks at
it, signs the same and does it. Workers refuse it with one signature alone where the
policy asks for two.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from paigeant_core.errors import PaigeantError, Refused
from paigeant_core.names import new_id
from paigeant_core.operations.action import Action
from paigeant_core.operations.audit import checked
from paigeant_core.operations.control import Control
from paigeant_core.operations.log import OperationState, OperationStatus, entry, from_document, proposed, to_document
from paigeant_core.operations.plan import Line, Plan, Report, Result
from paigeant_core.operations.run import Running
from paigeant_core.operations.standing import Standing

if TYPE_CHECKING:
    from paigeant_core.security.trust import Trust


class Approvals(Control):
    """The part of the command bus that has two people act together."""

    trust: Trust | None

    @abstractmethod
    def proposal(self, plan: Plan, line: Line) -> str:
        """What the asking operator signs of one workflow; empty: it is not signed."""

    @abstractmethod
    async def gone_on_with(self, line: Line) -> Line:
        """``line``; of a quarantined message with where its workflow stands: what is signed goes on from there."""

    def second(self, plan: Plan) -> str:
        """Why the plan needs a second person; empty: it needs none."""
        trust, action = self.trust, plan.action
        if trust is None or plan.approvals is not None or action.name == "hold":
            return ""
        if trust.approve_over is not None and len(plan.lines) > trust.approve_over:
            return f"it is of more than {trust.approve_over} workflows"
        for line in plan.lines:
            if line.eligible and line.standing is not None:
                for name in _touched(action, line.standing):
                    if trust.is_flagged(name):
                        return f"{line.correlation_id} is at {name}, which needs it"
        return ""

    async def propose(self, plan: Plan) -> OperationStatus:
        """Let an operation wait for a second person; nothing is done yet.

        Args:
            plan: from :meth:`plan`.

        Raises:
            Refused: read-only, there is no key, nothing can be done, or it hands over a token.
            PaigeantError: what would be signed is refused by the policy.
        """
        self.allow(plan.action.name)
        if getattr(plan.action, "token", None) is not None:
            raise Refused(f"{plan.action.name}: a token cannot wait for a second person, as no record may hold it")
        lines = [line for line in plan.lines if line.eligible]
        if self.signer is None or not lines:
            raise Refused(f"{plan.action.name}: {'nothing can be done' if self.signer else 'it takes a key to ask'}")
        now = self.transport.clock.now()
        status = OperationStatus(
            plan.operation_id,
            operator=self.operator,
            action=to_document(plan.action),
            reason=plan.reason,
            at=now,
            updated_at=now,
            state=OperationState.WAITING,
            targets=[line.correlation_id for line in lines],
            selection=plan.selection,
            approvals={line.correlation_id: self.proposal(plan, await self.gone_on_with(line)) for line in lines},
        )
        for data in proposed(status):
            await self.transport.append_operation(self.topic, data)
        await self._put_on_record(plan, "waits for a second person", len(lines), order="propose")
        return status

    async def proposed(self, operation_id: str) -> Plan:
        """An operation that waits, as it would be done now; for whoever is to approve it.

        Raises:
            Refused: read-only, it does not wait, or it is this operator's own.
            WorkflowNotFound: there is no such operation.
            AmbiguousID: there is more than one.
        """
        status = await self._waiting(operation_id, "approve")
        if status.operator == self.operator:
            raise Refused(f"operation {status.operation_id} is your own: it takes a second person")
        action = from_document(status.action)
        await self._permit_order(status, "approve")
        schemas = await self.declared(action)
        lines = [self.line(action, item, await self.standing(item), schemas=schemas) for item in status.targets]
        return Plan(
            status.operation_id, action, status.reason, tuple(lines), status.selection, approvals=status.approvals
        )

    async def approve(self, plan: Plan, *, progress: Callable[[Result], None] | None = None) -> Report:
        """Carry out what another operator proposed; with both signatures.

        Others see it, and can pause and abort it. One whose approver died is approved once more, by anybody but who
        asked for it.

        Args:
            plan: from :meth:`proposed`; of a workflow that moved since nothing is done.
            progress: called with each result.

        Raises:
            Refused: somebody approved or rejected it meanwhile.
        """
        self.allow(plan.action.name)
        status = await self._waiting(plan.operation_id, "approve")
        said, by = f"proposed by {status.operator}, approved by {self.operator}", new_id()
        await self._say(status, "approved", said, by=by)
        await self._put_on_record(plan, said, len(plan.lines), order="approve")
        status.state, status.said, status.by = OperationState.RUNNING, said, by
        running = Running(self, status, plan.action, planned={line.correlation_id: line for line in plan.lines})
        return await running.go(progress)

    async def reject(self, operation_id: str, *, reason: str) -> OperationStatus:
        """End an operation that waits; nothing of it is done.

        Args:
            operation_id: its ID, or the beginning of it.
            reason: why, for the audit.

        Raises:
            Refused: read-only, no reason, or it does not wait.
            WorkflowNotFound: there is no such operation.
            AmbiguousID: there is more than one.
        """
        reason = checked("reject", reason)
        status = await self._waiting(operation_id, "reject")
        await self._permit_order(status, "reject")
        said = f"rejected by {self.operator}: {reason}"
        await self._say(status, "aborted", said)
        status.state, status.said = OperationState.ABORTED, said
        await self._put_on_record(status.plan(), f"rejected: {reason}", len(status.targets), order="reject")
        return status

    async def _waiting(self, operation_id: str, what: str) -> OperationStatus:
        status = await self._known(operation_id, what)
        again = status.approvals and status.silent(self.transport.clock.now())
        if status.state is not OperationState.WAITING and not again:
            raise Refused(f"operation {status.operation_id} is {status.state.value}, and waits for nobody")
        return status

    async def _say(self, status: OperationStatus, event: str, said: str, **more: str) -> None:
        at = self.transport.clock.now()
        data = entry(status.operation_id, event, at, operator=self.operator, said=said, **more)
        await self.transport.append_operation(self.topic, data)


def _touched(action: Action, standing: Standing) -> list[str]:
    """The activities that an operation makes run or leave out, as far as can be told beforehand."""
    names = [standing.headers.activity, *map(str, getattr(action, "steps", ()))]
    step: Any = getattr(action, "from_step", None)
    if step is not None:
        try:
            every = standing.message().routing_slip.names()
        except PaigeantError:
            return names
        names.append(every[step - 1] if isinstance(step, int) and 0 < step <= len(every) else str(step))
    return names
