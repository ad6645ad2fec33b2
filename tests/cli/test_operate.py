"""The verbs that act on workflows: selected, refused, confirmed, done and told."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pydantic
import pytest

from paigeant_core import get_transport
from paigeant_core.operations import Operations, Retry
from paigeant_core.payload_model import PayloadModel
from tests.cli.conftest import Cli
from tests.transports.hands import Hands

VERBS = ("retry", "replay", "dead-letter", "hold", "release", "skip", "cancel", "compensate", "restore", "insert")


def words(verb: str, *ids: str) -> list[str]:
    """The beginning of a command line that does ``verb`` to workflows."""
    return [verb, "extra", *(word for item in ids for word in ("--id", item))] if verb == "insert" else [verb, *ids]


@pytest.fixture
def three(here: Cli) -> Cli:
    """Three workflows that wait for nobody."""
    for number in (1, 2, 3):
        here("dispatch", "a", "b", "--id", f"w{number}", "--var", f"n={number}").ended(0)
    return here


def states(cli: Cli) -> dict[str, str]:
    return {found["correlation_id"]: found["state"] for found in cli("list", "--json").documents}


@pytest.mark.parametrize(
    ("what", "selection", "reason", "operator"),
    [
        ("the reason", ["w1"], "gr\udcf6sse", "ann"),
        ("the selection", ["--where", "id:w1 !gr\udcf6sse"], "too large", "ann"),
        ("PAIGEANT_OPERATOR is", ["w1"], "too large", "gr\udcf6sse"),
    ],
)
def test_nothing_is_done_that_the_audit_could_not_keep(
    three: Cli, monkeypatch: pytest.MonkeyPatch, what: str, selection: list[str], reason: str, operator: str
) -> None:
    # What is no UTF-8 on a command line or in the environment comes as lone surrogates.
    with monkeypatch.context() as patch:
        patch.setenv("PAIGEANT_OPERATOR", operator)
        three("cancel", *selection, "--reason", reason, "--yes").ended(2).said(what, "gr\\udcf6sse", "no UTF-8")
    assert states(three) == {"w1": "queued", "w2": "queued", "w3": "queued"}
    assert three("audit", "--json").documents == []


def test_results_a_line_each_and_the_summary(three: Cli) -> None:
    done = three("dead-letter", "w1", "w2", "--reason", "broken", "--yes", "--json").ended(0)
    first, second, summary = done.documents
    assert first == {"schema": 1, "correlation_id": "w1", "outcome": "done", "reason": None}
    assert second["correlation_id"] == "w2"
    operation = summary.pop("operation_id")
    assert summary == {"schema": 1, "summary": True, "matched": 2, "done": 2, "skipped": 0, "failed": 0}
    assert states(three) == {"w1": "dead", "w2": "dead", "w3": "queued"}
    assert three("audit", "--json").document["operation_id"] == operation

    done = three("dead-letter", "w1", "w3", "--reason", "again", "--yes", "--json").ended(1)
    assert [found["outcome"] for found in done.documents[:2]] == ["skipped", "done"]
    assert done.documents[0]["reason"] == "it is dead"
    assert done.documents[2]["skipped"] == 1

    human = three("retry", "w1", "w2", "--reason", "mended", "--yes").ended(0)
    assert human.out == "w1  done\nw2  done\n"
    assert "will retry (dead at a, hop 1)" in human.err
    assert states(three) == {"w1": "queued", "w2": "queued", "w3": "dead"}


def test_where_selects(three: Cli) -> None:
    done = three("dead-letter", "--where", "payload.n:>=2", "--reason", "x", "--yes", "--json").ended(0)
    assert {found["correlation_id"] for found in done.documents[:-1]} == {"w2", "w3"}
    three("retry", "--where", "*", "--reason", "x", "--yes").ended(0)
    three("retry", "--where", "state:held", "--reason", "x", "--yes").ended(3).said(
        "nothing matched --where 'state:held'"
    )
    three("retry", "--where", "stat:held", "--reason", "x", "--yes").ended(2).said("is state meant?")


@pytest.mark.parametrize("flag", ["--url", "--topic", "--context"])
def test_a_flag_that_is_empty_is_refused_and_nothing_is_done_elsewhere(
    three: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    with monkeypatch.context() as patch:
        (tmp_path / "c.toml").write_text(f"context='c'\n[contexts.c]\nurl='{os.environ['PAIGEANT_URL']}'\n")
        patch.setenv("PAIGEANT_CONFIG", "c.toml")
        patch.setenv("PAIGEANT_TOPIC", "workflows")
        words = ("cancel", "--where", "*", "--reason", "x", "--yes")
        for line in ((flag, "", *words), (*words, flag, ""), (flag, "workflows", *words, flag, "")):
            three(*line).ended(2).said(f"{flag} is empty", "give it a value, or leave it out")
    assert states(three) == {"w1": "queued", "w2": "queued", "w3": "queued"}


def test_where_selects_by_a_number_as_show_has_it(three: Cli) -> None:
    three("dispatch", "a", "--id", "priced", "--var", "amt=1.10").ended(0)
    assert '"amt":1.10' in three("show", "priced", "--json").out
    (found,) = three("list", "--json", "payload.amt:1.10").ended(0).documents
    assert found["correlation_id"] == "priced"
    three("cancel", "--where", "!payload.amt:1.10", "--reason", "x", "--yes").ended(0)
    assert {name for name, state in states(three).items() if state == "queued"} == {"priced"}


def test_prefixes_stand_for_one_workflow(three: Cli) -> None:
    three("dispatch", "a", "--id", "3f2a").ended(0)
    assert three("retry", "3f", "--reason", "x", "--yes", "--json").ended(0).documents[0]["correlation_id"] == "3f2a"
    three("retry", "w", "--reason", "x", "--yes").ended(2).said("more than one ID: w1, w2, w3", "write more of it")
    three("retry", "w1", "zz", "--reason", "x", "--yes").ended(3).said("no workflow 'zz'", "list shows")
    assert states(three)["w1"] == "queued"
    assert three("audit", "--json").documents[-1]["targets"] == 1  # of the first retry


def test_an_edited_payload_that_breaks_the_activitys_model_is_refused(three: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b"{}")

    class Order(pydantic.BaseModel):
        n: Annotated[int, pydantic.Field(lt=3)]

    announced = {"a": PayloadModel("a", Order).schema()}
    asyncio.run(get_transport(os.environ["PAIGEANT_URL"]).announce("workflows", announced))
    three("hold", "w3", "--reason", "x", "--yes").ended(0)
    for words, rule in (
        (("replay", "w1", "w2", "--var", "n=hunter2"), "payload.n must be of type integer"),
        (("replay", "w1", "w2", "--payload", "p.json"), "payload.n is missing"),
        (("release", "w3", "--var", "n=3"), "payload.n must be below 3"),
    ):
        done = three(*words, "--reason", "x", "--yes", "--json").ended(1)
        *results, summary = done.documents
        assert {(found["outcome"], found["reason"]) for found in results} == {
            ("skipped", f"{rule}, by the payload model of a")
        }
        assert summary["done"] == 0
        assert "hunter2" not in done.out + done.err
        assert states(three) == {"w1": "queued", "w2": "queued", "w3": "held"}
        assert [found["run"] for found in three("list", "--json").documents] == [1, 1, 1]
    three("release", "w3", "--var", "n=2", "--reason", "x", "--yes").ended(0)
    # Nobody edited it: whether it fits is up to its worker.
    three("replay", "w1", "w3", "--reason", "x", "--yes").ended(0)


def test_replay_from_a_step_with_another_payload(three: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b'{"n": 1.50}')
    three("replay", "w1", "--reason", "x", "--yes", "--payload", "p.json", "--var", "m=[1]", "--from-step", "1").ended(
        0
    )
    document = three("show", "w1", "--json").document
    assert (document["run"], document["epoch"], document["payload"]) == (2, 2, {"n": 1.5, "m": [1]})
    three("replay", "w1", "--reason", "x", "--yes", "--from-step", "a").ended(0)
    assert three("show", "w1", "--json").document["payload"] == {"n": 1.5, "m": [1]}
    done = three("replay", "w1", "--reason", "x", "--yes", "--from-step", "b", "--json").ended(1)
    assert "step 'b' was not reached" in done.documents[0]["reason"]
    done = three("replay", "w1", "--reason", "x", "--yes", "--as-new", "--json").ended(0)
    new = done.documents[0]["new_correlation_id"]
    assert states(three)[new] == "queued"


@pytest.mark.parametrize("pace", [(), ("--rate", "100")])
def test_var_gives_a_value_as_it_was_written(three: Cli, pace: tuple[str, ...]) -> None:
    given = ("--var", "amt=1.10", "--var", "n=1E5", "--var", "long=0.12345678901234567890", "--var", 'o={"p": 1.50}')
    written = '{"n":1E5,"amt":1.10,"long":0.12345678901234567890,"o":{"p": 1.50}}'
    three("replay", "w1", "--reason", "x", "--yes", *pace, *given).ended(0)
    three("hold", "w2", "--reason", "x", "--yes").ended(0)
    three("release", "w2", "--reason", "x", "--yes", *pace, *given).ended(0)
    for workflow in ("w1", "w2"):
        assert f'"payload":{written}' in three("show", workflow, "--json").ended(0).out


def test_hold_release_and_undo(three: Cli) -> None:
    done = three("hold", "w1", "w2", "--reason", "wait", "--yes", "--json").ended(0)
    assert states(three) == {"w1": "held", "w2": "held", "w3": "queued"}
    three("release", "w1", "--var", "approved=true", "--reason", "fine", "--yes").ended(0)
    assert three("show", "w1", "--json").document["payload"] == {"n": 1, "approved": True}
    operation = done.documents[-1]["operation_id"]
    undone = three("undo", operation, "--reason", "wrong ones", "--yes", "--json").ended(1)
    assert {found["correlation_id"]: found["outcome"] for found in undone.documents[:-1]} == {
        "w1": "skipped",
        "w2": "done",
    }
    assert set(states(three).values()) == {"queued"}
    other = three("cancel", "w1", "--reason", "x", "--yes", "--json").ended(0).documents[-1]["operation_id"]
    three("undo", other[:8], "--reason", "x", "--yes").ended(0)
    assert states(three)["w1"] == "queued"
    other = three("hold", "w1", "--reason", "x", "--yes", "--json").ended(0).documents[-1]["operation_id"]
    assert states(three)["w1"] == "held"
    three("operations", "undo", other, "--reason", " ").ended(2).said("--reason")
    three("operations", "undo", other, "--reason", "x").ended(5).said("--yes")
    last = three("operations", "undo", other, "--reason", "x", "--yes", "--json").ended(0).documents[-1]
    assert (last["matched"], last["done"]) == (1, 1)
    assert states(three)["w1"] == "queued"
    last = three("cancel", "w1", "w2", "--reason", "x", "--yes", "--json").ended(0).documents[-1]["operation_id"]
    three("undo", last, "w2", "w3", "--reason", "x", "--yes").ended(3).said(
        f"operation {last} was done to no workflow 'w3'"
    )
    three("undo", last, "w", "--reason", "x", "--yes").ended(2).said("more than one")
    assert states(three) == {"w1": "cancelled", "w2": "cancelled", "w3": "queued"}
    line, summary = three("undo", last, "w2", "--reason", "x", "--yes", "--json").ended(0).documents
    assert (line["correlation_id"], line["outcome"], summary["matched"]) == ("w2", "done", 1)
    assert states(three) == {"w1": "cancelled", "w2": "queued", "w3": "queued"}
    three("undo", "nobody", "--reason", "x", "--yes").ended(3).said("no operation 'nobody'")
    three("undo", "--reason", "x", "--yes").ended(2).said("name the operation")


def test_the_slip_is_changed_and_the_workflow_ended(three: Cli) -> None:
    three("insert", "c", '{"name":"d","arguments":{"k":1}}', "--id", "w1", "--reason", "x", "--yes").ended(0)
    slip = three("show", "w1", "--json").document["itinerary"]
    assert [step["name"] for step in slip] == ["a", "c", "d", "b"]
    assert slip[2]["arguments"] == {"k": 1}
    three("insert", "--id", "w1", "--reason", "x", "--yes").ended(2).said("name the steps")
    three("insert", "not a name", "--id", "w1", "--reason", "x", "--yes").ended(2)
    three("skip", "w1", "--reason", "x", "--yes").ended(0)
    assert three("show", "w1", "--json").document["step"] == "c"
    three("cancel", "w1", "--reason", "x", "--yes").ended(0)
    three("compensate", "w2", "--reason", "x", "--yes").ended(0)
    three("dead-letter", "w3", "--reason", "x", "--yes").ended(0)
    three("restore", "w3", "--reason", "x", "--yes").ended(0)
    assert states(three) == {"w1": "cancelled", "w2": "compensated", "w3": "queued"}
    assert (
        three("cancel", "w1", "--reason", "x", "--yes", "--json").ended(1).documents[0]["reason"] == "it is cancelled"
    )


def test_a_dry_run_does_nothing(three: Cli) -> None:
    three("dead-letter", "w2", "--reason", "x", "--yes").ended(0)
    before = three("tail", "--no-follow", "--json").out, three("audit", "--json").out
    done = three("dead-letter", "w1", "w2", "--reason", "x", "--dry-run", "--json").ended(1)
    first, second, summary = done.documents
    assert first["outcome"] == "done"
    assert first["reason"] == "dry run: would dead-letter (queued at a, hop 1)"
    assert second == {"schema": 1, "correlation_id": "w2", "outcome": "skipped", "reason": "dry run: it is dead"}
    assert summary["dry_run"] is True
    assert summary["operation_id"] is None
    assert three("retry", "w1", "--reason", "x", "--dry-run").ended(0).err.endswith("nothing was done\n")
    assert (three("tail", "--no-follow", "--json").out, three("audit", "--json").out) == before


@pytest.mark.parametrize("verb", VERBS)
def test_it_asks_for_a_reason_a_selection_and_a_confirmation(three: Cli, verb: str) -> None:
    if verb in ("release", "restore"):
        three({"release": "hold", "restore": "dead-letter"}[verb], "--where", "*", "--reason", "x", "--yes").ended(0)
    before, audited = states(three), three("audit", "--json").documents
    none, one = words(verb), words(verb, "w1")
    three(*one, "--yes").ended(2).said("--reason")
    three(*one, "--yes", "--reason", "  ").ended(2).said("--reason")
    three(*none, "--yes", "--reason", "x").ended(2).said("--where")
    three(*none, "--yes", "--reason", "x", "--where", " ").ended(2).said("--where")
    three(*one, "--yes", "--reason", "x", "--where", "w1").ended(2).said("not both")
    three(*one, "--reason", "x").ended(5).said("not confirmed: give --yes")
    three(*one, "--reason", "x" * 1001, "--yes").ended(5).said("1000 characters")
    three(*none, "--where", "*", "--reason", "x", "--yes", "--limit", "2").ended(5).said(
        "3 workflows matched", "--limit"
    )
    three(*one, "--reason", "x", "--yes", "--limit", "none").ended(2).said("--limit 'none'")
    assert states(three) == before
    *earlier, denied = three("audit", "--json").documents
    assert earlier == audited
    assert (denied["action"], denied["targets"]) == (verb, 3)
    assert denied["outcome"] == "denied: 3 workflows matched, the limit is 2"


@pytest.mark.parametrize("verb", [*VERBS, "undo"])
def test_read_only_comes_before_everything(
    three: Cli, verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    three(verb, "--read-only").ended(5).said("refused, --read-only was given")
    three("--read-only", verb, "w1", "--url", "nonsense://").ended(5).said("read-only")
    config = tmp_path / "config.toml"
    config.write_text("[contexts.safe]\nread_only = true\n", encoding="utf-8")
    monkeypatch.setenv("PAIGEANT_CONFIG", str(config))
    three(verb, "w1", "--reason", "x", "--yes", "--context", "safe").ended(5).said("context safe is read-only")
    config.write_text("nonsense", encoding="utf-8")
    monkeypatch.setenv("PAIGEANT_READ_ONLY", "yes")
    three(verb).ended(5).said("PAIGEANT_READ_ONLY is set")
    monkeypatch.setenv("PAIGEANT_CONFIG", str(tmp_path / "config2.toml"))
    (tmp_path / "config2.toml").touch()
    three("dispatch", "a").ended(5).said("PAIGEANT_READ_ONLY is set")
    three("worker", "none.py").ended(5).said("PAIGEANT_READ_ONLY is set")
    assert len(three("list", "--json").ended(0).documents) == 3


@pytest.fixture
def production(three: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    (tmp_path / "config.toml").write_text("context = 'prod'\n[contexts.prod]\nproduction = true\n", encoding="utf-8")
    monkeypatch.setenv("PAIGEANT_CONFIG", str(tmp_path / "config.toml"))
    return three


def test_production_asks_for_the_count_or_the_name(production: Cli) -> None:
    many = ("dead-letter", "--where", "*", "--reason", "x")
    production(*many, "--yes").ended(5).said("prod is production", "--confirm 3")
    production(*many).ended(5).said("--confirm 3")
    production(*many, "--yes", "--confirm", "2").ended(5).said("--confirm must be 3 or prod")
    assert set(states(production).values()) == {"queued"}
    production(*many, "--yes", "--confirm", "3").ended(0)
    production("retry", "w1", "--reason", "x", "--yes", "--confirm", "prod").ended(0)
    production("retry", "w2", "--reason", "x", "--confirm", "1").ended(0)
    assert states(production) == {"w1": "queued", "w2": "queued", "w3": "dead"}


def test_a_terminal_is_asked(here: Cli, environment: dict[str, str]) -> None:
    """With a real terminal, since what is asked depends on one."""
    for answer, code, state in (
        ("\n", 5, "queued"),
        ("\x04", 5, "queued"),
        ("y\n", 0, "dead"),
        ("\x03", 130, "queued"),
    ):
        assert _at_a_terminal(environment, answer) == (code, state), answer


def _at_a_terminal(environment: dict[str, str], answer: str) -> tuple[int, str]:
    """Dispatch, then dead-letter with a question, in one process at a pseudo-terminal."""
    program = (
        # Ctrl-C is a signal only at the terminal that a process is controlled by.
        "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from paigeant_console.cli import main\n"
        "import sys\n"
        "assert main(['dispatch', 'a', '--id', 'w1', '--url', 'memory://x']) == 0\n"
        "code = main(['dead-letter', 'w1', '--reason', 'x', '--url', 'memory://x'])\n"
        "main(['list', '--json', '--url', 'memory://x'])\n"
        "sys.exit(code)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 1024)
    os.write(ours, answer.encode())
    out, _ = process.communicate(timeout=40)
    os.close(ours)
    return process.returncode, "dead" if b'"state":"dead"' in out else "queued"


def test_the_operator_is_who_the_settings_say(three: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIGEANT_OPERATOR", "ann@desk")
    three("retry", "w1", "--reason", "x", "--yes").ended(0)
    assert three("audit", "--json").document["operator"] == "ann@desk"


def test_a_workflow_that_moved_meanwhile_is_left_alone(three: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    url = os.environ["PAIGEANT_URL"]
    kind = type(get_transport(url))
    original = kind.operate

    def retry_beside() -> None:
        async def go() -> None:
            operations = Operations(get_transport(url), operator="other")
            await operations.execute(await operations.plan(Retry(), ["w1"], reason="first"))

        asyncio.run(go())

    async def operate(self, topic, transition, **options):
        monkeypatch.setattr(kind, "operate", original)
        await asyncio.to_thread(retry_beside)
        return await original(self, topic, transition, **options)

    monkeypatch.setattr(kind, "operate", operate)
    done = three("retry", "w1", "--reason", "x", "--yes", "--json").ended(1)
    assert done.documents[0]["outcome"] == "failed"
    assert "moved meanwhile" in done.documents[0]["reason"]
    assert done.documents[1]["failed"] == 1


def test_what_production_refuses_is_put_on_record(three: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[contexts.prod]\nproduction = true\n", encoding="utf-8")
    monkeypatch.setenv("PAIGEANT_CONFIG", str(config))
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22")
    from paigeant_core.operations.audit import whereabouts

    whereabouts.cache_clear()
    prod = ("--context", "prod", "--reason", "tidy up")
    three("cancel", "--where", "*", *prod, "--yes").ended(5).said("prod is production")
    three("cancel", "--where", "*", *prod, "--yes", "--confirm", "2").ended(5).said("--confirm must be 3 or prod")
    three("cancel", "--where", "*", *prod, "--yes", "--dry-run", "--limit", "1").ended(5)
    three("cancel", "--where", "id:w1", *prod, "--confirm", "1").ended(0)
    one, two, done = three("audit", "--full", "--json").documents
    assert (one["allowed"], two["allowed"], done["allowed"]) == (False, False, True)
    assert one["outcome"].startswith("denied: not confirmed: prod is production")
    assert (one["targets"], one["selection"], one["reason"]) == (3, "*", "tidy up")
    assert (done["selection"], done["before"], done["after"]) == ("id:w1", {"queued": 1}, {"cancelled": 1})
    assert done["workflows"] == [{"correlation_id": "w1", "before": "queued", "after": "cancelled", "outcome": "done"}]
    assert done["from"]["ssh"] == "192.0.2.7"
    assert "queued 1" in three("audit", "--full").out
    whereabouts.cache_clear()


def test_a_delay_arms_an_operation(three: Cli) -> None:
    three("cancel", "w1", "--reason", "x", "--yes", "--delay", "soon").ended(2).said("--delay 'soon'", "90s")
    three("cancel", "w1", "--reason", "x", "--yes", "--delay", "2d").ended(2).said("delay", "86400")
    done = three("cancel", "w1", "w2", "--reason", "x", "--yes", "--delay", "100ms").ended(0)
    assert "until then this calls it off: operations abort" in done.err
    assert states(three) == {"w1": "cancelled", "w2": "cancelled", "w3": "queued"}
    assert [entry["outcome"] for entry in three("audit", "--json").documents] == [
        "armed",
        "2 done, 0 skipped, 0 failed",
    ]


def test_a_replay_with_another_itinerary(three: Cli) -> None:
    done = three("replay", "w1", "--reason", "x", "--yes", "--step", "c", "--step", '{"name":"d","arguments":{"n":1}}')
    assert "no worker serves c now, so it will wait for one" in done.ended(0).err
    shown = three("show", "w1", "--json").ended(0).document
    assert shown["itinerary"] == [{"name": "c", "arguments": {}}, {"name": "d", "arguments": {"n": 1}}]
    three("replay", "w1", "--reason", "x", "--yes", "--step", "not a name").ended(2).said("activity name")


def test_operations_lists_also_what_was_done_at_once(three: Cli) -> None:
    done = three("hold", "w1", "w2", "--reason", "wait", "--yes", "--json").ended(0).documents[-1]
    three("hold", "w1", "--reason", "again", "--yes").ended(1)
    first, second = three("operations", "--json").ended(0).documents
    assert first["operation_id"] == done["operation_id"]
    assert [first[key] for key in ("action", "reason", "state", "targets", "done", "skipped", "failed")] == [
        *("hold", "wait", "finished"),
        *(2, 2, 0, 0),
    ]
    assert (second["done"], second["skipped"]) == (0, 1)
    assert "2/2" in three("operations").ended(0).out
    for order in ("pause", "resume", "abort"):
        three("operations", order, done["operation_id"][:8]).ended(5).said("is finished")


def test_orders_are_told_as_json_too(three: Cli) -> None:
    url, topic = os.environ["PAIGEANT_URL"], "workflows"

    async def start() -> str:
        operations = Operations(get_transport(url), topic, operator="ann")
        plan = await operations.plan(Retry(), ["w1", "w2"], reason="why")
        return (await operations.start(plan)).status.operation_id

    operation = asyncio.run(start())
    for order, state in (("pause", "paused"), ("abort", "aborted")):
        document = three("operations", order, operation, "--json").ended(0).document
        assert (document["operation_id"], document["state"], document["targets"]) == (operation, state, 2)


def test_a_step_that_was_skipped_in_a_replay_has_no_worker_of_an_earlier_run(three: Cli) -> None:
    url = os.environ["PAIGEANT_URL"]

    async def done_once() -> None:
        hands = Hands(get_transport(url), "workflows", "a")
        await hands.finish(await hands.take_one())
        await hands.consumer.close()

    asyncio.run(done_once())
    (ran,) = [found["correlation_id"] for found in three("list", "step:b", "--json").documents]
    assert three("show", ran, "--json").document["executed"][0]["worker"].startswith("hands-")
    three("replay", ran, "--from-step", "1", "--reason", "once more", "--yes").ended(0)
    three("skip", ran, "--reason", "not needed", "--yes").ended(0)
    (step,) = three("show", ran, "--json").document["executed"]
    assert step == {
        "name": "a",
        "attempt": 0,
        "worker": None,
        "started_at": None,
        "completed_at": None,
        "duration_s": None,
    }
