"""What of a RabbitMQ broker's settings and state could lose work, or keep it waiting."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from paigeant_core.transports.rabbitmq.connection import version_of
from paigeant_core.transports.rabbitmq.management import Management
from paigeant_core.transports.rabbitmq.policies import look
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Finding, Level

OLDEST = (3, 10)
_NAME_IT = "name it: amqp://…/?management=http://HOST:15672"


async def examine(url: str, names: Names, server: Mapping[str, object], vhost: str) -> list[Finding]:
    """See :meth:`Transport.examine`.

    Args:
        url: of the broker, with its password.
        names: of the topic.
        server: what the broker said of itself.
        vhost: the virtual host.
    """
    version, cluster = (str(server.get(key, "")) for key in ("version", "cluster_name"))
    found = [_version(version), _timeout(version)]
    async with Management(url) as api:
        overview = await api.get("overview")
        if overview is None:
            said = f"no management API at {api.address}: policies, alarms and queues were not looked at"
            return [*found, Finding("management", Level.UNKNOWN, said, f"enable rabbitmq_management, or {_NAME_IT}")]
        if isinstance(overview, dict) and (other := str(overview.get("cluster_name", ""))) != cluster:
            said = f"the management API at {api.address} is of another broker, {other:.80}: this one was not looked at"
            return [*found, Finding("management", Level.UNKNOWN, said, _NAME_IT)]
        found.append(Finding("management", Level.OK, f"answers at {api.address}"))
        found += _alarms(await api.get("health", "checks", "alarms"))
        found += _nodes(await api.rows("nodes"))
        queues = await api.rows("queues", vhost)
        ours = [queue for queue in queues or () if str(queue.get("name", "")).startswith(f"{names.exchange}.")]
        work = [str(queue["name"]) for queue in ours if str(queue["name"]).startswith(names.work(""))]
        # And one that is not known yet, for all that may come.
        activities = [*(name.removeprefix(names.work("")) for name in work), "activity"]
        policies = [await api.rows(kind, vhost) for kind in ("policies", "operator-policies")]
        found += look(names, activities, policies, ours)
        found += _queues(queues, ours)
        found += _permissions(await api.rows("users", api.user, "permissions"), api.user, vhost, names)
    return found


def _version(version: str) -> Finding:
    if version_of(version) < OLDEST:
        return Finding("version", Level.PROBLEM, f"RabbitMQ {version} is too old", "upgrade it to 3.10 or newer")
    return Finding("version", Level.OK, f"RabbitMQ {version}")


def _timeout(version: str) -> Finding:
    if version_of(version) >= (3, 12):
        return Finding("consumer_timeout", Level.OK, "the topic's queues say themselves how long a step may take")
    said = "a step that runs longer than consumer_timeout (30 minutes by default) is given to another worker"
    remedy = (
        "where steps take longer: consumer_timeout = 86400000 (milliseconds) in rabbitmq.conf, and "
        "?consumer_timeout=86400 (seconds) in the URL, which tells workers that it is there"
    )
    return Finding("consumer_timeout", Level.WARNING, said, remedy)


def _alarms(health: Any) -> list[Finding]:
    if not isinstance(health, dict):
        return [Finding("alarms", Level.UNKNOWN, "this user may not see the alarms", "give it the tag monitoring")]
    remedies = {
        "memory": "drain queues, or raise vm_memory_high_watermark",
        "disk": "free disk space, or lower disk_free_limit",
    }
    found = []
    for alarm in health.get("alarms") or ():
        what = str(alarm.get("resource", "?"))
        said = f"{what} alarm on {alarm.get('node')!s:.80}: nobody can publish, so no workflow moves"
        found.append(Finding("alarms", Level.PROBLEM, said, remedies.get(what, "look at the node's log")))
    return found or [Finding("alarms", Level.OK, "none")]


def _nodes(nodes: Sequence[Mapping[str, Any]] | None) -> list[Finding]:
    return [
        Finding("nodes", Level.PROBLEM, f"node {node.get('name')!s:.80} is down", "start it")
        for node in nodes or ()
        if node.get("running") is False
    ]


def _queues(queues: Sequence[Mapping[str, Any]] | None, ours: Sequence[Mapping[str, Any]]) -> list[Finding]:
    if queues is None:
        return [Finding("queues", Level.UNKNOWN, "this user may not see the queues", "give it the tag management")]
    bad = [queue for queue in ours if queue.get("state", "running") not in ("running", "idle", "flow")]
    found = [
        Finding(
            "queues",
            Level.PROBLEM,
            f"queue {queue.get('name')} is {queue.get('state')!s:.40}: its messages cannot be had",
            "bring its nodes back; a queue that stays without a leader has to be deleted, and is made again",
        )
        for queue in bad
    ]
    return found or [Finding("queues", Level.OK, f"all {len(ours)} of the topic are there")]


def _permissions(rows: Sequence[Mapping[str, Any]] | None, user: str, vhost: str, names: Names) -> list[Finding]:
    if rows is None:
        return []  # only an administrator may look; what is missing is said when it is needed
    mine = next((row for row in rows if row.get("vhost") == vhost), {})
    missing = [
        kind for kind in ("configure", "write", "read") if not re.search(str(mine.get(kind, "^$")), names.journal)
    ]
    if missing:
        remedy = f"rabbitmqctl set_permissions -p {vhost} {user} '^paigeant' '^paigeant' '^paigeant'"
        return [Finding("permissions", Level.PROBLEM, f"user {user} may not {', '.join(missing)} here", remedy)]
    return [Finding("permissions", Level.OK, f"user {user} may configure, write and read")]
