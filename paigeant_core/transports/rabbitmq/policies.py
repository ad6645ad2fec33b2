"""Policies of a RabbitMQ broker that would throw messages of a topic away.

Of the policies whose patterns fit a queue the one with the highest priority holds, and
beside it, in the same way, one operator policy.
See https://www.rabbitmq.com/docs/parameters#policies.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paigeant_core.errors import ConfigError
from paigeant_core.transports.rabbitmq.management import Management
from paigeant_core.transports.rabbitmq.topology import RUNGS, STREAMS, Names
from paigeant_core.transports.types import Finding, Level

HARMFUL: Final = frozenset({"expires", "message-ttl", "max-length", "max-length-bytes", "max-age", "delivery-limit"})
"""Keys of a policy that throw messages of ours away; what a declaration says does not keep a smaller value out."""

WITHIN: Final = 1.0
"""Seconds that a worker waits for the answers before it begins."""

_REMEDY: Final = "let its pattern leave out names with paigeant."
_QUORUM, _STREAM = "quorum_queues", "streams"
_APPLY_TO: Final = {"all": (_QUORUM, _STREAM), "queues": (_QUORUM, _STREAM), _QUORUM: (_QUORUM,), _STREAM: (_STREAM,)}


async def refuse(url: str, names: Names, activities: Iterable[str], vhost: str, cluster: str) -> None:
    """Refuse to serve where a policy would throw away what waits; go on where the API does not tell.

    Args:
        url: of the broker, with its password.
        names: of the topic.
        activities: to be served.
        vhost: the virtual host.
        cluster: what the broker calls itself: at its API's usual port another one may answer.

    Raises:
        ConfigError: which policy, and what to do.
    """
    try:
        async with asyncio.timeout(WITHIN), Management(url) as api:
            known, *policies = await asyncio.gather(
                api.get("cluster-name"), *(api.rows(kind, vhost) for kind in ("policies", "operator-policies"))
            )
    except TimeoutError:
        return
    if not isinstance(known, dict) or known.get("name") != cluster:
        return
    for finding in look(names, activities, policies):
        if finding.level is Level.PROBLEM:
            raise ConfigError(f"{finding.said}; {finding.remedy}")


def look(
    names: Names,
    activities: Iterable[str],
    policies: Sequence[Sequence[Mapping[str, Any]] | None],
    queues: Sequence[Mapping[str, Any]] = (),
) -> list[Finding]:
    """What of the policies would throw messages away.

    Args:
        names: of the topic.
        activities: whose work queues are meant.
        policies: as the management API lists them: policies, and operator policies.
        queues: queues of the topic, as it lists them: what it says itself of those that there are counts as well.
    """
    ours = dict.fromkeys(map(names.stream, STREAMS), _STREAM)
    ours |= dict.fromkeys([*map(names.work, activities), *map(names.rung, RUNGS)], _QUORUM)
    harmed: dict[tuple[str, ...], list[str]] = {}
    found: list[Finding] = []
    for rows in policies:
        read = [_Policy.of(row) for row in rows or ()]
        for queue, kind in ours.items():
            for policy in _holding(read, queue, kind):
                if policy.harm:
                    harmed.setdefault((policy.name, *policy.harm), []).append(queue)
        for policy in read:
            if policy.pattern is None and policy.harm:
                said = f"policy {policy.name} has a pattern that cannot be read here, and {', '.join(policy.harm)}"
                found.append(Finding("policies", Level.WARNING, said, "see that no name with paigeant. fits it"))
    known = {queue for several in harmed.values() for queue in several}
    for row in queues:
        queue, harm = str(row.get("name", "")), _harm(row.get("effective_policy_definition"))
        if harm and queue in ours and queue not in known:
            which = " or ".join(str(row[key])[:80] for key in ("policy", "operator_policy") if row.get(key))
            harmed.setdefault((which, *harm), []).append(queue)
    for (name, *keys), several in harmed.items():
        named = ", ".join(several[:3]) + (f" and {len(several) - 3} more" if len(several) > 3 else "")
        said = f"policy {name} puts {', '.join(keys)} on queues of this topic, which lose messages by it: {named}"
        found.append(Finding("policies", Level.PROBLEM, said, _REMEDY))
    if not found and None in policies:
        said = "this user may not see the policies"
        found.append(Finding("policies", Level.UNKNOWN, said, "give it the tag policymaker"))
    return found or [Finding("policies", Level.OK, "none caps or expires the topic's queues")]


@dataclass(frozen=True, slots=True)
class _Policy:
    name: str
    kinds: tuple[str, ...]
    pattern: re.Pattern[str] | None
    priority: int
    harm: tuple[str, ...]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> _Policy:
        """As the management API tells it; without a pattern where that is in Erlang's own dialect."""
        try:
            pattern = re.compile(str(row.get("pattern", "")))
        except re.error:
            pattern = None
        priority = row.get("priority")
        return cls(
            name=str(row.get("name", ""))[:80],
            kinds=_APPLY_TO.get(str(row.get("apply-to", "all")), ()),
            pattern=pattern,
            priority=priority if isinstance(priority, int) else 0,
            harm=_harm(row.get("definition")),
        )


def _holding(policies: Iterable[_Policy], queue: str, kind: str) -> list[_Policy]:
    """Which policy holds for a queue; of several with the same priority any may."""
    fitting = [each for each in policies if kind in each.kinds and each.pattern and each.pattern.search(queue)]
    highest = max((each.priority for each in fitting), default=0)
    return [each for each in fitting if each.priority == highest]


def _harm(definition: Any) -> tuple[str, ...]:
    return tuple(sorted(HARMFUL & definition.keys())) if isinstance(definition, dict) else ()
