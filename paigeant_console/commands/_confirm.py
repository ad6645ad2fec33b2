"""Whether somebody said so: what every command asks before it writes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from paigeant_console.commands._call import Call

if TYPE_CHECKING:
    from paigeant_core.operations import Operations

__all__ = ["ask", "confirmed", "confirmed_twice", "on_record", "on_terminal"]


@asynccontextmanager
async def on_record(
    call: Call,
    operations: Operations,
    order: str,
    *,
    confirm: str | None,
    reason: str,
    targets: int = 1,
    selection: str = "",
) -> AsyncIterator[None]:
    """Put on record what is refused inside the block, where it is production or was confirmed in a wrong way.

    Args:
        call: The command's.
        operations: The command bus.
        order: What the audit calls it.
        confirm: What was given with `--confirm`.
        reason: What the operator gave.
        targets: How many were selected.
        selection: By what.
    """
    from paigeant_core.errors import Refused

    try:
        yield
    except Refused as refused:
        if call.settings.production or confirm is not None:
            await operations.denied(order, str(refused), reason=reason, targets=targets, selection=selection)
        raise


async def confirmed_twice(call: Call, what: str, value: str, named: str, *, yes: bool, confirm: str | None) -> None:
    """Go on only if somebody said so twice: what nothing brings back.

    Args:
        call: The command's.
        what: What is about to be done.
        value: What has to be typed, or given with `--confirm`; here the context's name does not do.
        named: What that is, in words.
        yes: `--yes` was given.
        confirm: What was given with `--confirm`.

    Raises:
        Refused: Nobody did, or not twice.
    """
    from paigeant_core.errors import Refused

    await confirmed(call, what, value, yes=yes, confirm=confirm)
    if confirm is None:
        if not on_terminal():
            raise Refused(f"not confirmed: give --confirm {value} too; it asks twice")
        if await ask(f"Nothing brings it back. Type {named}, {value}: ") != value:
            raise Refused("not confirmed: nothing was done")
    elif confirm != value:
        raise Refused(f"not confirmed: --confirm must be {value}")
    elif not yes and not on_terminal():
        raise Refused("not confirmed: give --yes too; it asks twice")
    elif not yes and (await ask(f"{what}? [y/N] ")).lower() not in ("y", "yes"):
        raise Refused("not confirmed: nothing was done")


async def confirmed(call: Call, what: str, value: str, *, yes: bool, confirm: str | None) -> None:
    """Go on only if somebody said so.

    Args:
        call: The command's.
        what: What is about to be done.
        value: What production asks for; the context's name does as well.
        yes: `--yes` was given.
        confirm: What was given with `--confirm`.

    Raises:
        Refused: Nobody did, or not in the way that this broker asks for.
    """
    from paigeant_core.errors import Refused

    settings = call.settings
    values = {value, settings.context} - {""}
    if confirm is not None:
        if confirm not in values:
            raise Refused(f"not confirmed: --confirm must be {' or '.join(sorted(values))}")
        return
    if settings.production and (yes or not on_terminal()):
        raise Refused(f"not confirmed: {settings.context} is production; give --confirm {value} (or its name)")
    if yes:
        return
    if not on_terminal():
        raise Refused("not confirmed: give --yes where nobody can be asked")
    if settings.production:
        name = settings.context
        answer = await ask(f"{what} in {name}, which is production? Type {value} or {name}: ")
        if answer in values:
            return
    elif (await ask(f"{what}? [y/N] ")).lower() in ("y", "yes"):
        return
    raise Refused("not confirmed: nothing was done")


def on_terminal() -> bool:
    """Whether there is somebody who can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()


async def ask(question: str) -> str:
    """Ask on the terminal without holding up the loop, so that the broker's line lives and Ctrl-C works.

    Args:
        question: What is written, without a line break.
    """
    import asyncio

    from paigeant_console.safe_text import safe

    sys.stderr.write(safe(question))
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), answered.set)
    try:
        await answered.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip()
