"""The console's app: it starts the feed, holds the screens, and asks the one on top to look four times a second."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from paigeant_console.terminal import ConsoleAppBase, check_terminal, run_console  # sets Textual's knobs: comes first

# isort: split
from textual import events
from textual.app import ScreenStackError, SuspendNotSupported, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.widget import Widget

from paigeant_console import garbage
from paigeant_console.actions import VIEWS, by_id, key_of, keys_of, use_keys
from paigeant_console.config import Look
from paigeant_console.contexts import NO_CONTEXTS, Contexts
from paigeant_console.feed import Feed
from paigeant_console.history import history_of
from paigeant_console.model.confirmation import Target
from paigeant_console.model.status import Place, signing
from paigeant_console.safe_text import SafeText, safe
from paigeant_console.screens.audit import AuditScreen
from paigeant_console.screens.base import ConsoleScreen
from paigeant_console.screens.dead_letters import DeadLettersScreen
from paigeant_console.screens.help import HelpScreen
from paigeant_console.screens.queues import QueuesScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.screens.traffic import TrafficScreen
from paigeant_console.screens.workflow import WorkflowScreen
from paigeant_console.screens.workflows import WorkflowsScreen
from paigeant_console.user_directories import user_directory
from paigeant_console.widgets.confirm_bar import ConfirmBar
from paigeant_console.widgets.keys import PASSING, bindings_of
from paigeant_console.widgets.prompt import Prompt
from paigeant_console.widgets.themes import DEFAULT, THEMES, all_themes, textual_name
from paigeant_console.widgets.typed_ahead import Typed, TypedAhead
from paigeant_core.errors import PaigeantError
from paigeant_core.transports import Transport
from paigeant_core.urls import mask_url, parse_url

if TYPE_CHECKING:
    # Not at run time: a console that signs nothing starts without the cryptography.
    from paigeant_core.security.keys import Signer
    from paigeant_core.security.trust import Trust

__all__ = ["ConsoleApp", "run"]

FLUSH_EVERY: Final = 0.25
"""Seconds between two looks at the feed: nothing is painted more often because of traffic."""
TWICE_WITHIN: Final = 3.0
"""Seconds in which a second ^C counts as one."""
PROGRAM: Final = "paigeant-console"

_PLAIN: Final = Look()
_USER: Final = re.compile(r"(?<=://)[^/@]*@")
"""Who logs in is not where it is."""

_SCREENS: Final[dict[str, type[ConsoleScreen]]] = {
    "workflows": WorkflowsScreen,
    "traffic": TrafficScreen,
    "queues": QueuesScreen,
    "dead": DeadLettersScreen,
    "audit": AuditScreen,
}


class ConsoleApp(ConsoleAppBase, inherit_bindings=False):
    """The console.

    Args:
        feed: what it shows; started and stopped by it.
        target: where that is; the URL without its password.
        ascii_only: write ASCII only.
        look: theme, keys and clipboard.
        contexts: where it can go to.
        log_directory: where a crash is written down; by default the user's log directory.
        state_directory: where `w` writes; by default the user's state directory.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings_of("app")
    CSS_PATH = "console.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = PROGRAM

    def __init__(
        self,
        feed: Feed,
        *,
        target: Target,
        ascii_only: bool = False,
        look: Look = _PLAIN,
        contexts: Contexts = NO_CONTEXTS,
        log_directory: Path | None = None,
        state_directory: Path | None = None,
    ) -> None:
        super().__init__(ascii_only=ascii_only, log_directory=log_directory, css_path=None)
        self.feed = feed
        self._state_directory = state_directory
        self._interrupted_at = float("-inf")
        self._typed_at = time.monotonic()
        self._typed = TypedAhead(self._waits, self._take)
        self._generation = 0
        self._view = self._view_before = "workflows"
        self._contexts = contexts
        self._enter(target, look.clipboard)
        self._looks(look)

    def _enter(self, target: Target, clipboard: bool) -> None:
        """Make the views of a broker."""
        signer, url = self.feed.signer, target.url
        place = Place(
            context=safe(target.context, 40),
            url=safe(_USER.sub("", url), 100),
            topic=safe(target.topic, 64),
            read_only=self.feed.read_only,
            production=target.production,
            signing=signing(signer.name if signer is not None else None, url, verifies=self.feed.trust is not None),
        )
        self.shared = Shared(
            feed=self.feed,
            place=place,
            target=target,
            ascii_only=self.ascii_only,
            write_file=self.write_file,
            show_view=self.show_view,
            open_workflow=self.open_workflow,
            edit_text=self.edit_text,
            use_theme=self.use_theme,
            use_context=self.use_context,
            take_typed=lambda: self.call_later(self._typed.go_on),
            contexts=self._contexts.names,
            clipboard=clipboard,
        )
        for name, screen in _SCREENS.items():
            self.add_mode(self._mode(name), self._made(screen, self.shared))

    def _mode(self, view: str) -> str:
        """Textual's name of a view: each context has views of its own."""
        return f"{view} {self._generation}"

    def _made(self, screen: type[ConsoleScreen], shared: Shared) -> Callable[[], Screen[Any]]:
        return lambda: screen(shared)

    def _looks(self, look: Look) -> None:
        """Draw and bind as the user wants it."""
        use_keys(look.keys)
        self.set_keymap({name: ",".join(keys) for name, keys in look.keys.items()})
        for theme in all_themes():
            self.register_theme(theme)
        if self.no_color or look.theme is not None or "TEXTUAL_THEME" not in os.environ:
            # Without colours the terminal's own two are left; all others would come out as shades of grey.
            self._use(DEFAULT if self.no_color else look.theme or DEFAULT)

    def _use(self, theme: str) -> None:
        self.theme = textual_name(theme, sixteen=self.console.color_system == "standard")

    def use_theme(self, name: str) -> SafeText | None:
        """Draw in another theme from now on.

        Args:
            name: of the theme.

        Returns:
            Why not, or None.
        """
        if name not in THEMES:
            return safe(f"theme: there are {', '.join(THEMES)}", 200)
        if self.no_color:
            return safe("theme: NO_COLOR is set, so there is but one")
        self._use(name)
        return None

    # -- life ---------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Show the workflows, and start to read; the first paint waits for nobody."""
        self.switch_mode(self._mode("workflows"))
        self.set_interval(FLUSH_EVERY, self.flush, name="flush")
        self.call_after_refresh(self._painted)

    def _painted(self) -> None:
        """The first frame is there: begin with what takes time."""
        garbage.started()
        self.feed.start()

    def flush(self) -> None:
        """Let the screen on top look at the feed."""
        screen = self._on_top()
        if screen is not None:
            screen.flush()
        garbage.between_keys(time.monotonic() - self._typed_at)

    def _on_top(self) -> ConsoleScreen | None:
        try:
            screen = self.screen
        except ScreenStackError:  # the app is ending
            return None
        return screen if isinstance(screen, ConsoleScreen) else None

    # -- going --------------------------------------------------------------------------

    def show_view(self, name: str) -> None:
        """Go to a view, or to the help of the one that is shown.

        Args:
            name: of the action table.
        """
        screen = self.screen
        if name == "help":
            if isinstance(screen, ConsoleScreen) and not isinstance(screen, HelpScreen):
                self.push_screen(HelpScreen(self.shared, screen.situation(), screen.tab))
            return
        name = self._view_before if name == "last" else name
        while len(self.screen_stack) > 1:
            self.pop_screen()
        if name in VIEWS and name != self._view:
            self._view_before, self._view = self._view, name
            self.switch_mode(self._mode(name))

    def use_context(self, name: str) -> SafeText | None:
        """Go to another context: its broker, its topic, its safety; the old one is left in order.

        Args:
            name: of the context.

        Returns:
            Why not, or None.
        """
        if self.feed.deeds.current:
            view = key_of("view.audit")
            return safe(f"ctx: an operation is under way here; wait for its end, or abort it in view {view}", 200)
        try:
            found = self._contexts.settings(name)
            parse_url(found.url)
        except PaigeantError as error:
            return safe(f"ctx: {error}", 400)
        left, gone = self.feed, [self._mode(view) for view in _SCREENS]
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self._generation += 1
        self._view = self._view_before = "workflows"
        self.feed = Feed(
            found.url,
            found.topic,
            read_only=found.read_only,
            operator=found.operator,
            signer=left.signer,
            trust=left.trust,
            history=history_of(found.url, found.topic),
        )
        target = Target(mask_url(found.url), found.topic, found.context, found.production)
        self._enter(target, self.shared.clipboard)
        self.switch_mode(self._mode("workflows"))
        for mode in gone:
            self.remove_mode(mode)
        self.feed.start()
        # It may take its time to leave a broker that does not answer.
        threading.Thread(target=left.stop, name="leaving a context", daemon=True).start()
        return None

    def open_workflow(self, correlation_id: str) -> None:
        """Open a workflow over the view that is shown.

        Args:
            correlation_id: which.
        """
        screen = self.screen
        tab = screen.tab if isinstance(screen, ConsoleScreen) else "workflows"
        self.push_screen(WorkflowScreen(self.shared, correlation_id, tab))

    # -- keys ---------------------------------------------------------------------------

    async def on_event(self, event: events.Event) -> None:
        """Do what a key says before the next one is looked at.

        Textual sends a key to the widget that has the focus *now* and looks for its meaning
        when it comes back from there. Keys come in bursts over a slow line, and then all of
        `/dead` would have gone to the table before `/` opened the prompt.

        Args:
            event: any; keys are taken here.
        """
        if not isinstance(event, Typed) or event.is_forwarded:
            await super().on_event(event)
        elif isinstance(event, events.Key) and event.key in PASSING:
            await self._take(event)
        else:
            await self._typed.add(event)

    def _waits(self, event: Typed) -> bool:
        screen = self._on_top()
        return screen is not None and isinstance(event, events.Key) and screen.has_to_wait(event.key)

    async def _take(self, event: Typed) -> None:
        key = event.key if isinstance(event, events.Key) else ""
        if self.has_class("-too-small") and key not in PASSING and key != "escape":
            return  # nobody sees what it would be for
        if not (await self._key(event) if isinstance(event, events.Key) else self._paste(event)):
            await super().on_event(event)

    def _paste(self, event: events.Paste) -> bool:
        screen = self._on_top()
        if screen is None:
            return False
        taker = screen.taker()
        if isinstance(taker, Prompt):
            taker.take_paste(event.text)
        elif taker is None and _edits(screen.focused):
            return False  # an editor does as Textual's do
        elif taker is None and not screen.pending:
            screen.take_paste(event.text)
        return True

    async def _key(self, event: events.Key) -> bool:
        screen = self._on_top()
        if screen is None:
            return False
        self._typed_at = time.monotonic()
        self.app_focus = True  # whoever types is here, whatever the terminal said last
        if screen.swallows(event.key):
            return True
        taker = screen.taker()
        passing = event.key in PASSING or (
            isinstance(taker, ConfirmBar)
            and any(event.key in keys_of(by_id(name)) for name in ("copy-command", "write"))
        )
        if taker is not None and not passing:
            taker.take_key(event)
            return True
        if taker is None and _edits(screen.focused):
            return False  # an editor does as Textual's do
        screen.before_key(event.key)
        active = screen.active_bindings.get(event.key)
        return active is not None and await self.run_action(active.binding.action, active.node)

    def action_act(self, name: str) -> None:
        """Do what a key of the action table says.

        Args:
            name: the action's ID.
        """
        screen = self.screen
        if name == "interrupt":
            self._interrupt()
        elif name == "quit":
            self.exit(0)
        elif isinstance(screen, ConsoleScreen):
            screen.perform(name)

    def _interrupt(self) -> None:
        now = time.monotonic()
        if now - self._interrupted_at <= TWICE_WITHIN:
            self.exit(0)
            return
        self._interrupted_at = now
        if isinstance(self.screen, ConsoleScreen):
            self.screen.say((safe("press ^C again to quit"), "warn"))

    def get_system_commands(self, screen: Screen[Any]) -> list[SystemCommand]:
        """None: what can be done is in the action table."""
        return []

    # -- files and editors --------------------------------------------------------------

    def write_file(self, value: bytes, name: str) -> str:
        """Write where only this user can read.

        Args:
            value: what.
            name: how the file's name begins.

        Returns:
            Where.

        Raises:
            OSError: it cannot be written.
        """
        directory = self._state_directory
        if directory is None:
            directory = user_directory("state")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        for number in range(1000):
            path = directory / f"{name}-{stamp}{f'-{number}' if number else ''}.txt"
            try:
                # O_EXCL: a link that somebody put there is not followed.
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
            return str(path)
        raise FileExistsError(f"a thousand files of this second in {directory}")

    def edit_text(self, text: str) -> str | None:
        """Edit a text in $VISUAL or $EDITOR, which has the terminal meanwhile; the feed reads on.

        Args:
            text: what to edit; nothing in it may be a control character.

        Returns:
            What was saved, or None where the editor failed or could not be started.
        """
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        with tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-") as directory:
            path = Path(directory) / "payload.json"
            path.write_text(text, encoding="utf-8")
            try:
                with self.suspend():
                    ended = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603 - the user's own
                return path.read_text(encoding="utf-8") if ended.returncode == 0 else None
            except (SuspendNotSupported, OSError, ValueError):
                return None


def _edits(widget: Widget | None) -> bool:
    """Whether keys are a widget's own; known by its word for it, as the class would bring Textual's editor with it."""
    return getattr(widget, "edits", False)


def run(
    url: str,
    topic: str,
    *,
    given: bool = False,
    context: str = "",
    read_only: bool = False,
    operator: str | None = None,
    signer: Signer | None = None,
    trust: Trust | None = None,
    production: bool = False,
    look: Look = _PLAIN,
    contexts: Contexts = NO_CONTEXTS,
    no_worker_after: float | None = None,
    connect: Callable[[], Transport] | None = None,
) -> int:
    """Open the console and stay until it is left. Must be called from the main thread.

    Args:
        url: the broker.
        topic: the topic.
        given: the URL came by ``--url``.
        context: its name in the configuration; shown, and put into command lines.
        read_only: refuse every operation.
        operator: who acts, for the audit; None: user and host.
        signer: the key that operations are signed with; the audit then names its owner.
        trust: the policy of the workers there.
        production: draw a frame that nobody overlooks, and have every operation confirmed by typing.
        look: theme, keys, ASCII, mouse and clipboard.
        contexts: where it can go to.
        no_worker_after: seconds after which a waiting step that nobody serves is stuck.
        connect: makes the transport, in place of ``get_transport(url)``.

    Returns:
        The exit code.

    Raises:
        ConfigError: a URL that cannot be read.
        TerminalError: this is no terminal that the console can run on.
    """
    parse_url(url)
    terminal = check_terminal(ascii_only=look.ascii)
    feed = Feed(
        url,
        topic,
        read_only=read_only,
        operator=operator,
        signer=signer,
        trust=trust,
        no_worker_after=no_worker_after,
        connect=connect,
        history=history_of(url, topic),
    )
    app = ConsoleApp(
        feed,
        target=Target(mask_url(url), topic, context, production, given),
        ascii_only=terminal.ascii_only,
        look=look,
        contexts=contexts,
    )
    try:
        return run_console(app, mouse=look.mouse)
    finally:
        app.feed.stop()
