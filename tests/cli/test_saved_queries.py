"""Saved queries: `@NAME` stands for what config.toml says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paigeant_console.model.query import MAX_TERMS, QueryError, parse, use_saved
from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def nothing_saved() -> Iterator[None]:
    yield
    use_saved({})


def test_a_name_stands_for_its_query() -> None:
    use_saved({"stale": "state:dead OR state:held", "mine": "@stale name:order"})
    assert parse("!@stale x") == parse("!(state:dead OR state:held) x")
    assert parse("@mine") == parse("(state:dead OR state:held) name:order")
    # Text is text: an address, or what stands in quotes.
    assert parse("@example.com") == parse('"@example.com"')
    assert parse('"@stale"') != parse("@stale")


def test_what_cannot_be_is_said_with_its_position() -> None:
    use_saved({"stale": "stat:dead", "self": "@self", "many": " ".join(["x"] * 60)})
    with pytest.raises(QueryError, match=r"no saved query '@stael' at character 3; is @stale meant\?"):
        parse("x @stael")
    with pytest.raises(QueryError, match=r"in the saved @stale: .* at character 1"):
        parse("@stale")
    with pytest.raises(QueryError, match="in the saved @self: no saved query '@self'"):
        parse("@self")
    with pytest.raises(QueryError, match=f"more than {MAX_TERMS} terms"):
        parse("@many @many")
    use_saved({"moved": "kind:advanced"})
    assert parse("@moved", "record") == parse("kind:advanced")
    with pytest.raises(QueryError, match="in the saved @moved: a workflow has no kind"):
        parse("!@moved", "workflow")
    use_saved({})
    with pytest.raises(
        QueryError, match=r"no saved query '@stale' .*; none is saved here; for the text write \"@stale\""
    ):
        parse("!@stale")


def test_they_are_in_the_configuration(here: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    monkeypatch.setenv("PAIGEANT_CONFIG", str(config))
    config.write_text('[queries]\nfirst = "id:w1"\n', encoding="utf-8")
    for name in ("w1", "w2"):
        here("dispatch", "a", "--id", name).ended(0)
    assert [row["correlation_id"] for row in here("list", "@first", "--json").ended(0).documents] == ["w1"]
    here("hold", "--where", "!@first", "--reason", "x", "--yes").ended(0)
    assert here("audit", "--full", "--json").document["selection"] == "!@first"
    here("list", "@frist").ended(2).said("is @first meant?")
    config.write_text("[queries]\nfirst = 5\n", encoding="utf-8")
    here("list").ended(2).said("queries.first must be text in quotes")
    config.write_text('[queries]\n"a b" = "x"\n', encoding="utf-8")
    here("list").ended(2).said("a name is letters, digits")
