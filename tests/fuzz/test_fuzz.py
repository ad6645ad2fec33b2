"""A short run of every fuzz target, the same each time; `make fuzz` runs them at length."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice

import pytest

from paigeant_core.capsule import Capsule
from paigeant_core.message import PaigeantMessage
from paigeant_core.transports.redis import encoding
from tests.fuzz import codecs
from tests.fuzz.mutate import inputs
from tests.fuzz.targets import all_targets

TARGETS = all_targets()
FINDINGS = {
    # What long runs found, so that it is never found again.
    "capsule": [data.replace(b'"at": 1.0', b'"at": -7') for data in codecs.CAPSULES]
    + [data.replace(b'"at": 1.0', b'"at": 1e300') for data in codecs.CAPSULES],
    "claims": [b'{"iss":"payments","iat":1' + b"0" * 400 + b',"wf":"order-1"}'],
    "jwk": [b'{"kty":"OKP","crv":"Ed25519","x":"uw","d":"ZcRa7-oSpDAiE8AuMO-iCZePk04hySsW0IZU-AbvDiU"}'],
    "rabbitmq": [b"\x00\x1a\x00<" + bytes(11) + b"\x20\x00" + b"\x00\x00\x00\x08\x01rS\x00\x00\x00\x01\xff"],
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_is_read_breaks_its_reader(name: str) -> None:
    target = TARGETS[name]
    for data in [*FINDINGS.get(name, ()), *islice(inputs(target.seeds, target.words, seed=0), 400)]:
        target.check(data)


def test_a_run_begins_with_what_readers_take() -> None:
    """Of seeds that are refused at the door nothing behind it is ever reached."""
    for body in codecs.MESSAGES[:2]:
        assert PaigeantMessage.decode(body).records is not None
    for data in codecs.CAPSULES:
        assert len(Capsule.decode(data).records) == 2
    for data in codecs.ENTRIES[2:5]:
        assert encoding.records_of([[b"1000-0", data.split(b"\0")]])


def test_a_finding_is_told_and_kept() -> None:
    code = (
        "import sys; from tests.fuzz import targets, __main__ as run\n"
        "def check(data): assert data != b'b'\n"
        "targets.all_targets = lambda: {'x': targets.Target('x', check, [b'a', b'b'])}\n"
        "sys.argv[1:] = ['--one', '--engine', 'seeds', 'x']\n"
        "sys.exit(run.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "executed 1\nthe input is in " in done.stdout
