"""The one command bus: every act on workflows is planned, checked, done and recorded here.

    operations = Operations(transport, "workflows", operator="ann@desk")
    plan = await operations.plan(Retry(), ["3f2a…"], reason="provider is back")
    for line in plan.lines: ...          # eligible or why not, and what will happen
    report = await operations.execute(plan)

No operation moves an old copy: it raises the epoch by compare-and-set and publishes
anew, and the old copy dies at the fence. Read-only is looked at before anything else.
"""

from paigeant_core.operations.action import Action
from paigeant_core.operations.again import Replay, Retry
from paigeant_core.operations.aside import UNDOABLE, Cancel, DeadLetter, Hold, Release, Restore, Undo
from paigeant_core.operations.audit import MAX_REASON, default_operator
from paigeant_core.operations.bus import Operations
from paigeant_core.operations.erasing import Erasure
from paigeant_core.operations.log import OperationState, OperationStatus, Pace
from paigeant_core.operations.plan import Line, Plan, Report, Result
from paigeant_core.operations.run import Running
from paigeant_core.operations.slip import Compensate, Insert, Skip
from paigeant_core.operations.standing import Standing

__all__ = [
    "MAX_REASON",
    "UNDOABLE",
    "Action",
    "Cancel",
    "Compensate",
    "DeadLetter",
    "Erasure",
    "Hold",
    "Insert",
    "Line",
    "OperationState",
    "OperationStatus",
    "Operations",
    "Pace",
    "Plan",
    "Release",
    "Replay",
    "Report",
    "Restore",
    "Result",
    "Retry",
    "Running",
    "Skip",
    "Standing",
    "Undo",
    "default_operator",
]
