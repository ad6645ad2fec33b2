"""Why a workflow is stuck, in real situations on real brokers: what the screen says, what `show` says, and the keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import aiormq
import pytest
import redis
from textual import events

from paigeant_console.actions import by_id, refusal
from paigeant_console.app import ConsoleApp
from paigeant_console.cli import main
from paigeant_console.config import Look
from paigeant_console.feed import Feed, Phase
from paigeant_console.model import fold
from paigeant_console.model.confirmation import Target
from paigeant_console.model.stuck import explain
from paigeant_console.screens.base import ConsoleScreen
from paigeant_console.screens.queues import QueuesScreen
from paigeant_console.screens.workflow import WorkflowScreen
from paigeant_core import ActivityContext, Worker, WorkflowDispatcher, get_transport
from paigeant_core.clock import ManualClock
from paigeant_core.dispatcher import new_workflow
from paigeant_core.operations import Action, Cancel, DeadLetter, Operations, Release, Replay, Retry, Skip
from paigeant_core.tokens import Tokens, TopicKey
from paigeant_core.transports.rabbitmq import RabbitTransport, lookout, presence
from paigeant_core.transports.rabbitmq.topology import Names
from tests.console.appkit import Console
from tests.core.bench import stopped
from tests.core.tokens.kit import jwt

PATIENCE = 60.0
ROOT = Path(__file__).parents[2]

AT = r"[\d:+ -]+"
AGE = r"(a moment|\d+ (s|min|h|days))"
LAST = rf"(last seen {AT} on frail-\w+|frail-\w+ was the last; lost at {AT})"
"""RabbitMQ has nobody who notes that a worker was lost."""
SENTENCES = {
    # By workflow: why it is stuck, the sentence, and what is to be done, with keys.
    "charge": (
        "backoff",
        r"attempt 2 of 5 in \d+m after TimeoutError: the provider did not answer",
        "r runs it now; R replays with a mended payload",
    ),
    "review": (
        None,
        rf"held by its handler on mill-\w+ until {AT}, then it goes on: a person has to look",
        "l lets it go on; x ends it",
    ),
    "unserved": (
        "no_worker",
        rf"waiting {AGE}: no worker serves unserved \(none ever did, as far as the journal goes back\)",
        "start a worker for it; s skips this step; d parks it among the dead letters",
    ),
    "brittle": (
        "no_worker",
        rf"waiting {AGE} for attempt 2 of 3: no worker serves brittle \({LAST}\)",
        "start a worker for it; s skips this step; d parks it among the dead letters",
    ),
    "sleep": (
        "worker_lost",
        rf"its worker frail-\w+ stopped renewing {AGE} ago; no other serves sleep",
        "start a worker for it; d parks it among the dead letters",
    ),
    "slow": (
        "slow",
        rf"running for {AGE} on mill-\w+; half of its kind took no more than 0\.\d s",
        "r starts a second copy, and the first is refused",
    ),
    "crash": (
        "poison",
        rf"5 workers died while they ran this step \(crash; doomed-\w+ parked it at {AT}\)",
        "mend the handler first; r runs the step again",
    ),
    "newer": (
        "version",
        r"its message is newer than mill-\w+ can read \(.*9.*\); offered again in \d+s",
        "roll the workers forward",
    ),
    "mint": (
        "token_expired",
        rf"its user's token expired at {AT}; held at mint since {AT}",
        "let its user sign in again; l takes the new token's file; d parks it among the dead letters",
    ),
    "stamp": (
        "paused",
        rf"waiting {AGE} for stamp: ann paused it at {AT}: an outage",
        "P in view 3 lets its workers go on; s skips this step; d parks it among the dead letters",
    ),
}
LOST = re.compile(
    rf"the broker lost its message for press; published again from the journal at {AT} and waiting {AGE}$", re.MULTILINE
)
KEYS: dict[str, Action] = {"r": Retry(), "R": Replay(), "l": Release(), "s": Skip(), "d": DeadLetter(), "x": Cancel()}
COMMANDS = {"r": "`retry`", "R": "`replay`", "l": "`release`", "s": "`skip`", "d": "`dead-letter`", "x": "`cancel`"}
OTHER = {"retry": "f5", "replay": "f6", "release": "f7", "skip": "f8", "dead-letter": "f9", "cancel": "f10"}
REMAPPED = dict(zip("rRlsdx", ("F5", "F6", "F7", "F8", "F9", "F10"), strict=True))


def timeless(sentence: str) -> str:
    """Without what a moment later reads otherwise."""
    return re.sub(rf"{AGE}|in \d+[sm]", "#", sentence)


def keys_in(line: str) -> list[str]:
    """The keys that a line names, each at the beginning of a part; without the one of another view."""
    return [part.split(" ")[0] for part in line.split("; ") if part.split(" ")[0] in KEYS and " in view " not in part]


async def start(url: str, topic: str) -> None:
    """Dispatch all but the one that is newer; pause what is paused."""
    async with get_transport(url) as transport:
        dispatcher = WorkflowDispatcher(transport)
        for step in ("charge", "review", "unserved", "brittle", "sleep", "crash", "stamp"):
            await dispatcher.dispatch_workflow([step], {}, topic=topic, correlation_id=step)
        for name, seconds in (("quick", 0), ("slow", 600)):
            await dispatcher.dispatch_workflow(["print"], {"seconds": seconds}, topic=topic, correlation_id=name)
        await Operations(transport, topic, operator="ann").pause_activity("stamp", reason="an outage")
    async with get_transport(url) as transport:
        # An hour ago the token was good.
        transport.clock = ManualClock(time.time() - 3600)
        dispatcher = WorkflowDispatcher(transport, tokens=Tokens([TopicKey.generate()]))
        token = jwt(exp=time.time() - 60)
        await dispatcher.dispatch_workflow(["mint"], obo_token=token, topic=topic, correlation_id="mint")


def newer(topic: str) -> bytes:
    """A message of a version that is still to come."""
    message = new_workflow(["charge"], {}, topic=topic, at=time.time(), correlation_id="newer")
    return message.encode().replace(b'"spec_version":"1"', b'"spec_version":"9"')


@contextlib.contextmanager
def watching(url: str, topic: str) -> Iterator[Feed]:
    feed = Feed(url, topic)
    feed.start()
    try:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE), feed.status()
        yield feed
    finally:
        feed.stop(10)


def said(feed: Feed, workflow: str) -> str:
    row = feed.fold.rows.get(workflow)
    found = explain(feed.fold, row, feed.now()) if row is not None else None
    return "" if found is None else str(found.sentence)


def until_all(feed: Feed) -> None:
    """Wait until every workflow is where it is to be; what is so by time alone wakes nobody, so look now and then."""
    wrong: dict[str, str] = {}
    for _ in range(int(PATIENCE)):
        sentences = {workflow: said(feed, workflow) for workflow in SENTENCES}
        wrong = {name: text for name, text in sentences.items() if not re.fullmatch(SENTENCES[name][1], text)}
        if not wrong:
            return
        feed.wait(lambda: False, 1.0)
    raise AssertionError((wrong, {name: feed.fold.rows.get(name) for name in wrong}, feed.fold.workers))


@contextlib.asynccontextmanager
async def opened(url: str, topic: str, tmp_path: Path, look: Look) -> AsyncIterator[Console]:
    """The console on a broker, as an operator has it who comes when all has happened."""
    feed = Feed(url, topic)
    state = tmp_path / "state"
    app = ConsoleApp(
        feed, target=Target(url, feed.topic), look=look, log_directory=tmp_path / "log", state_directory=state
    )
    try:
        async with app.run_test(size=(160, 40)) as pilot:
            console = Console(app, pilot)
            await console.until(lambda: isinstance(app.screen, ConsoleScreen) and app.screen.built, "the first screen")
            await console.until(lambda: feed.status().phase is Phase.LIVE and feed.fold.observed, "live")
            yield console
    finally:
        feed.stop()


async def look_at(console: Console, workflow: str) -> None:
    console.app.post_message(events.Paste(workflow))
    await console.until(
        lambda: isinstance(console.screen, WorkflowScreen) and console.screen.correlation_id == workflow, workflow
    )


def asks(console: Console) -> bool:
    return bool(console.screen.prompt.asking or console.screen.replay_form.asking)


def reads(console: Console, sentence: str) -> bool:
    return timeless(sentence) in (timeless(line).strip() for line in console.lines())


async def press_all(console: Console, workflow: str, keys: list[tuple[str, str]], pressed: set[str]) -> None:
    """The act of each key can be done to this workflow, and the key asks for a reason or a hop."""
    feed = console.app.feed
    for key, act in keys:
        plan = await asyncio.wrap_future(feed.plan(KEYS[act], [workflow], "to look"))
        assert plan.eligible == 1, (workflow, act, plan.lines)
        if act in pressed:
            continue
        pressed.add(act)
        await console.press(key.lower() if key.startswith("F") else key)
        await console.until(partial(asks, console), f"{workflow} {key}")
        await console.press("escape")
        await console.until(lambda: not asks(console), "nothing asked")


class StuckContract(ABC):
    """The situations that every broker can have."""

    @abstractmethod
    def put_raw(self, url: str, topic: str, activity: str, raw: bytes) -> None:
        """Put bytes into a work queue behind the library's back."""

    @pytest.fixture
    def url(self) -> str:
        raise RuntimeError("a subclass gives this")

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """What takes a minute takes less; and settings of whoever runs the tests do not count."""
        monkeypatch.setattr(fold, "NO_WORKER_AFTER", 0.5)
        monkeypatch.setattr(fold, "SLOW_AT_LEAST", 0.5)
        monkeypatch.setattr(presence, "LEASE", 4.0)
        monkeypatch.setattr(presence, "SKEW", 0.0)
        for name in os.environ:
            if name.startswith(("PAIGEANT_", "XDG_")):
                monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("COLUMNS", "300")

    @pytest.fixture
    def stuck(self, url: str, topic: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """All of them, made by real workers."""
        command = [sys.executable, "-m", "tests.console.stuck_crew", url, topic]
        log = tmp_path_factory.mktemp("crew") / "log"
        with log.open("w") as stderr:
            crew = subprocess.Popen(command, cwd=ROOT, stderr=stderr, start_new_session=True)
        try:
            asyncio.run(start(url, topic))
            self.put_raw(url, topic, "charge", newer(topic))
            with watching(url, topic) as feed:
                until_all(feed)
            yield
        finally:
            os.killpg(crew.pid, signal.SIGKILL)
            crew.wait()
            print(log.read_text())  # seen where something failed

    @pytest.mark.timeout(180)
    def test_the_screen_and_show_say_why_and_the_keys_help(
        self, stuck: None, url: str, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        texts: dict[str, str] = {}
        for workflow, (word, pattern, keys) in SENTENCES.items():
            assert main(["--topic", topic, "--url", url, "show", workflow]) == 0
            text = texts[workflow] = capsys.readouterr().out
            (why,) = re.findall(rf"^(?:stuck    {word}: |why      )(.*)$", text, re.MULTILINE)
            assert re.fullmatch(pattern, why), (workflow, why)
            texts[workflow] = why
            (todo,) = re.findall(r"^to do    (.*)$", text, re.MULTILINE)
            expected = keys.replace("P in view 3", "`activity resume`").replace(
                "l takes", "`release --token-file FILE` takes"
            )
            assert todo == "; ".join(
                re.sub(r"^\w(?= )", lambda key: COMMANDS.get(key[0], key[0]), part) for part in expected.split("; ")
            )
        assert main(["--topic", topic, "--url", url, "list", "--json"]) == 0
        words = {row["correlation_id"]: row["stuck"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
        assert words == {"quick": None} | {workflow: word for workflow, (word, *_) in SENTENCES.items()}
        assert main(["--topic", topic, "--url", url, "show", "sleep", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["stuck"] == "worker_lost"
        asyncio.run(self.on_the_screen(url, topic, tmp_path, texts))
        asyncio.run(self.with_other_keys(url, topic, tmp_path))

    async def on_the_screen(self, url: str, topic: str, tmp_path: Path, texts: dict[str, str]) -> None:
        async with opened(url, topic, tmp_path, Look()) as console:
            pressed: set[str] = set()
            for workflow, (_, pattern, keys) in SENTENCES.items():
                await look_at(console, workflow)
                await console.until(
                    partial(reads, console, texts[workflow]), f"{workflow}: {pattern}, {texts[workflow]}"
                )
                assert f"  {keys}" in console.lines(), console.text()
                await press_all(console, workflow, [(key, key) for key in keys_in(keys)], pressed)
            # The one key that works elsewhere.
            await console.press("3")
            await console.until(
                lambda: isinstance(console.screen, QueuesScreen) and len(console.screen.queues.source), ""
            )
            queues = console.screen.queues
            queues.move_to_index(queues.source.index_of("stamp"))
            assert refusal(by_id("operation.pause"), console.screen.situation()) is None
            await console.press("P")
            await console.shows("resume activity stamp because:")

    async def with_other_keys(self, url: str, topic: str, tmp_path: Path) -> None:
        keys = {name: (key,) for name, key in OTHER.items()}
        async with opened(url, topic, tmp_path, Look(keys=keys)) as console:
            pressed: set[str] = set()
            for workflow in ("charge", "review", "unserved"):
                await look_at(console, workflow)
                named = keys_in(SENTENCES[workflow][2])
                for key in named:
                    await console.shows(f" {REMAPPED[key]} ")
                await press_all(console, workflow, [(REMAPPED[key], key) for key in named], pressed)
            assert pressed == set(KEYS)


class TestOnRedis(StuckContract):
    """On Redis."""

    @pytest.fixture
    def url(self, redis_url: str) -> str:
        return redis_url

    def put_raw(self, url: str, topic: str, activity: str, raw: bytes) -> None:
        with redis.Redis.from_url(url) as client:
            client.xadd(f"{{paigeant:{topic}}}:work:{activity}", {"m": raw})


class TestOnRabbitMQ(StuckContract):
    """On RabbitMQ, which alone can lose a message and know of it."""

    @pytest.fixture
    def url(self, rabbit_url: str) -> str:
        return rabbit_url

    def put_raw(self, url: str, topic: str, activity: str, raw: bytes) -> None:
        async def put() -> None:
            connection = await aiormq.connect(url)
            channel = await connection.channel()
            await channel.basic_publish(raw, routing_key=Names(topic).work(activity))
            await connection.close()

        asyncio.run(put())

    @pytest.mark.timeout(240)
    async def test_what_the_broker_lost_says_so_and_that_it_was_published_again(
        self, url: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lookout, "EVERY", 0.2)
        monkeypatch.setattr(lookout, "GRACE", 0.0)
        monkeypatch.setattr(lookout, "SKEW", 0.0)
        worker, done = Worker(topic, name="mill", concurrency=1), asyncio.Event()

        @worker.activity("weigh")
        async def weigh(ctx: ActivityContext) -> None:
            await done.wait()

        @worker.activity("press")
        async def press(ctx: ActivityContext) -> None: ...

        async with RabbitTransport(url) as transport, opened(url, topic, tmp_path, Look()) as console:
            working = asyncio.create_task(worker.run(transport))
            dispatcher = WorkflowDispatcher(transport)
            await dispatcher.dispatch_workflow(["weigh"], {}, topic=topic)
            await console.until(lambda: worker.running, "busy")
            await dispatcher.dispatch_workflow(["press"], {}, topic=topic, correlation_id="gone")
            async with transport._line.borrowed() as channel:
                await channel.queue_purge(Names(topic).work("press"))
            await look_at(console, "gone")
            await console.until(lambda: LOST.search(console.text()), "lost")
            keys = "r publishes it once more; `doctor` looks for what took it"
            await console.shows(f"  {keys}")
            await press_all(console, "gone", [("r", "r")], set())
            command = [sys.executable, "-m", "paigeant_console", "--topic", topic, "show", "gone"]
            shown = await asyncio.to_thread(
                subprocess.run,
                command,
                env=os.environ | {"PAIGEANT_URL": url},
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            assert LOST.search(shown.stdout), shown
            assert f"to do    {keys.replace('r publishes', '`retry` publishes')}" in shown.stdout
            done.set()
            await stopped(worker, working)
