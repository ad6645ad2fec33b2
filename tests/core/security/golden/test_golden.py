"""The golden chains are what the script makes, and are verified from the files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paigeant_core.errors import MessageError
from paigeant_core.message import PaigeantMessage
from paigeant_core.security.account import VALID, account
from paigeant_core.security.hop import Guard
from paigeant_core.security.keys import SigningKey, algorithm_of, import_jwk
from paigeant_core.security.refusal import Code
from paigeant_core.security.trust import Principal, Trust, TrustedKey
from paigeant_core.transports.types import Copy, Witness
from tests.core.security.golden.make import files

HERE = Path(__file__).parent
CASES = {path.stem: json.loads(path.read_text()) for path in sorted(HERE.glob("*-*.json")) if "policy" not in path.stem}


def policy(case: dict[str, Any]) -> Trust:
    document = json.loads((HERE / f"policy-{case['algorithm']}.json").read_text())
    keys = []
    for item in document["principals"]:
        lists = {field: frozenset(item.get(field, ())) for field in ("activities", "operations", "inserts")}
        principal = Principal(name=item["name"], roles=frozenset(item["roles"]), **lists)
        for jwk in item["keys"]:
            key = import_jwk(jwk)
            validity = case.get("validity", {}).get(principal.name, {})
            kid, algorithm = key.thumbprint(), algorithm_of(key)
            keys.append(TrustedKey(kid=kid, algorithm=algorithm, key=key, principal=principal, **validity))
    return Trust(keys, document["audience"], flagged=case.get("flagged", ()))


def judged(case: dict[str, Any]) -> str:
    """What a worker makes of it, in its order."""
    guard = Guard(SigningKey.generate("nobody"), policy(case), [])
    try:
        message = PaigeantMessage.decode(case["message"].encode())
        if message.headers.activity != case["queue"]:
            return "malformed"
        guard.verify(message, case["now"])
        guard.check_witness(message, Witness(Copy.UNKNOWN, case.get("mark", "")))
    except MessageError as refused:
        return refused.code
    return "valid"


@pytest.mark.parametrize("name", CASES)
def test_a_golden_chain_gets_the_verdict_that_stands_in_it(name: str) -> None:
    case = CASES[name]
    assert judged(case) == case["result"]
    assert name.startswith(case["result"])
    told = account(case["message"].encode(), policy(case), case["now"], case["now"]).status
    if case["result"] == "valid":
        assert told == VALID


def test_there_are_enough_of_each() -> None:
    assert len(CASES) >= 40
    assert {case["result"] for case in CASES.values()} == {"valid", *map(str, Code)}
    assert {case["algorithm"] for case in CASES.values()} == {"Ed25519", "ES256"}


def test_the_files_are_what_the_script_makes() -> None:
    found = {path.name: path.read_text(encoding="ascii") for path in HERE.glob("*.json")}
    assert found == files(), "run python -m tests.core.security.golden.make, and say in the changelog what changed"
