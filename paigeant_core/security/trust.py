"""Whose signature counts for what: a policy that lies beside the program, never in a message.

    audience = "production"

    [[principal]]
    name = "shop"
    roles = ["dispatcher"]
    keys = [
      { kty = "OKP", crv = "Ed25519", x = "…", not_after = 2027-01-01T00:00:00Z },
      { kty = "OKP", crv = "Ed25519", x = "…", not_before = 2026-12-01T00:00:00Z },
    ]

    [[principal]]
    name = "payments"
    roles = ["worker"]
    activities = ["charge", "refund"]   # or ["*"]
    inserts = ["review"]                # steps that its handlers may put into an itinerary
    jwks = "payments.json"              # more keys, as a JWK set beside this file, or by https

    [[principal]]
    name = "ann"
    roles = ["operator"]
    operations = ["retry", "replay"]
    keys = [{ kty = "OKP", crv = "Ed25519", x = "…", revoked_at = 2026-11-03T12:00:00Z }]

A key that is replaced stays, with ``not_after``: what it signed until then goes on. A
key that was stolen gets ``revoked_at``: whoever has it can date back what it signs, so
nothing that it ever signed is believed.
"""

from __future__ import annotations

import asyncio
import logging
import time
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from joserfc.jwk import ECKey, OKPKey

from paigeant_core.errors import ConfigError
from paigeant_core.names import is_name
from paigeant_core.security.keys import BAD_KEY, algorithm_of, check_audience, check_principal, import_jwk, read_guarded

if TYPE_CHECKING:
    from paigeant_core.security.chain import Chain
    from paigeant_core.security.jwks import JwkSets
    from paigeant_core.security.keys import Signer

logger = logging.getLogger("paigeant")

MAX_TRUST_FILE: Final = 1024 * 1024
"""Bytes of a trust.toml or a JWK set."""

RENEW_EVERY: Final = 60.0
"""Seconds between two looks at the policy's files and sets, at least."""

MAX_KNOWN: Final = 1024
"""Verified chains that are remembered."""

ROLES: Final = ("dispatcher", "worker", "operator")

_ANY: Final = "*"
_LISTS: Final[Mapping[str, str]] = {"activities": "worker", "inserts": "worker", "operations": "operator"}
"""Lists of a principal, and the role that each belongs to."""
_PRINCIPAL: Final = frozenset({"name", "roles", "keys", "jwks", *_LISTS})
_TIMES: Final = ("not_before", "not_after", "revoked_at")
_JWK: Final = frozenset({"kty", "crv", "x", "y", "kid", "alg", "use", "key_ops", "ext"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who may do what. ``*`` in a list stands for all."""

    name: str
    roles: frozenset[str]
    activities: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    inserts: frozenset[str] = frozenset()

    def may_run(self, activity: str) -> bool:
        """Whether its steps of ``activity`` count."""
        return _allowed(activity, self.activities)

    def may_operate(self, operation: str) -> bool:
        """Whether its operations called ``operation`` count."""
        return _allowed(operation, self.operations)

    def may_insert(self, activity: str) -> bool:
        """Whether a step of it may put ``activity`` into an itinerary."""
        return _allowed(activity, self.inserts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key, whose it is, and when it counts (seconds since the Unix epoch)."""

    kid: str
    algorithm: str
    key: OKPKey | ECKey = field(repr=False, compare=False)  # the kid is its thumbprint
    principal: Principal
    not_before: float = 0.0
    not_after: float = float("inf")
    revoked: bool = False


class Memory:
    """Chains that were verified, by the digest of their records, so that these need not be verified again."""

    __slots__ = ("_chains",)

    def __init__(self) -> None:
        self._chains: OrderedDict[bytes, Chain] = OrderedDict()

    def find(self, digest: bytes) -> Chain | None:
        """The chain with this digest; None: it was not verified, or is forgotten."""
        return self._chains.get(digest)

    def keep(self, digest: bytes, chain: Chain) -> None:
        """Remember a chain; the oldest of too many is forgotten."""
        self._chains[digest] = chain
        if len(self._chains) > MAX_KNOWN:
            self._chains.popitem(last=False)


class Trust:
    """A policy: the keys that count, and for what.

    Args:
        keys: the keys; of each principal at least one.
        audience: the environment; records signed for another one do not count.
        flagged: activities at which an operation takes a second operator; ``*`` stands for all.
        approve_over: how many workflows one operator alone may act on at once; None: any.

    Raises:
        ConfigError: the same key twice.
    """

    def __init__(
        self,
        keys: Iterable[TrustedKey],
        audience: str = "",
        *,
        flagged: Iterable[str] = (),
        approve_over: int | None = None,
    ) -> None:
        self.audience = audience
        self.flagged = frozenset(flagged)
        self.approve_over = approve_over
        self.keys: dict[str, TrustedKey] = {}
        for key in keys:
            if key.kid in self.keys:
                raise ConfigError(f"key {key.kid} stands twice: a key belongs to one principal, once")
            self.keys[key.kid] = key
        self.changes = 0
        """Rises with each change that :meth:`renew` found."""
        self.problem = ""
        """Why the last look at its files and sets left something as it was; empty: it did not."""
        self.memory = Memory()
        """Of what was verified under it as it is now; another one after each change."""
        self._path: Path | None = None
        self._sets: JwkSets | None = None
        self._renewed_at = 0.0

    @classmethod
    def load(cls, path: str | Path) -> Trust:
        """The policy in a trust.toml.

        Raises:
            ConfigError: it, or a JWK set that it names, cannot be read, can be changed by
                others, or says what cannot be.
        """
        from paigeant_core.security.jwks import JwkSets

        sets = JwkSets()
        trust = cls._read(Path(path), sets)
        trust._path, trust._sets, trust._renewed_at = Path(path), sets, time.monotonic()
        return trust

    def renew(self) -> None:
        """Read the policy anew, where it came from a file: keys that were added, ended or revoked since then count so.

        It blocks. What cannot be read leaves the policy as it was.

        Raises:
            ConfigError: see :meth:`load`; or it is for another audience by now.
        """
        if self._path is None or self._sets is None:
            return
        fresh = self._read(self._path, self._sets)
        if fresh.audience != self.audience:
            raise ConfigError(f"{self._path}: it is for audience {fresh.audience or 'none'} by now: start anew")
        if (fresh.flagged, fresh.approve_over, fresh.keys) != (self.flagged, self.approve_over, self.keys):
            self.flagged, self.approve_over, self.keys = fresh.flagged, fresh.approve_over, fresh.keys
            # After the keys: who took the old memory may have the old keys, and who takes the new one has the new.
            self.memory = Memory()
            self.changes += 1

    async def renewed(self) -> bool:
        """Renew it beside the loop, once a minute at most; whether it was. :attr:`problem` and the log say why not."""
        if self._path is None or time.monotonic() - self._renewed_at < RENEW_EVERY:
            return False
        self._renewed_at = time.monotonic()
        try:
            await asyncio.to_thread(self.renew)
        except ConfigError as error:
            self.problem = f"the trust policy stays as it was: {error}"
            logger.error("%s", self.problem)
            return False
        problems = self._sets.problems.values() if self._sets is not None else ()
        self.problem = "; ".join(f"the keys of before stay in force: {problem}" for problem in problems)
        if self.problem:
            logger.warning("%s", self.problem)
        return True

    async def keep_renewed(self, told: Callable[[], None]) -> None:
        """Renew it again and again, for as long as this is awaited; ``told`` is called when there is news."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            before = self.changes, self.problem
            await self.renewed()
            if (self.changes, self.problem) != before:
                told()

    @classmethod
    def _read(cls, path: Path, sets: JwkSets) -> Trust:
        data = read_guarded(path, most=MAX_TRUST_FILE, private=False)
        try:
            document = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}: this is no TOML: {error}") from None
        try:
            return _policy(document, path.parent, sets)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def is_flagged(self, activity: str) -> bool:
        """Whether an operation at this activity takes a second operator."""
        return bool(activity) and _allowed(activity, self.flagged)

    def check_signer(self, signer: Signer, role: str, now: float, activities: Iterable[str] = ()) -> None:
        """Look whether what a key is about to sign would count.

        Args:
            signer: the key.
            role: what it signs as.
            now: when, seconds since the Unix epoch.
            activities: whose steps it will sign.

        Raises:
            ConfigError: it would be refused by everybody with this policy.
        """
        kid = signer.kid
        key = self.keys.get(kid)
        if key is None:
            raise ConfigError(f"the trust policy does not know the key {kid}; add the line that keygen printed")
        if key.revoked:
            raise ConfigError(f"the key {kid} of {key.principal.name} is revoked")
        if not key.not_before <= now <= key.not_after:
            raise ConfigError(
                f"the key {kid} of {key.principal.name} is not valid now; look at not_before and not_after"
            )
        if signer.audience != self.audience:
            raise ConfigError(
                f"the key {kid} is for audience {signer.audience or 'none'}, the policy for {self.audience or 'none'}"
            )
        if signer.name != key.principal.name:
            raise ConfigError(f"the key {kid} signs as {signer.name}, and belongs to {key.principal.name}")
        if role not in key.principal.roles:
            raise ConfigError(f"the trust policy does not give {key.principal.name} the role {role}")
        for activity in activities:
            if not key.principal.may_run(activity):
                raise ConfigError(f"the trust policy does not let {key.principal.name} run activity {activity}")


def _allowed(name: str, listed: frozenset[str]) -> bool:
    return name in listed or _ANY in listed


def _policy(document: dict[str, Any], folder: Path, sets: JwkSets) -> Trust:
    _known_fields(document, {"audience", "principal", "approval"}, "")
    audience = check_audience(document.get("audience", ""))
    tables = document.get("principal", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables) or not tables:
        raise ConfigError("it names nobody; write a [[principal]] table for each")
    keys: list[TrustedKey] = []
    names: set[str] = set()
    for table in tables:
        principal = _principal(table)
        if principal.name in names:
            raise ConfigError(f"principal {principal.name} stands twice")
        names.add(principal.name)
        own = _keys(table, principal, folder, sets)
        if not own:
            raise ConfigError(f'principal {principal.name} has no key; write keys = [ ... ] or jwks = "FILE"')
        keys += own
    flagged, over = _approval(document.get("approval", {}))
    return Trust(keys, audience, flagged=flagged, approve_over=over)


def _approval(table: object) -> tuple[frozenset[str], int | None]:
    if not isinstance(table, dict):
        raise ConfigError("approval must be a table: [approval]")
    _known_fields(table, {"activities", "over"}, "approval: ")
    over = table.get("over")
    if over is not None and (isinstance(over, bool) or not isinstance(over, int) or over < 0):
        raise ConfigError("approval: over must be a number of workflows")
    return _names(table, "activities", "approval: "), over


def _principal(table: dict[str, Any]) -> Principal:
    name = check_principal(table.get("name"))
    where = f"principal {name}: "
    _known_fields(table, _PRINCIPAL, where)
    roles = _names(table, "roles", where)
    if unknown := sorted(roles - set(ROLES)):
        raise ConfigError(f"{where}no role {ascii(unknown[0])[:40]}; roles are {', '.join(ROLES)}")
    if not roles:
        raise ConfigError(f"{where}it has no roles; roles are {', '.join(ROLES)}")
    lists = {key: _names(table, key, where) for key in _LISTS}
    for key, role in _LISTS.items():
        if lists[key] and role not in roles:
            raise ConfigError(f"{where}{key} are for the role {role}, which it has not")
    if "worker" in roles and not lists["activities"]:
        raise ConfigError(f'{where}a worker needs activities, at least ["*"]')
    if "operator" in roles and not lists["operations"]:
        raise ConfigError(f'{where}an operator needs operations, at least ["*"]')
    return Principal(name=name, roles=roles, **lists)


def _names(table: dict[str, Any], key: str, where: str) -> frozenset[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where}{key} must be a list of names")
    for item in value:
        if item != _ANY and not is_name(item):
            raise ConfigError(f"{where}{key}: {ascii(item)[:80]} is no name; a single * stands for all")
    return frozenset(value)


def _keys(table: dict[str, Any], principal: Principal, folder: Path, sets: JwkSets) -> list[TrustedKey]:
    where = f"principal {principal.name}: "
    items = table.get("keys", [])
    if not isinstance(items, list):
        raise ConfigError(f"{where}keys must be a list of JWKs")
    found = [_key(item, principal, f"{where}key {number}", _TIMES) for number, item in enumerate(items, start=1)]
    if (name := table.get("jwks")) is not None:
        if not isinstance(name, str):
            raise ConfigError(f"{where}jwks must be the name of a file or an https URL")
        for number, item in enumerate(sets.keys(name) if "://" in name else _jwk_set(folder / name), start=1):
            found.append(_key(item, principal, f"{where}{name}: key {number}", ()))
    return found


def _jwk_set(path: Path) -> list[Any]:
    from paigeant_core.security.jwks import keys_in

    return keys_in(read_guarded(path, most=MAX_TRUST_FILE, private=False), str(path))


def _key(item: object, principal: Principal, where: str, times: tuple[str, ...]) -> TrustedKey:
    if not isinstance(item, dict):
        raise ConfigError(f"{where} must be a JWK")
    if "d" in item:
        raise ConfigError(
            f"{where} is a private key; a policy holds public ones, so make a new key, and keep it secret"
        )
    spans = {name: _moment(item[name], f"{where}: {name}") for name in times if name in item}
    _known_fields(item, _JWK | set(times), f"{where}: ")
    try:
        key = import_jwk({name: value for name, value in item.items() if name not in spans})
    except BAD_KEY as error:
        why = str(error) if type(error) is ValueError else "it is no public key"
        raise ConfigError(f"{where} does not count: {why[:200]}; it must be Ed25519 or P-256") from None
    revoked = spans.pop("revoked_at", None) is not None
    if spans.get("not_before", 0.0) >= spans.get("not_after", float("inf")):
        raise ConfigError(f"{where}: not_after is not later than not_before")
    return TrustedKey(
        kid=key.thumbprint(), algorithm=algorithm_of(key), key=key, principal=principal, revoked=revoked, **spans
    )


def _moment(value: object, where: str) -> float:
    if not isinstance(value, datetime):
        raise ConfigError(f"{where} must be a time: 2027-01-01T00:00:00Z")
    return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()


def _known_fields(table: dict[str, Any], known: Iterable[str], where: str) -> None:
    known = sorted(known)
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}unknown field {ascii(key)[:80]}; known are {', '.join(known)}")
