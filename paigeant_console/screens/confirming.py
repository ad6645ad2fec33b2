"""The question before something is done: `y` answers it; in production, and for many, a word has to be typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paigeant_console.actions import by_id, key_of, keys_of
from paigeant_console.model.confirmation import Confirmation
from paigeant_console.safe_text import joined, literal, safe
from paigeant_console.widgets.span_lines import Line

if TYPE_CHECKING:
    from paigeant_console.screens.base import ConsoleScreen

__all__ = ["confirmed"]


async def confirmed(screen: ConsoleScreen, confirmation: Confirmation) -> bool:
    """Ask whether to do it.

    Args:
        screen: where.
        confirmation: what.
    """
    bar, prompt = screen.confirm_bar, screen.prompt
    bar.open(confirmation, production=screen.shared.target.production)
    prompt.hush(True)
    screen.say()
    screen.call_later(screen.update_hints)

    def answered(yes: bool) -> None:
        """After a no the keys mean again what they mean, from the next one on."""
        screen.pending = yes
        if not yes:
            bar.close()
            screen.focus_view()

    try:
        if not confirmation.typed:
            return await bar.ask(answered) and bool(confirmation.eligible)
        return await _typed(screen, confirmation.typed)
    finally:
        if screen.built:
            bar.close()
            prompt.hush(False)


async def _typed(screen: ConsoleScreen, choices: tuple[str, ...]) -> bool:
    """Whether one of some words was typed. Another one is not taken: the question, and all that led to it, stays."""
    prompt = screen.prompt

    def wrong(typed: str) -> Line:
        if typed.strip() in choices:
            return ()
        said = f"that is not it, nothing is done yet; {key_of('prompt.cancel')} cancels"
        return [(literal(said), "warn")]

    def other(key: str, longer: str | None) -> bool:
        """The keys that take the command along do so, but where they go on with what has to be typed."""
        if longer is not None and any(choice.startswith(longer.strip()) for choice in choices):
            return False
        if key in keys_of(by_id("copy-command")):
            prompt.note(screen.copying.copy_command())
        elif key in keys_of(by_id("write")):
            prompt.note(screen.copying.write())
        else:
            return False
        return True

    label = joined((literal("type "), safe(" or ".join(choices), 60), literal(" to do it:")))
    return await prompt.answer(label, rows=screen.confirm_bar.scroll_targets, refuse=wrong, other=other) is not None
