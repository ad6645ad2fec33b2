"""A trust policy that changes while the console is open."""

from __future__ import annotations

from pathlib import Path

import pytest

from paigeant_console.model.status import feed_sentence
from paigeant_core import WorkflowDispatcher
from paigeant_core.security import trust
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Trust
from tests.console.appkit import console
from tests.console.feedkit import PATIENCE, live, running
from tests.console.story import Story

SHOP = SigningKey.generate("shop")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "RENEW_EVERY", 0.01)


def write(folder: Path, more: str = "") -> Path:
    """A policy that knows the shop; ``more`` is said of its key."""
    path = folder / "trust.toml"
    fresh = folder / "fresh"
    fresh.write_text(
        '[[principal]]\nname = "shop"\nroles = ["dispatcher"]\n'
        f'keys = [{{ kty = "OKP", crv = "Ed25519", x = "{SHOP.public_document()["x"]}"{more} }}]\n'
    )
    # In one stroke, as an editor does it: half of a file is none.
    return fresh.replace(path)


REVOKED = ", revoked_at = 2026-01-01T00:00:00Z"


def test_what_is_revoked_meanwhile_is_revoked_and_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    policy, story = Trust.load(write(tmp_path)), Story()
    with running(story, trust=policy) as feed:
        live(feed, story)
        version = feed.version
        assert feed.status().policy == ""
        write(tmp_path, REVOKED)
        assert feed.wait(lambda: policy.keys[SHOP.kid].revoked, PATIENCE)
        assert feed.wait(lambda: feed.version > version, PATIENCE)
        (tmp_path / "trust.toml").chmod(0o666)
        assert feed.wait(lambda: feed.status().policy != "", PATIENCE)
        said = feed_sentence(feed.status(), feed.now())
        assert said is not None
        assert "the trust policy stays as it was" in said
        assert "others can change it" in said
        assert policy.keys[SHOP.kid].revoked
        write(tmp_path)
        assert feed.wait(lambda: feed.status().policy == "", PATIENCE)
        assert feed_sentence(feed.status(), feed.now()) is None
        assert not policy.keys[SHOP.kid].revoked


async def test_a_workflow_that_is_looked_at_is_judged_anew(tmp_path: Path) -> None:
    policy, story = Trust.load(write(tmp_path)), Story()
    dispatching = WorkflowDispatcher(story.transport(), signer=SHOP).dispatch_workflow(
        ["charge"], {"amount": 5}, topic=story.topic, correlation_id="order-1"
    )
    story._do(dispatching)
    async with console(story, tmp_path, trust=policy) as opened:
        await opened.press("enter")
        await opened.shows("valid")
        write(tmp_path, REVOKED)
        await opened.shows("revoked")
