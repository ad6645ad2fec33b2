"""`worker`, `dev` and `demo`: what serves workflows or brings its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from paigeant_console.commands._call import Call, Options, silent_command
from paigeant_console.exit_codes import ExitCode

if TYPE_CHECKING:
    from paigeant_core.transports import Transport
    from paigeant_core.worker import Worker

__all__ = ["demo", "dev", "worker"]

READY_WITHIN: Final = 5.0
"""Seconds that the broker has to know the worker before it is called ready all the same."""

Target = Annotated[str, typer.Argument(metavar="TARGET", help="file.py, file.py:name or pkg.module:worker.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII alone.")]
Mouse = Annotated[bool, typer.Option("--mouse", help="Let the console listen to the mouse.")]
Theme = Annotated[str | None, typer.Option("--theme", metavar="NAME", help="ansi, dark, light or high-contrast.")]


@silent_command
def demo(call: Call, ascii: Ascii = False, mouse: Mouse = False, theme: Theme = None) -> int:
    """Open the console on the in-memory broker, with sample workflows and workers."""
    from paigeant_console.config import load_look
    from paigeant_console.demo import run_demo
    from paigeant_core.names import check_topic

    options = _in_memory(call)
    return run_demo(
        topic=check_topic("workflows" if options.topic is None else options.topic),
        read_only=call.read_only_here,
        look=load_look(theme=theme, ascii=ascii, mouse=mouse),
    )


@silent_command
def dev(
    call: Call,
    target: Target,
    capsule: Annotated[
        str | None, typer.Option("--capsule", metavar="FILE", help="A workflow that export wrote, to go on with here.")
    ] = None,
    ascii: Ascii = False,
    mouse: Mouse = False,
    theme: Theme = None,
) -> int:
    """Open the console, with the in-memory broker and the workers of TARGET in one process."""
    from paigeant_console.commands.capsule import read_capsule
    from paigeant_console.config import load_look
    from paigeant_console.dev import run_dev
    from paigeant_console.logs import kept_while_debugging
    from paigeant_console.targets import load_target
    from paigeant_core.names import check_topic

    options = _in_memory(call)
    topic = None if options.topic is None else check_topic(options.topic)
    opened = None if capsule is None else read_capsule(capsule)
    served = load_target(target)
    look = load_look(theme=theme, ascii=ascii, mouse=mouse)
    with kept_while_debugging("dev.log"):
        return run_dev(served, topic=topic, capsule=opened, read_only=call.read_only_here, look=look)


def _in_memory(call: Call) -> Options:
    """The options of a console that brings its own broker, whatever the environment says of another."""
    if call.options.url is not None or call.options.context is not None:
        from paigeant_core.errors import ConfigError

        raise ConfigError("demo and dev bring the in-memory broker with them; leave out --url and --context")
    return call.options


@silent_command
def worker(
    call: Call,
    target: Target,
    activity: Annotated[
        list[str] | None, typer.Option("--activity", metavar="A", help="Serve this one alone; may be repeated.")
    ] = None,
    concurrency: Annotated[
        str | None, typer.Option("--concurrency", metavar="N", help="Steps at the same time.")
    ] = None,
) -> int:
    """Serve the activities of TARGET until SIGTERM or SIGINT; then finish what runs and leave.

    A second signal leaves at once. Its log goes to stderr, and so does what the handlers print.
    With PAIGEANT_METRICS=[HOST:]PORT it counts its steps, and tells Prometheus there.
    """
    import contextlib
    import sys

    from paigeant_console import garbage
    from paigeant_console.commands._metrics import answering_prometheus
    from paigeant_console.commands._signing import key_of_environment, tokens_of_environment, trust_of_environment
    from paigeant_console.commands._values import count
    from paigeant_console.logs import Redacting, to_stderr
    from paigeant_console.runner import run
    from paigeant_console.targets import load_target

    call.refuse_if_read_only("worker")
    slots = count(concurrency, "--concurrency", most=10_000)
    settings = call.settings
    with contextlib.redirect_stdout(Redacting(sys.stderr)):
        served = load_target(target)
        if slots is not None:
            served.concurrency = slots
        served.topic = _topic(call, served)
        served.signer = key_of_environment() or served.signer
        served.trust = trust_of_environment() or served.trust
        served.tokens = tokens_of_environment() or served.tokens
        to_stderr(settings.url)
        with answering_prometheus(served):
            serving = _Serving(call, served, activity)
            garbage.as_usual()
            return run(serving.main(), on_signal=serving.stop)


def _topic(call: Call, served: Worker) -> str:
    """`--topic` wins over the worker's own, and the worker's own over the environment, unless it is the default."""
    from paigeant_console.config import DEFAULT_TOPIC

    settings = call.settings
    said = call.options.topic is not None or (
        call.options.context is not None and settings.sources["topic"] == "context"
    )
    return settings.topic if said or served.topic == DEFAULT_TOPIC else served.topic


class _Serving:
    """One worker while it serves."""

    def __init__(self, call: Call, served: Worker, activities: list[str] | None) -> None:
        self._call = call
        self._worker = served
        self._activities = activities
        self._begun = False

    def stop(self) -> bool:
        """At the first signal: drain, if there is anything to drain."""
        from paigeant_console.output import note

        if count := len(self._worker.running):
            what = f"{count} step{'' if count == 1 else 's'} may finish within {self._worker.drain:g} s"
            note(f"stopping: {what}; a second signal leaves at once")
        self._worker.stop()
        return self._begun

    async def main(self) -> int:
        """Serve until told to stop."""
        own = self._worker.transport
        options = self._call.options
        if own is not None and options.url is None and options.context is None:
            async with own:
                return await self._serve(own)
        async with self._call.broker() as transport:
            return await self._serve(transport)

    async def _serve(self, transport: Transport) -> int:
        import asyncio

        running = asyncio.create_task(self._worker.run(transport, activities=self._activities))
        # One turn of the loop: from then on the worker can be told to stop.
        await asyncio.sleep(0)
        self._begun = True
        ready = asyncio.create_task(self._say_ready(transport))
        try:
            await running
        finally:
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
        return ExitCode.OK

    async def _say_ready(self, transport: Transport) -> None:
        """Say so when the broker knows the worker: from then on it is in `workers`."""
        import asyncio

        from paigeant_console.output import note
        from paigeant_core.errors import TransportError

        served = self._worker
        pause, waited = 0.02, 0.0
        while waited < READY_WITHIN:
            await asyncio.sleep(pause)
            waited += pause
            pause = min(0.5, pause * 1.5)
            try:
                if any(status.info.worker == served.name for status in await transport.workers(served.topic)):
                    break
            except TransportError:
                # The worker itself waits for the line, so this can.
                continue
        names = list(served.activities if self._activities is None else self._activities)
        note(f"serving {', '.join(names)} on topic {served.topic} at {transport.url} as {served.name}")
        if self._call.out.as_json:
            ready = {"event": "ready", "worker": served.name, "topic": served.topic, "activities": names}
            self._call.out.document(ready)
            self._call.out.flush()
