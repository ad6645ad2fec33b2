"""A key in a real ssh-agent signs records that everybody verifies, and never leaves the agent."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from paigeant_core.errors import ConfigError
from paigeant_core.security.chain import verify
from paigeant_core.security.keys import import_jwk
from paigeant_core.security.records import Operation, sign
from paigeant_core.security.ssh_agent import AgentKey, document_of, identities, key_in_agent, public_line
from paigeant_core.security.trust import Principal, Trust, TrustedKey
from tests.core.security.kit import AT, People, Story, names
from tests.ssh_agent import ssh_agent


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with ssh_agent(tmp_path_factory.mktemp("a")) as found:
        yield found


def trusting(people: People, public: bytes, *roles: str) -> Trust:
    key = import_jwk(dict(document_of(public)))
    ann = Principal(name="agent", roles=names(*roles), operations=names("*"))
    known = TrustedKey(kid=key.thumbprint(), algorithm="Ed25519", key=key, principal=ann)
    return Trust([*people.trust().keys.values(), known], people.audience)


def test_what_it_signs_is_a_record_like_any_other(agent: tuple[str, Path], people: People) -> None:
    path, file = agent
    public = public_line(file.read_text())
    assert [(found.public, found.comment) for found in identities(path)] == [(public, "ann@desk")]
    trust = trusting(people, public, "operator")
    key = key_in_agent(path, trust, "operator")
    assert isinstance(key, AgentKey)
    assert (key.name, key.audience, key.algorithm) == ("agent", "test", "Ed25519")
    story = Story(people).started()
    chain = story.verify()
    claims = Operation(
        iss="agent",
        iat=AT,
        wf=story.workflow,
        n=chain.length,
        ep=2,
        prev=chain.head,
        before=chain.payload,
        out=chain.payload,
        op="retry",
        reason="because",
    )
    whole = verify([*story.records, sign(key, claims)], trust, AT)
    assert (whole.signer, whole.kid) == ("agent", key.kid)


def test_only_a_key_that_the_policy_gives_the_role_is_taken(agent: tuple[str, Path], people: People) -> None:
    path, file = agent
    assert key_in_agent(path, people.trust(), "operator") is None
    assert key_in_agent(path, trusting(people, public_line(file.read_text()), "operator"), "worker") is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        struct.pack(">I", 0),
        struct.pack(">IB", 1, 5),
        struct.pack(">IBI", 5, 12, 1),
        struct.pack(">IBII", 9, 12, 1, 0xFFFFFFFF),
        struct.pack(">IB", 0xFFFFFFFF, 12),
    ],
)
def test_an_agent_that_answers_nonsense_gets_a_sentence(tmp_path: Path, answer: bytes) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            line, _ = server.accept()
            with line:
                line.recv(1024)
                line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ConfigError, match="ssh-agent"):
            identities(path)
        thread.join(timeout=10)
    with pytest.raises(ConfigError, match="no ssh-agent answers"):
        identities(str(tmp_path / "nowhere"))
