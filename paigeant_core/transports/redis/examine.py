"""What of a Redis server's settings and state could lose work.

Sources: the pages *Persistence* and *Key eviction* of the Redis manual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import ResponseError

from paigeant_core.clock import Clock
from paigeant_core.transports.redis.clocks import MAX_SKEW
from paigeant_core.transports.redis.connection import Lines
from paigeant_core.transports.redis.endpoint import code_of
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import Command
from paigeant_core.transports.types import Finding, Level

FULL = 0.9
"""The part of `maxmemory` from which on it is nearly used up."""

TOLERABLE = 2.0
"""Seconds that clocks may differ before it is seen on a screen."""

_RIGHTS = "~{paigeant:*}:* +@read +@write +@scripting +@connection +time +info +role"
"""What a worker and a console need; the last three are in none of the categories before them."""


async def examine(lines: Lines, keys: Keys, clock: Clock) -> list[Finding]:
    """See :meth:`Transport.examine`."""
    info, config, time, who = await lines.ask(
        ("INFO",), ("CONFIG", "GET", "*"), ("TIME",), ("ACL", "WHOAMI")
    )  # each may be forbidden to this user, and is said to be unknown then
    said = _info(info)
    settings = _pairs(config)
    return [
        _eviction(settings.get("maxmemory-policy") or said.get("maxmemory_policy")),
        _memory(said),
        *_persistence(said, settings),
        _clock(time, clock.now()),
        await _permissions(lines, keys, who),
        *_role(said),
    ]


def _info(answer: object) -> dict[str, str]:
    if not isinstance(answer, bytes):
        return {}
    pairs = (line.partition(":") for line in answer.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _pairs(answer: Any) -> dict[str, str]:
    if not isinstance(answer, list):
        return {}
    texts = [item.decode("utf-8", "replace") for item in answer if isinstance(item, bytes)]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _eviction(policy: str | None) -> Finding:
    if policy is None:
        return Finding("eviction", Level.UNKNOWN, "this user may not read maxmemory-policy", "look at it as an admin")
    if policy == "noeviction":
        return Finding("eviction", Level.OK, "maxmemory-policy is noeviction")
    return Finding(
        "eviction",
        Level.PROBLEM,
        f"maxmemory-policy is {policy}: a full server throws workflows away",
        "CONFIG SET maxmemory-policy noeviction, and the same line in redis.conf",
    )


def _memory(said: Mapping[str, str]) -> Finding:
    if "used_memory" not in said:
        return Finding("memory", Level.UNKNOWN, "this user may not read INFO", "allow INFO to it")
    used, most = int(said["used_memory"]), int(said.get("maxmemory", "0") or 0)
    if not most:
        return Finding("memory", Level.OK, f"{said.get('used_memory_human', used)} used, no maxmemory is set")
    text = f"{said.get('used_memory_human', used)} of {said.get('maxmemory_human', most)} used"
    if used < FULL * most:
        return Finding("memory", Level.OK, text)
    remedy = "raise maxmemory, or trim journals: a full server takes no settles"
    return Finding("memory", Level.PROBLEM if used >= most else Level.WARNING, text, remedy)


def _persistence(said: Mapping[str, str], settings: Mapping[str, str]) -> list[Finding]:
    if "aof_enabled" not in said:
        return [Finding("persistence", Level.UNKNOWN, "this user may not read INFO", "allow INFO to it")]
    found: list[Finding] = []
    if said["aof_enabled"] == "1":
        fsync = settings.get("appendfsync", "unknown")
        text = f"appendonly yes, appendfsync {fsync}"
        if fsync == "always":
            found.append(Finding("persistence", Level.OK, f"{text}: what was answered is on the disk"))
        elif fsync == "no":
            remedy = "CONFIG SET appendfsync everysec (or always)"
            found.append(Finding("persistence", Level.WARNING, f"{text}: a crash loses what the system held", remedy))
        else:
            found.append(Finding("persistence", Level.OK, f"{text}: a crash of the machine loses a second or two"))
    else:
        remedy = "CONFIG SET appendonly yes, and the same line in redis.conf"
        text = "appendonly is off: a restart loses everything since the last snapshot"
        found.append(Finding("persistence", Level.PROBLEM, text, remedy))
    for name in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"):
        if said.get(name, "ok") != "ok":
            remedy = "look at the server's log, and at its disk"
            found.append(Finding("persistence", Level.PROBLEM, f"{name} is {said[name]}", remedy))
    return found


def _clock(answer: Any, now: float) -> Finding:
    if not isinstance(answer, list):
        return Finding("clock", Level.UNKNOWN, "this user may not ask for TIME", "allow TIME to it")
    skew = now - (int(answer[0]) + int(answer[1]) / 1e6)
    text = f"this machine's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the broker's"
    if abs(skew) > MAX_SKEW:
        return Finding("clock", Level.PROBLEM, text, "set it: workers on this machine claim nothing until then")
    return Finding(
        "clock", Level.WARNING if abs(skew) > 2 else Level.OK, text, "set it by NTP" if abs(skew) > 2 else ""
    )


async def _permissions(lines: Lines, keys: Keys, who: Any) -> Finding:
    """Ask the server whether this user might, without doing it (ACL DRYRUN, from Redis 7.0)."""
    user = who.decode("utf-8", "replace") if isinstance(who, bytes) else ""
    needed = _needed(keys)
    asked: list[Command] = [("ACL", "DRYRUN", user, *trial) for trial in needed.values()] if user else []
    answers = await lines.ask(*asked) if asked else []
    if not asked or any(isinstance(answer, ResponseError) for answer in answers):
        return await _read_permissions(lines, keys)
    refused = [name for name, answer in zip(needed, answers, strict=True) if answer != b"OK"]
    return _allowed(user, refused)


async def _read_permissions(lines: Lines, keys: Keys) -> Finding:
    reads: tuple[Command, ...] = (
        ("XLEN", keys.journal),
        ("HGET", keys.workflow(""), "epoch"),
        ("ZCARD", keys.delayed),
        ("EVAL", "return 1", 0),
        ("TIME",),
        ("INFO", "server"),
    )
    answers = await lines.ask(*reads)
    refused = [
        str(command[0])
        for command, answer in zip(reads, answers, strict=True)
        if isinstance(answer, ResponseError) and code_of(answer) == "NOPERM"
    ]
    if refused:
        return _allowed("", refused)
    text = "this user may read the topic's keys; whether it may write them is seen by the first dispatch"
    return Finding("permissions", Level.UNKNOWN if not isinstance(answers[0], ResponseError) else Level.PROBLEM, text)


def _allowed(user: str, refused: list[str]) -> Finding:
    who = f"user {user}" if user else "this user"
    if not refused:
        return Finding("permissions", Level.OK, f"{who} may do all that a worker does")
    return Finding(
        "permissions", Level.PROBLEM, f"{who} may not {', '.join(refused)}", f"ACL SETUSER {user or 'NAME'} {_RIGHTS}"
    )


def _needed(keys: Keys) -> dict[str, Command]:
    """What a worker cannot do without, by name, each as it may be tried."""
    key = keys.journal
    return {
        "XADD": ("XADD", key, "*", "r", ""),
        "XACK": ("XACK", key, "g", "0-1"),
        "XDEL": ("XDEL", key, "0-1"),
        "XREADGROUP": ("XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">"),
        "XCLAIM": ("XCLAIM", key, "g", "c", "0", "0-1"),
        "HSET": ("HSET", key, "f", "v"),
        "ZADD": ("ZADD", key, "0", "m"),
        "SADD": ("SADD", key, "m"),
        "EVALSHA": ("EVALSHA", "0" * 40, "1", key),
        "SCRIPT|LOAD": ("SCRIPT", "LOAD", "return 1"),
        "TIME": ("TIME",),
        "INFO": ("INFO", "server"),
    }


def _role(said: Mapping[str, str]) -> list[Finding]:
    if said.get("role") == "slave":
        remedy = "name the master in the URL"
        return [Finding("role", Level.PROBLEM, "this server is a replica, and takes no writes", remedy)]
    return []
