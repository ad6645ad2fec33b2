"""Keys by URL and a policy that changes: limits, the last good ones kept, and what is revoked counts no more."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from paigeant_core import PaigeantMessage, State, Worker, WorkflowDispatcher
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import ConfigError
from paigeant_core.security import jwks, trust
from paigeant_core.security.hop import Guard, sign_origin
from paigeant_core.security.jwks import JwkSets, check_url
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.refusal import VerificationError
from paigeant_core.security.trust import Trust
from paigeant_core.transition import Place, Span
from tests.core.bench import Bench
from tests.core.security.test_intervention import serve

SHOP, CREW, NEXT = (SigningKey.generate(name) for name in ("shop", "crew", "shop"))


class Publisher:
    """A server of this test's own that publishes a set, or misbehaves; ``tls``: by https."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked = 0
        self.status = 200
        self.delay = 0.0
        self.body = b""
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked += 1
                time.sleep(publisher.delay)
                self.send_response(publisher.status)
                if publisher.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(publisher.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls is not None else ''}://127.0.0.1:{self.server.server_port}/keys"

    def publish(self, *keys: SigningKey) -> None:
        self.status, self.body = 200, json.dumps({"keys": [key.public_document() for key in keys]}).encode()


@contextmanager
def publishing(tls: ssl.SSLContext | None = None) -> Iterator[Publisher]:
    made = Publisher(tls)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join(timeout=10)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as made:
        yield made


def write(folder: Path, shop: str) -> Path:
    crew = CREW.public_document()["x"]
    path = folder / "trust.toml"
    path.write_text(
        f'[[principal]]\nname = "shop"\nroles = ["dispatcher"]\n{shop}\n'
        '[[principal]]\nname = "crew"\nroles = ["worker"]\nactivities = ["*"]\n'
        f'keys = [{{ kty = "OKP", crv = "Ed25519", x = "{crew}" }}]\n'
    )
    return path


def key_line(key: SigningKey, more: str = "") -> str:
    return f'keys = [{{ kty = "OKP", crv = "Ed25519", x = "{key.public_document()["x"]}"{more} }}]'


@pytest.mark.parametrize("misbehaving", ["500", "302", "too large", "no set", "slow", "gone"])
def test_the_last_good_set_is_kept(publisher: Publisher, misbehaving: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    sets = JwkSets(lambda: now[0])
    publisher.publish(SHOP)
    (good,) = sets.keys(publisher.url)
    if misbehaving in ("500", "302"):
        publisher.status = int(misbehaving)
    elif misbehaving == "slow":
        monkeypatch.setattr(jwks, "WITHIN", 0.1)
        publisher.delay = 0.5
    elif misbehaving == "gone":
        publisher.server.socket.close()
    else:
        publisher.body = b"x" * (jwks.MAX_SET + 1) if misbehaving == "too large" else b"[]"
    now[0] += jwks.APART
    assert sets.keys(publisher.url) == [good]
    assert publisher.url in sets.problems[publisher.url]
    with pytest.raises(ConfigError):
        JwkSets().keys(publisher.url)


def test_a_url_is_asked_once_a_minute_whoever_wants_to_know(publisher: Publisher) -> None:
    now = [0.0]
    sets = JwkSets(lambda: now[0])
    publisher.status = 500
    for _ in range(5):
        with pytest.raises(ConfigError, match="answered 500"):
            sets.keys(publisher.url)
    publisher.publish(SHOP, CREW)
    now[0] += jwks.APART
    for _ in range(5):
        assert len(sets.keys(publisher.url)) == 2
    assert publisher.asked == 2


@pytest.mark.parametrize(
    "url", ["http://example.org/keys", "ftp://example.org", "https://", "https://ann@example.org/keys", "http://[::1"]
)
def test_keys_are_not_fetched_in_clear(url: str) -> None:
    with pytest.raises(ConfigError, match="jwks"):
        check_url(url)


async def test_a_key_that_is_published_later_counts_and_one_that_is_revoked_does_not(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(SHOP)
    policy = Trust.load(write(tmp_path, f'jwks = "{publisher.url}"'))
    bench = Bench()
    worker = Worker(bench.topic, transport=bench.transport, signer=CREW, trust=policy, drain=5)
    serve(worker)
    monkeypatch.setattr(trust, "RENEW_EVERY", 0.0)
    monkeypatch.setattr(jwks, "APART", 0.0)

    async def dispatch(key: SigningKey) -> str:
        return await WorkflowDispatcher(bench.transport, signer=key).dispatch_workflow(
            ["notify"], {}, topic=bench.topic
        )

    async with bench.serving(worker):
        await bench.reaches(await dispatch(SHOP), State.COMPLETED)
        publisher.publish(SHOP, NEXT)
        await bench.reaches(await dispatch(NEXT), State.COMPLETED)
        write(tmp_path, key_line(NEXT, ", revoked_at = 2026-01-01T00:00:00Z"))
        await dispatch(NEXT)

        async def quarantined() -> bool:
            return bool(await bench.transport.parked(bench.topic, Place.QUARANTINE))

        await bench.until(quarantined, "quarantine")
    (record,) = await bench.transport.parked(bench.topic, Place.QUARANTINE)
    assert record.detail["code"] == "revoked"


def test_a_policy_that_cannot_be_read_any_more_stays_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, key_line(SHOP))
    policy = Trust.load(path)
    before = dict(policy.keys)
    for text in ("no toml [", 'audience = "other"\n' + path.read_text()):
        path.write_text(text)
        with pytest.raises(ConfigError):
            policy.renew()
        assert policy.keys == before
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="others can change it"):
        policy.renew()


def test_a_key_that_is_revoked_while_a_step_runs_is_found_out_at_the_next(tmp_path: Path) -> None:
    policy = Trust.load(write(tmp_path, key_line(SHOP)))
    guard = Guard(CREW, policy, ["notify"])
    message = new_workflow(["notify", "notify"], {}, topic="t", at=time.time())
    sign_origin(message, SHOP, time.time())
    guard.verify(message, time.time())
    write(tmp_path, key_line(SHOP, ", revoked_at = 2026-01-01T00:00:00Z"))
    policy.renew()
    span = Span(worker="w", started_at=time.time(), completed_at=time.time())
    body = guard.signed(moves.done(message, None, span), message, span, message.encode()).record.body
    assert body is not None
    with pytest.raises(VerificationError, match="revoked"):
        guard.verify(PaigeantMessage.decode(body), time.time())
