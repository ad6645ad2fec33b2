"""`doctor`: on servers of its own that are set up wrong, and right."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from paigeant_core.transports.rabbitmq import RabbitTransport
from tests.cli.conftest import Cli
from tests.cli.test_brokers import Serving, Start, until
from tests.console.no_writes import no_writes
from tests.servers import RabbitServer, RedisServer

Findings = dict[str, list[dict[str, Any]]]


def found(cli: Cli, code: int) -> Findings:
    by_check: Findings = {}
    for document in cli("doctor", "--json").ended(code).documents:
        assert document["schema"] == 1
        by_check.setdefault(document["check"], []).append(document)
    return by_check


def levels(findings: Findings, check: str) -> list[str]:
    return [document["level"] for document in findings[check]]


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def setting(own_redis: RedisServer, environment: dict[str, str], topic: str) -> Iterator[Any]:
    environment |= {"PAIGEANT_URL": own_redis.url, "PAIGEANT_TOPIC": topic}
    with contextlib.closing(redis.Redis.from_url(own_redis.url)) as client:
        names = ("maxmemory-policy", "maxmemory", "appendonly", "appendfsync")
        before = {name: client.config_get(name)[name] for name in names}
        client.config_set("appendonly", "yes")
        client.config_set("appendfsync", "everysec")
        client.config_set("maxmemory-policy", "noeviction")
        yield client
        for name, value in before.items():
            client.config_set(name, str(value))


def test_a_server_that_is_set_up_well_has_no_problem(cli: Cli, setting: Any) -> None:
    findings = found(cli, 0)
    for check in ("connection", "eviction", "memory", "persistence", "clock"):
        assert levels(findings, check) == ["ok"], findings[check]
    assert levels(findings, "workers") == ["warning"]
    assert setting.dbsize() == 0, "it changes nothing"


def test_a_redis_that_throws_keys_away_is_a_problem_with_a_remedy(cli: Cli, setting: Any) -> None:
    setting.config_set("maxmemory-policy", "allkeys-lru")
    (finding,) = found(cli, 1)["eviction"]
    assert finding["level"] == "problem"
    assert "allkeys-lru" in finding["said"]
    assert "noeviction" in finding["remedy"]


def test_a_redis_that_keeps_nothing_is_a_problem(cli: Cli, setting: Any) -> None:
    setting.config_set("appendonly", "no")
    assert levels(found(cli, 1), "persistence") == ["problem"]


def test_a_redis_that_is_full_is_a_problem(cli: Cli, setting: Any) -> None:
    setting.config_set("maxmemory", "1mb")
    assert levels(found(cli, 1), "memory") == ["problem"]


def test_what_a_redis_user_may_not_do_is_named(cli: Cli, setting: Any, environment: dict[str, str]) -> None:
    setting.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+@connection", "+info", "+time")
    environment["PAIGEANT_URL"] = environment["PAIGEANT_URL"].replace("redis://", "redis://reader:pw@")
    findings = found(cli, 1)
    assert levels(findings, "permissions") == ["problem"]
    assert "EVAL" in findings["permissions"][0]["said"]
    assert levels(findings, "eviction") == ["ok"], "INFO says it as well"


def test_the_rights_that_it_prescribes_are_enough_for_all_that_is_done(
    cli: Cli, setting: Any, environment: dict[str, str], target: str, start: Start
) -> None:
    admin = environment["PAIGEANT_URL"]
    categories = ("+@read", "+@write", "+@scripting", "+@connection")
    setting.execute_command("ACL", "SETUSER", "bare", "on", ">pw", "~{paigeant:*}:*", *categories)
    cli("dispatch", "charge", "--id", "one").ended(0)

    environment["PAIGEANT_URL"] = admin.replace("redis://", "redis://bare:pw@")
    findings = found(cli, 1)
    (finding,) = findings["permissions"]
    assert finding["said"] == "this user may not TIME, INFO"
    assert finding["remedy"].startswith("ACL SETUSER NAME ~{paigeant:*}:* +@read")
    assert levels(findings, "workers") == ["unknown"], "what it may not look at takes nothing away from the rest"

    setting.execute_command(*finding["remedy"].replace("NAME", "bare").split())
    findings = found(cli, 1)
    assert levels(findings, "permissions") == ["unknown"], "it may not ask whether it may write"
    assert findings["workers"][0]["said"] == "1 wait for charge, and no worker serves it"
    worker = Serving(start("worker", target))
    cli("dispatch", "charge", "--id", "two", "--wait").ended(0)
    cli("dispatch", "charge", "--var", "fail=true", "--id", "three").ended(0)
    until(lambda: len(cli("list", "state:dead", "--json").ended(0).documents) == 1)
    cli("replay", "three", "--var", "fail=false", "--reason", "mended", "--yes").ended(0)
    until(lambda: len(cli("list", "state:completed", "--json").ended(0).documents) == 3)
    assert len(cli("tail", "--since", "start", "--no-follow", "--json").ended(0).documents) > 6
    assert len(cli("queues", "--json").ended(0).documents) == 3
    assert len(cli("workers", "--json").ended(0).documents) == 1
    for words in (("show", "one"), ("audit",), ("operations",), ("info",)):
        cli(*words, "--json").ended(0)
    assert levels(found(cli, 0), "workers") == ["ok"]
    worker.process.terminate()
    assert worker.process.wait(30) == 0
    setting.flushall()


def test_work_that_nobody_serves_is_a_problem(cli: Cli, setting: Any) -> None:
    cli("dispatch", "charge").ended(0)
    (finding,) = [item for item in found(cli, 1)["workers"] if item["level"] == "problem"]
    assert finding["said"] == "1 wait for charge, and no worker serves it"
    said = cli("doctor").ended(1).out
    assert "PROBLEM  workers: 1 wait for charge" in said
    assert "-> start one: paigeant-console worker" in said
    setting.flushall()


def test_without_a_server_it_says_so(cli: Cli, environment: dict[str, str]) -> None:
    environment["PAIGEANT_URL"] = "redis://127.0.0.1:1"
    assert "no Redis answers" in cli("doctor").ended(4).err


def test_in_memory_nothing_lasts(cli: Cli, environment: dict[str, str]) -> None:
    environment["PAIGEANT_URL"] = "memory://"
    assert levels(found(cli, 0), "durability") == ["warning"]


# In one process, as a node takes ten seconds of work to start.
ON_ONE_NODE = pytest.mark.xdist_group("doctor")


@pytest.fixture(scope="module")
def own_rabbitmq() -> Iterator[RabbitServer]:
    with RabbitServer(management=True) as server:
        yield server


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
@ON_ONE_NODE
async def test_an_alarm_is_on_the_screen_too_and_nobody_is_taken_for_lost(
    own_rabbitmq: RabbitServer, topic: str, tmp_path: Path
) -> None:
    await no_writes(
        own_rabbitmq.url,
        topic,
        tmp_path,
        refuse=lambda: own_rabbitmq.ctl("set_vm_memory_high_watermark", "0.0000001"),
        accept=lambda: own_rabbitmq.ctl("set_vm_memory_high_watermark", "0.9"),
        why="RabbitMQ is low on memory",
    )


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
@ON_ONE_NODE
async def test_a_user_who_may_not_publish_is_told_of_no_alarm_and_asks_no_more(
    own_rabbitmq: RabbitServer, topic: str
) -> None:
    own_rabbitmq.ctl("add_user", "eve", "x")
    own_rabbitmq.ctl("set_permissions", "eve", "^paigeant", "^paigeant", ".*")
    async with RabbitTransport(own_rabbitmq.url.replace("guest:guest", "eve:x")) as transport:
        assert [await transport.refusal(topic) for _ in range(3)] == ["", "", ""]
        assert transport._alarm._forbidden


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
@ON_ONE_NODE
def test_on_rabbitmq_policies_and_alarms_are_found(
    cli: Cli, own_rabbitmq: RabbitServer, environment: dict[str, str], topic: str
) -> None:
    server = own_rabbitmq
    environment |= {"PAIGEANT_URL": server.url, "PAIGEANT_TOPIC": topic}
    assert levels(found(cli, 0), "management") == ["unknown"]

    environment["PAIGEANT_URL"] = f"{server.url}?management={server.management_url}"
    findings = found(cli, 0)
    for check in ("management", "alarms", "policies", "queues", "permissions", "version"):
        assert levels(findings, check) == ["ok"], findings[check]
    assert levels(findings, "consumer_timeout") == ["warning"]
    assert "rollback" not in findings
    environment["PAIGEANT_TRUST"] = "trust.toml"
    assert levels(found(cli, 0), "rollback") == ["warning"]
    del environment["PAIGEANT_TRUST"]

    server.ctl("set_policy", "short", "^paigeant", '{"max-length":10}', "--apply-to", "queues")
    server.ctl("set_policy", "other", "^other", '{"expires":1000}', "--apply-to", "queues")
    (finding,) = found(cli, 1)["policies"]
    assert finding["said"].startswith("policy short puts max-length on queues")
    server.ctl("clear_policy", "short")
    server.ctl("clear_policy", "other")

    server.ctl("set_vm_memory_high_watermark", "0.0000001")
    (finding,) = found(cli, 1)["alarms"]
    assert finding["said"].startswith("memory alarm on ")
    server.ctl("set_vm_memory_high_watermark", "0.9")


@pytest.fixture
def capped(own_rabbitmq: RabbitServer, topic: str) -> Iterator[Callable[..., None]]:
    """Sets a policy on the queue of the topic's activity charge, for as long as the test runs."""
    kinds = set()

    def cap(*options: str, kind: str = "policy", name: str = "cap", queue: str = "charge") -> None:
        kinds.add((kind, name))
        pattern = rf"^paigeant\.{topic}\.work\.{queue}$"
        own_rabbitmq.ctl(f"set_{kind}", name, pattern, '{"max-length":1}', "--apply-to", "queues", *options)

    yield cap
    for kind, name in kinds:
        own_rabbitmq.ctl(f"clear_{kind}", name)


@pytest.fixture
def known(own_rabbitmq: RabbitServer, environment: dict[str, str], topic: str) -> RabbitServer:
    """The server, with its management API in the environment."""
    url = f"{own_rabbitmq.url}?management={own_rabbitmq.management_url}"
    environment |= {"PAIGEANT_URL": url, "PAIGEANT_TOPIC": topic}
    return own_rabbitmq


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
@ON_ONE_NODE
@pytest.mark.parametrize("kind", ["policy", "operator_policy"])
def test_a_policy_for_the_queue_of_one_activity_is_found_and_no_worker_serves_it(
    cli: Cli, known: RabbitServer, topic: str, target: str, capped: Callable[..., None], kind: str
) -> None:
    cli("dispatch", "charge").ended(0)
    capped(kind=kind)
    (finding,) = found(cli, 1)["policies"]
    queue = f"paigeant.{topic}.work.charge"
    said = f"policy cap puts max-length on queues of this topic, which lose messages by it: {queue}"
    assert (finding["level"], finding["said"]) == ("problem", said)
    cli("worker", target).ended(2).said(said, "let its pattern leave out names with paigeant.")


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
@ON_ONE_NODE
def test_policies_that_do_not_hold_for_the_topic_stop_no_worker(
    cli: Cli, known: RabbitServer, target: str, start: Start, capped: Callable[..., None]
) -> None:
    cli("dispatch", "charge").ended(0)
    capped(queue="elsewhere")
    capped("--priority", "1", name="behind")
    known.ctl(
        "set_policy", "first", "^paigeant", '{"max-in-memory-length":9}', "--priority", "2", "--apply-to", "queues"
    )
    assert levels(found(cli, 1), "policies") == ["ok"], "of two that fit the one with the higher priority holds"
    worker = Serving(start("worker", target))
    until(lambda: len(cli("list", "state:completed", "--json").documents) == 1)
    known.ctl("clear_policy", "first")
    worker.process.terminate()
    assert worker.process.wait(30) == 0


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
@ON_ONE_NODE
def test_the_management_api_is_asked_as_its_own_user_whose_password_is_not_shown(
    cli: Cli, known: RabbitServer, environment: dict[str, str]
) -> None:
    known.ctl("add_user", "eyes", "hunter2")
    known.ctl("set_user_tags", "eyes", "administrator")
    api = str(known.management_url).replace("http://", "http://eyes:hunter2@")
    # A broker's user who may not use the API.
    known.ctl("add_user", "hands", "x")
    known.ctl("set_permissions", "hands", ".*", ".*", ".*")
    amqp = known.url.replace("guest:guest", "hands:x")
    for written in (api, quote(api, safe="")):
        environment["PAIGEANT_URL"] = f"{amqp}?management={written}"
        findings = found(cli, 0)
        assert levels(findings, "management") == ["ok"]
        assert findings["permissions"][0]["said"] == "user hands may configure, write and read"
        for words in (("doctor",), ("doctor", "--json"), ("info",), ("info", "--json")):
            done = cli(*words).ended(0)
            assert "hunter2" not in done.out + done.err


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
@ON_ONE_NODE
def test_the_management_api_of_another_broker_is_not_believed(
    cli: Cli, known: RabbitServer, environment: dict[str, str], target: str, start: Start, capped: Callable[..., None]
) -> None:
    with RabbitServer() as other:
        environment["PAIGEANT_URL"] = f"{other.url}?management={known.management_url}"
        capped()
        (finding,) = found(cli, 0)["management"]
        assert finding["level"] == "unknown"
        assert "is of another broker" in finding["said"]
        assert Serving(start("worker", target)).process.poll() is None
