"""The form for a replay: from which step, and with which payload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from paigeant_console.actions import key_of
from paigeant_console.model.payload_edit import EDIT_LIMIT, check_edited, editable
from paigeant_console.model.text import Span, clip, shown
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.widgets.keys import action_of
from paigeant_console.widgets.span_lines import Line, SpanLines

if TYPE_CHECKING:
    # Not at run time: Textual's editor takes its time, and few ask for it.
    from paigeant_console.widgets.payload_area import PayloadArea

__all__ = ["ReplayChoice", "ReplayForm", "ReplaySource"]


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """What can be replayed of a workflow.

    Attributes:
        title: which workflow.
        names: its steps in order.
        reached: the last hop that was reached.
        stands_at: the hop where it stands; None: it is finished, or its steps are undone, so a step has to be chosen.
        payload: gives the payload as it came to a hop, or None where the journal has none.
    """

    title: SafeText
    names: Sequence[str]
    reached: int
    stands_at: int | None
    payload: Callable[[int], bytes | None]


@dataclass(frozen=True, slots=True)
class ReplayChoice:
    """What was chosen.

    Attributes:
        from_step: the hop; None: where it stands.
        payload: bytes in place of the payload; None: as it was.
        before: the payload as it was; None: the journal has none.
    """

    from_step: int | None
    payload: bytes | None
    before: bytes | None


class _ReplayBar(SpanLines):
    """The form's lines."""

    grows: ClassVar[bool] = True
    DEFAULT_CSS = """
    _ReplayBar { height: auto; }
    """

    def __init__(self, form: ReplayForm, *, ascii_only: bool) -> None:
        super().__init__(ascii_only=ascii_only)
        self._form = form

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        return [clip(line, width, ascii_only=self.ascii_only) for line in self._form.lines()]


class ReplayForm(Vertical):
    """Asks from where and with what, above the keys."""

    DEFAULT_CSS = """
    ReplayForm {
        layer: above;
        dock: bottom;
        margin: 0 0 2 0;
        height: auto;
        border-top: heavy $warning;
        &.-editing { height: 100%; margin: 2 0; }
        & > PayloadArea { height: 1fr; border: none; padding: 0; scrollbar-size-vertical: 1; }
    }
    """

    class EditingChanged(Message):
        """The editor opened or closed, so other keys count."""

    def __init__(self, edit: Callable[[str], str | None], *, ascii_only: bool = False) -> None:
        super().__init__()
        self._bar = _ReplayBar(self, ascii_only=ascii_only)
        self._area: PayloadArea | None = None
        self._edit = edit
        self._ascii = ascii_only
        self._source: ReplaySource | None = None
        self._hop = 1
        self._payload: bytes | None = None
        self._said: Span | None = None
        self._before_edit: Widget | None = None
        self._done: Callable[[ReplayChoice | None], None] | None = None
        self.display = False

    def compose(self) -> ComposeResult:
        """The lines; the editor comes when it is asked for."""
        yield self._bar

    @property
    def asking(self) -> str:
        """Which keys count: `replay`, `payload`, or none: it is closed."""
        if self._done is None:
            return ""
        return "payload" if self._area is not None and self._area.display else "replay"

    @property
    def editor(self) -> PayloadArea:
        """The editor on the screen."""
        if self._area is None:
            from paigeant_console.widgets.payload_area import PayloadArea

            self._area = PayloadArea(self)
            self.mount(self._area)
        return self._area

    def ask(self, source: ReplaySource, hop: int, done: Callable[[ReplayChoice | None], None]) -> None:
        """Ask. The keys are taken from now on.

        Args:
            source: what can be replayed.
            hop: the step that is offered first.
            done: called with the choice, or with None where it was cancelled.
        """
        self._source, self._hop, self._payload, self._said = source, hop, None, None
        self._done = done
        self.display = True
        self._hide_area()
        self._bar.update_lines()

    def take_key(self, event: events.Key) -> None:
        """Do what a key means while no payload is edited; no key gets through to what is behind.

        Args:
            event: the key.
        """
        if (name := action_of("replay", event.key)) is not None:
            self.act(name)

    def _finish(self, choice: ReplayChoice | None) -> None:
        done, self._done = self._done, None
        assert done is not None
        self._stop_editing()
        self.display = False
        done(choice)

    def _hide_area(self) -> None:
        if self._area is not None:
            self._area.display = False

    def _stop_editing(self) -> None:
        self._hide_area()
        self.remove_class("-editing")
        self.post_message(self.EditingChanged())

    def lines(self) -> list[list[Span]]:
        """What the form says."""
        source = self._source
        if source is None:
            return []
        name = source.names[self._hop - 1] if self._hop <= len(source.names) else ""
        left, right = ("<", ">") if self._ascii else ("‹", "›")
        name = shown(name, 64, ascii_only=self._ascii)
        step = joined((literal(f" {left} {self._hop} "), name, literal(f" {right} ")))
        where = ""
        if source.reached > 1:
            earlier, later = key_of("replay.earlier"), key_of("replay.later")
            where = f"  of the {source.reached} steps that were reached; {earlier} and {later} choose"
        stands = "  (where it stands)" if self._hop == source.stands_at else ""
        first: list[Span] = [
            (literal("replay "), "strong"),
            (source.title, ""),
            (literal(" from step"), ""),
            (step, "badge"),
            (literal(stands), ""),
            (literal(where), "dim"),
        ]
        return [first, self._payload_line(source)]

    def _payload_line(self, source: ReplaySource) -> list[Span]:
        if self.asking == "payload":
            return [
                (literal("payload: "), "strong"),
                self._said or (literal(""), ""),
                (joined((literal("   "), key_of("payload.done"))), "key"),
                (literal(" use it   "), ""),
                (key_of("payload.cancel"), "key"),
                (literal(" discard"), ""),
            ]
        if self._payload is not None:
            what: Span = (literal(f"with the payload you edited, {len(self._payload):,} bytes"), "warn")
        elif (there := source.payload(self._hop)) is None:
            what = (literal("the journal has no payload of this step any more"), "error")
        else:
            what = (literal(f"with its payload as it was, {len(there):,} bytes"), "")
        spans: list[Span] = [what]
        if self._said is not None:
            spans += [(literal("   "), ""), self._said]
        return spans

    def act(self, name: str) -> None:
        """Do what a key of the table says.

        Args:
            name: the action's ID.
        """
        source = self._source
        if source is None or self._done is None:
            return
        if name == "replay.done":
            # What was edited belongs to the hop that it was taken from, wherever the workflow stands by then.
            from_step = None if self._hop == source.stands_at and self._payload is None else self._hop
            self._finish(ReplayChoice(from_step, self._payload, source.payload(self._hop)))
        elif name == "replay.cancel":
            self._finish(None)
        elif name in ("replay.earlier", "replay.later"):
            self._move(source, -1 if name == "replay.earlier" else 1)
        elif name == "replay.payload":
            self._open_area(source)
        elif name == "replay.editor":
            self._open_editor(source)
        elif name == "payload.done":
            self._take()
        elif name == "payload.cancel":
            self._close_area(None)
        self._bar.update_lines()

    def _move(self, source: ReplaySource, step: int) -> None:
        if self._payload is not None:
            self._said = (
                literal(f"the payload is edited for this step: {key_of('replay.cancel')} starts over"),
                "warn",
            )
            return
        self._hop = max(1, min(self._hop + step, source.reached))
        self._said = None

    def _text(self, source: ReplaySource) -> str | None:
        payload = self._payload if self._payload is not None else source.payload(self._hop)
        text = None if payload is None else editable(payload)
        if text is None:
            self._said = (literal("there is no payload that can be edited"), "warn")
        return text

    def _open_area(self, source: ReplaySource, text: str | None = None) -> None:
        text = self._text(source) if text is None else text
        if text is None:
            return
        if len(text) > EDIT_LIMIT:
            self._said = (
                literal(f"{len(text):,} bytes are too many to edit here: {key_of('replay.editor')} opens $EDITOR"),
                "warn",
            )
            return
        area = self.editor
        area.load_text(text)
        area.display = True
        self.add_class("-editing")
        self.post_message(self.EditingChanged())
        self._before_edit = self.screen.focused
        self.screen.set_focus(area, scroll_visible=False)
        self.check()

    def _open_editor(self, source: ReplaySource) -> None:
        text = self._text(source)
        edited = None if text is None else self._edit(text)
        if edited is None:
            if text is not None:
                self._said = (literal("$EDITOR gave nothing back; the payload is as it was"), "warn")
            return
        checked = check_edited(edited)
        if checked.payload is None:
            self._open_area(source, edited)
        else:
            self._use(checked.payload)

    def check(self) -> None:
        """Say whether what is in the editor is a payload."""
        if self.asking != "payload":
            return
        checked = check_edited(self.editor.text)
        self._said = (checked.said, "ok" if checked.payload is not None else "error")
        self._bar.update_lines()

    def _take(self) -> None:
        checked = check_edited(self.editor.text)
        if checked.payload is None:
            self._said = (checked.said, "error")
            if checked.line:
                self.editor.move_cursor((checked.line - 1, checked.column - 1))
            return
        self._close_area(checked.payload)

    def _close_area(self, payload: bytes | None) -> None:
        self._stop_editing()
        self._said = None
        self.screen.set_focus(self._before_edit, scroll_visible=False)
        if payload is not None:
            self._use(payload)

    def _use(self, payload: bytes) -> None:
        assert self._source is not None
        there = self._source.payload(self._hop)
        text = None if there is None else editable(there)
        before = None if text is None else check_edited(text).payload
        self._payload = payload if payload != before else None
        self._said = None if self._payload is not None else (literal("nothing was changed"), "dim")
