"""The command line as Typer reads it: what commands there are, and the options of the program itself.

Reading a command line makes a job of it, which `paigeant_console.cli` does.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from paigeant_console.commands._call import AsJson, Call, ContextName, Job, Options, ReadOnly, Topic, Url
from paigeant_console.output import PROGRAM

__all__ = ["COMMANDS", "UsageError", "read", "sentence"]

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("run", "demo"),
    "dev": ("run", "dev"),
    "worker": ("run", "worker"),
    "serve": ("serve", "serve"),
    "dispatch": ("dispatch", "dispatch"),
    "list": ("look", "list_"),
    "show": ("look", "show"),
    "tail": ("tail", "tail"),
    "history": ("history", "history"),
    "queues": ("broker", "queues"),
    "workers": ("broker", "workers"),
    "audit": ("broker", "audit"),
    "operations": ("operations", "operations"),
    "activity": ("activity", "activity"),
    "topic": ("topic", "topic"),
    "export": ("capsule", "export"),
    "import": ("capsule", "import_"),
    "verify": ("verify", "verify"),
    "doctor": ("doctor", "doctor"),
    "info": ("info", "info"),
    "keygen": ("keygen", "keygen"),
    "retry": ("operate", "retry"),
    "replay": ("operate", "replay"),
    "dead-letter": ("operate", "dead_letter"),
    "hold": ("operate", "hold"),
    "release": ("operate", "release"),
    "skip": ("operate", "skip"),
    "cancel": ("operate", "cancel"),
    "compensate": ("operate", "compensate"),
    "restore": ("operate", "restore"),
    "insert": ("operate", "insert"),
    "undo": ("operate", "undo"),
    "erase": ("erase", "erase"),
}
"""Every command: its module and the function there."""

_SETTINGS: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"]}
UsageError: Final = typer.BadParameter.__mro__[1]
"""What Typer raises for a command line that it cannot read; its own name for it is private."""


class _AsTyped:
    """Leaves a parameter's value as Typer's parser gives it; every parameter here is text, a list of texts, or a flag.

    Typer's own coercion imports Pydantic for the least of options, which doubles the time that a command takes to
    start. Where a version of Typer has no such attribute there is nothing to replace.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        return () if value is None and (param.multiple or param.nargs == -1) else value

    @classmethod
    def installed(cls, params: list[Any]) -> list[Any]:
        for param in params:
            if hasattr(param, "_runtime_param"):
                param._runtime_param = cls()
        return params


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> Any:
        return _AsTyped.installed(super().get_params(ctx))


class _Commands(TyperGroup):
    """The commands by name; a module is imported, and its parameters are read, when its command is called."""

    def get_params(self, ctx: Any) -> Any:
        return _AsTyped.installed(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no command {ascii(args[0])[:80]}{f'; is {close[0]} meant?' if close else ''}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        function = getattr(importlib.import_module(f"paigeant_console.commands.{module}"), name)
        single = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_SETTINGS)
        single.command(cmd_name, cls=_Command)(function)
        return typer.main.get_command(single)


app = typer.Typer(
    name=PROGRAM,
    cls=_Commands,
    context_settings=_SETTINGS,
    # Plain help: it is there at once, and reads the same through a pipe.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from paigeant_core.__about__ import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _program(
    ctx: typer.Context,
    url: Url = None,
    topic: Topic = None,
    context: ContextName = None,
    read_only: ReadOnly = False,
    json: AsJson = False,
    ascii: Annotated[bool, typer.Option("--ascii", help="Draw the console with ASCII alone.")] = False,
    mouse: Annotated[bool, typer.Option("--mouse", help="Let the console listen to the mouse.")] = False,
    theme: Annotated[
        str | None, typer.Option("--theme", metavar="NAME", help="ansi, dark, light or high-contrast.")
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback has printed it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> Job | None:
    """Workflows of AI agents: see them move, see why one is stuck, and act on it.

    Without a command the console opens. Options may stand before the command or behind it.
    """
    options = Options(url=url, topic=topic, context=context, read_only=read_only, json=json)
    ctx.obj = options
    if ctx.invoked_subcommand is not None:
        return None
    call = Call(options)
    return Job(call, lambda: _console(call, ascii=ascii, mouse=mouse, theme=theme), prints=False)


def _console(call: Call, *, ascii: bool, mouse: bool, theme: str | None) -> int:
    from paigeant_console.commands._signing import operators_signing
    from paigeant_console.config import load_look

    settings, look = call.settings, load_look(ascii=ascii, mouse=mouse, theme=theme)
    signer, trust = operators_signing()
    from paigeant_console.app import run
    from paigeant_console.contexts import Contexts

    return run(
        settings.url,
        settings.topic,
        given=settings.sources["url"] == "flag",
        context=settings.context,
        read_only=settings.read_only,
        operator=settings.operator,
        signer=signer,
        trust=trust,
        production=settings.production,
        look=look,
        contexts=Contexts(settings.contexts, call.options.read_only),
    )


def read(arguments: Sequence[str] | None) -> Job | int:
    """Read a command line.

    Args:
        arguments: The command line without the program; None: this process's.

    Returns:
        What is to be done; or an exit code, where reading was all (`--help`).

    Raises:
        UsageError: It cannot be read.
    """
    found = app(args=None if arguments is None else list(arguments), prog_name=PROGRAM, standalone_mode=False)
    return found if isinstance(found, Job | int) else 0


def sentence(error: Exception) -> str:
    """What Typer says of a command line that it cannot read, as one sentence.

    Args:
        error: A `UsageError`.
    """
    # Typer's own class puts the name of the option into it.
    said: str = getattr(error, "format_message", error.__str__)()
    said = " ".join(said.split()).rstrip(".")
    return f"{said[:1].lower()}{said[1:]} (-h lists what there is)"
