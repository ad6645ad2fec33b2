"""What every command has: its settings, its output, its way to the broker."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final, ParamSpec, TypeAlias

import typer

from paigeant_console.output import Output, note

if TYPE_CHECKING:
    # Not at run time: a command that needs no broker starts without the transports.
    from paigeant_console.config import Flags, Settings
    from paigeant_core.operations import Operations
    from paigeant_core.transports import Transport

__all__ = ["AsJson", "Call", "ContextName", "Job", "Options", "ReadOnly", "Topic", "Url", "command"]

CONNECT_WITHIN: Final = 20.0
"""Seconds that connecting may take, whatever the driver thinks of it."""

_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class Options:
    """The options that every command has, as they were given."""

    url: str | None = None
    topic: str | None = None
    context: str | None = None
    read_only: bool = False
    json: bool = False

    def under(self, outer: Options) -> Options:
        """These options, with those of the program where nothing was said behind the command.

        Args:
            outer: What stood before the command.
        """
        # An empty one was said: it is refused, and not taken for what stood before.
        return Options(
            url=outer.url if self.url is None else self.url,
            topic=outer.topic if self.topic is None else self.topic,
            context=outer.context if self.context is None else self.context,
            read_only=self.read_only or outer.read_only,
            json=self.json or outer.json,
        )


class Call:
    """One call of a command.

    Args:
        options: What was said on the command line.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.out = Output(as_json=options.json)
        self._settings: Settings | None = None

    @property
    def flags(self) -> Flags:
        """The options that are settings."""
        from paigeant_console.config import Flags

        options = self.options
        return Flags(url=options.url, topic=options.topic, context=options.context, read_only=options.read_only)

    @property
    def settings(self) -> Settings:
        """What holds for this call; read when first asked for.

        Raises:
            ConfigError: A value that cannot be, or a file that cannot be read.
        """
        if self._settings is None:
            from paigeant_console.config import load

            self._settings = load(self.flags)
            if self._settings.queries:
                from paigeant_console.model.query import use_saved

                use_saved(self._settings.queries)
            if "***" in self._settings.masked_url and "***" not in (self.options.url or "***"):
                note("a password in --url is seen in the process list; PAIGEANT_URL or a context keeps it out of there")
        return self._settings

    @property
    def known_url(self) -> str:
        """The broker's URL as far as it is known, for masking; never raises."""
        if self._settings is not None:
            return self._settings.url
        return self.options.url or os.environ.get("PAIGEANT_URL", "")

    @property
    def read_only_here(self) -> bool:
        """Whether the command line or the environment asks for read-only, whatever the configuration says of a broker.

        Raises:
            ConfigError: It cannot be read.
        """
        from paigeant_console.config import read_only_in_environment

        return self.options.read_only or bool(read_only_in_environment(os.environ))

    def refuse_if_read_only(self, what: str) -> None:
        """Before anything else is looked at, the configuration's other values included.

        Args:
            what: The command.

        Raises:
            Refused: Read-only was asked for.
            ConfigError: Whether it was cannot be read.
        """
        from paigeant_console.config import read_only_in_environment
        from paigeant_core.errors import Refused

        if self.options.read_only:
            why = "--read-only was given"
        elif read_only_in_environment(os.environ):
            why = "PAIGEANT_READ_ONLY is set"
        elif self.settings.read_only:
            context = self.settings.context
            why = f"context {context} is read-only" if context else f"{self.settings.path} says read_only"
        else:
            return
        raise Refused(f"{what}: refused, {why}")

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Transport]:
        """The broker, connected for as long as the block lasts.

        Raises:
            ConnectError: Nothing answers there.
        """
        import asyncio

        from paigeant_core.errors import ConnectError
        from paigeant_core.transports import get_transport

        transport = get_transport(self.settings.url)
        try:
            try:
                async with asyncio.timeout(CONNECT_WITHIN):
                    await transport.connect()
            except TimeoutError:
                raise ConnectError(
                    f"no answer from {self.settings.masked_url} within {CONNECT_WITHIN:g} s; is the broker up, and the "
                    "network between?"
                ) from None
            if self.settings.sources["url"] == "default":
                note("no broker is named, and memory:// ends with this command; set PAIGEANT_URL or give --url")
            yield transport
        finally:
            await transport.disconnect()

    def operations(self, transport: Transport, *, limit: int | None = None, acting: bool = False) -> Operations:
        """The command bus of this call's topic.

        Args:
            transport: Where.
            limit: Workflows that one operation may touch; None: the default.
            acting: Something is to be done, and signed with the environment's key.

        Raises:
            ConfigError: The key or the policy that the environment names cannot be used.
        """
        from paigeant_core.limits import BULK_LIMIT
        from paigeant_core.operations import Operations

        settings = self.settings
        signer = trust = None
        if acting:
            from paigeant_console.commands._signing import operators_signing

            signer, trust = operators_signing()
        return Operations(
            transport,
            settings.topic,
            operator=settings.operator,
            read_only=settings.read_only,
            limit=BULK_LIMIT if limit is None else limit,
            signer=signer,
            trust=trust,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A command line that was understood; to be done outside of Typer, which would treat its errors its own way."""

    call: Call
    do: Callable[[], int | None]
    prints: bool
    """Whether it writes to stdout; the console does not."""


Url: TypeAlias = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The broker: memory://, redis://, rediss://, amqp:// or amqps://."),
]
Topic: TypeAlias = Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="The topic (workflows).")]
ContextName: TypeAlias = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="A broker named in config.toml.")
]
ReadOnly: TypeAlias = Annotated[bool, typer.Option("--read-only", help="Refuse whatever would change something.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON Lines on stdout.")]

_COMMON: Final[Mapping[str, tuple[Any, Any]]] = {
    "url": (Url, None),
    "topic": (Topic, None),
    "context": (ContextName, None),
    "read_only": (ReadOnly, False),
    "json": (AsJson, False),
}
"""Options that may stand before the command and behind it: annotation and default by parameter."""


def command(function: Callable[Concatenate[Call, _P], int | None]) -> Callable[..., Job]:
    """Make a function a command: Typer sees its parameters and the common ones, and gets a job for it.

    Args:
        function: Takes a `Call` and its own parameters; gives the exit code, None for 0.
    """
    return _command(function, prints=True)


def silent_command(function: Callable[Concatenate[Call, _P], int | None]) -> Callable[..., Job]:
    """The same of a function that writes nothing to stdout without `--json`.

    Args:
        function: As for `command`.
    """
    return _command(function, prints=False)


def _command(function: Callable[Concatenate[Call, _P], int | None], *, prints: bool) -> Callable[..., Job]:
    signature = inspect.signature(function, eval_str=True)
    own = list(signature.parameters.values())[1:]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _COMMON.items()
    ]

    def wrapper(ctx: typer.Context, **given: Any) -> Job:
        outer = ctx.obj if isinstance(ctx.obj, Options) else Options()
        options = Options(**{name: given.pop(name) for name in _COMMON}).under(outer)
        call = Call(options)
        return Job(call, functools.partial(function, call, **given), prints or options.json)

    functools.update_wrapper(wrapper, function)
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # the signature is the one below
    parameters = [context, *own, *shared]
    wrapper.__signature__ = signature.replace(parameters=parameters, return_annotation=Job)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
    return wrapper
