"""Acting on workflows: the reason, the preflight, the confirmation, the deed and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from textual.widget import Widget

from paigeant_console.actions import WORKFLOWS, Situation, by_id, key_of, keys_of
from paigeant_console.actions import Action as KeyAction
from paigeant_console.deeds import Deed
from paigeant_console.model.confirmation import confirmation_of, effect_of
from paigeant_console.model.dispatch_line import parse_limit, parse_pace, parse_undo, parse_words
from paigeant_console.model.hop_log import last_operation
from paigeant_console.model.payload_diff import changes as payload_changes
from paigeant_console.model.text import EMPTY, Span, brief_id, plural, shown
from paigeant_console.model.times import clock
from paigeant_console.model.workflow_page import WorkflowPage
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.screens.base import ConsoleScreen
from paigeant_console.screens.confirming import confirmed
from paigeant_console.screens.shared import KeyTaker, Shared
from paigeant_console.token_file import read_token_file, tokens_of_environment
from paigeant_console.widgets.replay_form import ReplayChoice, ReplayForm, ReplaySource
from paigeant_console.widgets.span_lines import Line
from paigeant_core.errors import OverLimit, PaigeantError, Refused
from paigeant_core.journal import State
from paigeant_core.operations import (
    UNDOABLE,
    Action,
    Cancel,
    Compensate,
    DeadLetter,
    Hold,
    Insert,
    Pace,
    Release,
    Replay,
    Report,
    Restore,
    Retry,
    Skip,
    Undo,
)
from paigeant_core.routing import to_step

__all__ = ["ActingScreen"]

SAME: Final = "same"
"""What is typed in place of a file where the token is to stay; a file of that name is ./same."""
_WORDED: Final = frozenset(
    kind.name for kind in (Retry, Replay, DeadLetter, Hold, Release, Skip, Cancel, Compensate, Restore, Insert, Undo)
)
"""Acts that read what stands behind their command."""
_AT_ONCE: Final = Pace()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is to be done, and what the confirmation tells of it beside.

    Attributes:
        action: what to do.
        ids: to which workflows.
        pace: how fast, and when it stops by itself.
        limit: how many it may be for; None: as many as usual.
        whole: these are all the workflows of the operation that is undone.
        token_file: where the token that it hands over was read; empty: it hands over none.
        changes: what was changed in the payload that it gives.
    """

    action: Action
    ids: list[str]
    pace: Pace
    limit: int | None
    whole: bool
    token_file: str
    changes: Sequence[Span]


class ActingScreen(ConsoleScreen):
    """A screen on which workflows can be acted on."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._typed = ""
        self._undoable: tuple[Deed, list[str]] | None = None
        """What was done just now, and to which workflows, as long as it is said that `U` undoes it."""
        self.replay_form = ReplayForm(shared.edit_text, ascii_only=shared.ascii_only)

    def forms(self) -> Iterable[Widget]:
        """The confirm bar, and the form for a replay."""
        yield from super().forms()
        yield self.replay_form

    def situation(self) -> Situation:
        """See :meth:`ConsoleScreen.situation`."""
        situation = super().situation()
        if situation.view == self.view and self.built and (asking := self.replay_form.asking):
            return Situation(asking, read_only=situation.read_only)
        return situation

    def on_replay_form_editing_changed(self, event: ReplayForm.EditingChanged) -> None:
        """Show the editor's keys, or the form's again."""
        event.stop()
        self.update_hints()

    def offered_hop(self) -> int | None:
        """The hop that a replay is to begin with; None: where the workflow stands."""
        return None

    def taker(self) -> KeyTaker | None:
        """See :meth:`ConsoleScreen.taker`."""
        return super().taker() or (self.replay_form if self.replay_form.asking == "replay" else None)

    def do_retry(self) -> None:
        """Retry."""
        self._paced(Retry())

    def do_dead_letter(self) -> None:
        """Dead-letter."""
        self._paced(DeadLetter())

    def do_hold(self) -> None:
        """Hold."""
        self._paced(Hold())

    def do_release(self) -> None:
        """Release, with the values that stood behind the command."""
        words, values = self._words("release")
        if words:
            self.say((literal("release: values are written as name=value"), "warn"))
        elif values is not None:
            ids = self.targets()
            if self._token_is_over(ids):
                self._ask_token(values, ids)
            else:
                self.act(Release(values), ids)

    def _token_is_over(self, ids: Iterable[str]) -> bool:
        """Whether any of some workflows is held because its user's token is over."""
        with self.feed.lock:
            fold, now = self.feed.fold, self.feed.now()
            rows = [row for item in ids if (row := fold.rows.get(item)) is not None and row.state == State.HELD]
            return any(fold.stuck(row, now) == "token_expired" for row in rows)

    def _ask_token(
        self, values: Mapping[str, Any], ids: list[str], more: str = ": file with its user's new token:"
    ) -> None:
        """Ask for the file with the user's new token before all else."""

        def given(path: str | None) -> None:
            if path is None:
                self.say((literal("nothing was done"), "dim"))
            elif not path.strip():
                self._ask_token(values, ids, f", a file is needed ({key_of('prompt.cancel')} cancels):")
            elif path.strip() == SAME:
                self.act(Release(values), ids)
            else:
                self.ask(self._safely(self._with_token(values, ids, path.strip()), "release"))
            self.update_hints()

        label = joined((literal("release "), self._which(ids), literal(more)))
        placeholder = literal(f"a path, of mode 600; or {SAME}: it goes on with the token it has")
        self.prompt.ask(label, given, placeholder=placeholder)
        self.update_hints()

    async def _with_token(self, values: Mapping[str, Any], ids: list[str], path: str) -> None:
        said = "release: write the name of a file, not the token: it stands on the screen and in the terminal's memory"
        token = await asyncio.to_thread(read_token_file, path, said)
        tokens = await asyncio.to_thread(tokens_of_environment)
        self.say()
        self.act(Release(values, token, tokens), ids, token_file=path)

    def do_skip(self) -> None:
        """Skip."""
        self._paced(Skip())

    def do_cancel(self) -> None:
        """Cancel."""
        self._paced(Cancel())

    def do_compensate(self) -> None:
        """Compensate."""
        self._paced(Compensate())

    def do_restore(self) -> None:
        """Restore."""
        self._paced(Restore())

    def say(self, *spans: Span) -> None:
        """See :meth:`ConsoleScreen.say`; what is not told any more is not what `U` is meant for."""
        self._undoable = None
        super().say(*spans)

    def tell(self, deed: Deed, now: float, then: SafeText = EMPTY) -> None:
        """See :meth:`ConsoleScreen.tell`; what can be undone is what `U` undoes, until another key is pressed.

        Its rows may be gone from the list, and the cursor on another workflow.
        """
        results = deed.report.results if deed.report is not None else ()
        done = [result.correlation_id for result in results if result.outcome == "done"]
        if not done or deed.action not in UNDOABLE or self.view not in WORKFLOWS:
            super().tell(deed, now, then)
        else:
            super().tell(deed, now, joined((key_of("undo"), literal(" undoes it"))))
            self._undoable = deed, done

    def perform(self, name: str) -> None:
        """See :meth:`ConsoleScreen.perform`; to undo what was done just now takes no row.

        Args:
            name: the action's ID.
        """
        if name == "undo" and self._undoable is not None and self.taker() is None:
            deed, ids = self._undoable
            self._undo_within(lambda limit: self.act(Undo(deed.operation_id), ids, limit=limit))
        else:
            super().perform(name)

    def before_key(self, key: str) -> None:
        """See :meth:`ConsoleScreen.before_key`: whoever goes on means rows again."""
        if self._undoable is not None and key not in keys_of(by_id("undo")):
            super().tell(self._undoable[0], self.feed.now())
            self._undoable = None

    def do_undo(self) -> None:
        """Undo what was done last to the workflows that are marked, or to the one under the cursor."""
        ids = self.targets()
        if ids:
            self._undo_within(lambda limit: self.ask(self._safely(self._undo(ids, limit), "undo: nothing was done")))

    def _undo_within(self, undo: Callable[[int | None], object]) -> None:
        """Undo as many as stood behind the command; where that cannot be read, that is said.

        Args:
            undo: does it.
        """
        try:
            limit = parse_undo(self._typed)
        except PaigeantError as error:
            self.say((safe(str(error), 300), "warn"))
        else:
            undo(limit)

    async def _undo(self, ids: list[str], limit: int | None) -> None:
        history = await asyncio.wrap_future(self.feed.history(ids[0]))
        operation_id = last_operation(history)
        if operation_id:
            self.act(Undo(operation_id), ids, limit=limit)
        else:
            self.say((literal("undo: no operator has done anything to it"), "warn"))

    def _paced(self, action: Action) -> None:
        """Act as fast as stood behind the command."""
        read = self._pace(action.name)
        if read is not None:
            pace, limit = read
            self.act(action, self.targets(), pace, limit=limit)

    def _pace(self, command: str) -> tuple[Pace, int | None] | None:
        """What stood behind a command, see :func:`parse_pace` and :func:`parse_limit`.

        None where it cannot be read, which is said then.
        """
        try:
            return parse_pace(command, self._typed), parse_limit(command, self._typed)
        except PaigeantError as error:
            self.say((safe(str(error), 300), "warn"))
            return None

    def do_insert(self) -> None:
        """Insert the steps that stood behind the command."""
        words, values = self._words("insert")
        if values is None:
            return
        try:
            steps, limit = tuple(to_step(word) for word in words), parse_limit("insert", self._typed)
        except PaigeantError as error:
            self.say((safe(str(error), 300), "warn"))
            return
        if steps and not values.keys() - {"limit"}:
            self.act(Insert(steps), self.targets(), limit=limit)
        else:
            self.say((literal("insert: name the steps, e.g. insert check notify"), "warn"))

    def perform_with(self, action: KeyAction, words: str) -> bool:
        """See :meth:`ConsoleScreen.perform_with`; acts on workflows read a pace, values or steps."""
        if action.id not in _WORDED:
            return super().perform_with(action, words)
        self._typed = words
        try:
            self.perform(action.id)
        finally:
            self._typed = ""
        return True

    def _words(self, command: str) -> tuple[list[str], dict[str, Any] | None]:
        """Words and values behind a command; None for the values where they cannot be read."""
        try:
            return parse_words(command, self._typed)
        except PaigeantError as error:
            self.say((safe(str(error), 300), "warn"))
            return [], None

    def do_replay(self) -> None:
        """Replay: of one workflow from a step that is chosen, of several where each stands."""
        ids, read = self.targets(), self._pace("replay")
        if read is None:
            return
        pace, limit = read
        if len(ids) == 1:
            self.ask(self._safely(self._offer(ids[0], pace), "replay: nothing was done"))
        else:
            self.act(Replay(), ids, pace, limit=limit)

    async def _safely(self, flow: Coroutine[Any, Any, None], what: str) -> None:
        """Run what may fail, and say then what went wrong with the broker or the workflow.

        Args:
            flow: it.
            what: what failed then: its name, and that nothing was done where that is certain.
        """
        try:
            await flow
        except PaigeantError as error:
            why = str(error).removeprefix(f"{what.partition(':')[0]}: ")
            self.say((clock(self.feed.now()), "dim"), (literal(f" {what}: "), ""), (safe(why, 400), "error"))
        finally:
            if self.built and not self.replay_form.asking:
                self.focus_view()

    async def _offer(self, correlation_id: str, pace: Pace) -> None:
        """Open the form for a replay."""
        history = await asyncio.wrap_future(self.feed.history(correlation_id))
        with self.feed.lock:
            page = WorkflowPage(history, self.feed.fold, correlation_id, ascii_only=self.shared.ascii_only)
            source = self._source(page)
        if source is None:
            self.say((literal("replay: the journal has no step of it that could be done again"), "warn"))
            return
        hop = self.offered_hop() or source.stands_at or source.reached

        def chosen(choice: ReplayChoice | None) -> None:
            self.focus_view()
            if choice is None:
                self.say((literal("nothing was done"), "dim"))
                self.update_hints()
            else:
                changed = payload_changes(choice.before, choice.payload) if choice.before and choice.payload else None
                edits = [change for change in changed or () if change[1] != "dim"]
                replay = Replay(from_step=choice.from_step, payload=choice.payload)
                self.act(replay, [correlation_id], pace, changes=edits)

        self.replay_form.ask(source, min(hop, source.reached), chosen)

    def _source(self, page: WorkflowPage) -> ReplaySource | None:
        reached, row = page.reached(), page.row
        if not reached or row is None:
            return None
        stands_at = row.headers.hop if row.step is not None and not row.unwound else None
        title = joined(
            (shown(row.headers.name, 20), literal(" " if row.headers.name else ""), brief_id(row.correlation_id, 12))
        )
        return ReplaySource(title, page.names(), reached, stands_at, page.payload_bytes_at)

    async def _carry_out(self, wish: _Wish, reason: str) -> None:
        """Preflight, confirmation, deed; where it takes a second person, that one is asked."""
        name = wish.action.name
        self.say((literal(f"{name}: looking at "), "dim"), (plural(len(wish.ids), "workflow"), ""))
        try:
            plan = await asyncio.wrap_future(self.feed.plan(wish.action, wish.ids, reason, wish.limit))
        except OverLimit as over:
            # Short, for a line of 80 cells. What stands behind `release` are values.
            most = f"limit={over.matched}"
            how = "--limit in a shell" if name == Release.name else f"{most}, as in :{name} {most}"
            raise Refused(f"{name}: over {over.limit} it takes {how}") from None
        deeds = self.feed.deeds
        second = await asyncio.wrap_future(deeds.second(plan))
        confirmation = confirmation_of(
            plan,
            self.shared.target,
            pace=wish.pace,
            whole=wish.whole,
            limit=wish.limit,
            second=second,
            token_file=wish.token_file,
            changes=wish.changes,
            ascii_only=self.shared.ascii_only,
        )
        if not await confirmed(self, confirmation):
            self.say((literal(f"{name}: nothing was done"), "dim"))
            return
        self.say()
        if second:
            await asyncio.wrap_future(deeds.propose(plan))
            where, how = key_of("view.audit"), key_of("operation.approve")
            asks = literal(f"{name}: nothing is done yet; another operator approves it by {how} in view {where}")
            self.say((clock(self.feed.now()), "dim"), (literal(" "), ""), (asks, "info"))
            self.again()
            return
        deeds.begin(plan, wish.pace, told=self._told)
        self.again()

    def _told(self, deed: Deed) -> None:
        if deed.report is not None and self.built:
            self.acted(deed.report)

    def acted(self, report: Report) -> None:
        """Something that was begun here is done.

        Args:
            report: what came of it.
        """

    def act(
        self,
        action: Action,
        ids: list[str],
        pace: Pace = _AT_ONCE,
        *,
        limit: int | None = None,
        whole: bool = False,
        token_file: str = "",
        changes: Sequence[Span] = (),
    ) -> None:
        """Ask for the reason, and go on with it; arguments as of :class:`_Wish`."""
        self._ask_reason(
            _Wish(action=action, ids=ids, pace=pace, limit=limit, whole=whole, token_file=token_file, changes=changes)
        )

    def _ask_reason(self, wish: _Wish, more: str = " because:") -> None:
        action = wish.action

        def given(reason: str | None) -> None:
            if reason is None:
                self.say((literal("nothing was done"), "dim"))
            elif not reason.strip():
                self._ask_reason(wish, f", a reason is needed ({key_of('prompt.cancel')} cancels):")
            else:
                self.ask(self._safely(self._carry_out(wish, reason), f"{action.name}: nothing was done"))
            self.update_hints()

        label = joined((literal(f"{action.name} "), self._which(wish.ids), literal(more)))
        self.prompt.ask(label, given, placeholder=effect_of(action), remember="reason")
        self.prompt.note(self._in_vain(action, wish.ids))
        self.update_hints()

    def _in_vain(self, action: Action, ids: list[str]) -> Line:
        """Why nothing can be done, as far as that is known before a reason is typed; nothing: something may be."""
        if not self.status.connected:
            return [(literal("the broker is away"), "warn")]
        # A hold that is still to come is taken back.
        possible = action.needs | Hold.needs if isinstance(action, Release) else action.needs
        states: set[str] = set()
        with self.feed.lock:
            rows = self.feed.fold.rows
            for item in ids:
                row = rows.get(item)
                if row is None or row.state in possible:
                    return ()
                states.add(row.state)
        why = "; ".join(action.refusal(state) for state in sorted(states))
        return [(joined((literal("nothing can be done: "), safe(why, 300))), "warn")]

    def _which(self, ids: list[str]) -> SafeText:
        return (
            plural(len(ids), "workflow") if len(ids) != 1 else brief_id(ids[0], 12, ascii_only=self.shared.ascii_only)
        )

    def stand(self) -> None:
        """Show again what stands in the line above the keys."""
        self.prompt.stand()
