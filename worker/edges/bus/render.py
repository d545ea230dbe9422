"""Topics and least ACLs as Kafka's own commands, for clusters where we may not create anything (S17).

Only workers write replies, intake keys, hints and audit: whoever else could, might hand a client a DEK of his choosing.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.model.topics import Lane, Topics, TopicSpec, dead_letter_topic

_TOPICS = "kafka-topics.sh --bootstrap-server $BOOTSTRAP --command-config $ADMIN_CONFIG"
_ACLS = "kafka-acls.sh --bootstrap-server $BOOTSTRAP --command-config $ADMIN_CONFIG"


@dataclass(frozen=True, slots=True)
class Principals:
    """Who connects to the cluster, as Kafka names them (`User:…`)."""

    workers: str = "User:keyriver"
    services: str = "User:service"
    officers: str = "User:officer"
    triggers: str = "User:trigger"


def topic_commands(specs: Iterable[TopicSpec], replicas: int) -> list[str]:
    """One command per topic; an existing one is left as it is."""
    return [
        f"{_TOPICS} --create --if-not-exists --topic {shlex.quote(spec.name)} --partitions {spec.partitions}"
        f" --replication-factor {replicas}"
        + "".join(f" --config {shlex.quote(f'{name}={value}')}" for name, value in spec.config.items())
        for spec in specs
    ]


def acl_commands(topics: Topics, who: Principals, reply_topics: Sequence[str] = ()) -> list[str]:
    """The least rights that are enough; `reply_topics` are those of callers that do not use the default one."""
    ours = (topics.replies, topics.events, topics.audit, topics.intake, topics.hints, topics.sequences)
    graves = (*map(dead_letter_topic, topics.requests), topics.undelivered)
    daily = (topics.wrap, topics.unwrap, topics.rewrap)
    read, write = ("Read", "Describe"), ("Write", "Describe")
    commands = [
        *_allow(who.workers, (*read, "DescribeConfigs"), topics.requests),
        *_allow(who.workers, (*write, "DescribeConfigs"), (*ours, *graves)),
        *_allow(who.workers, read, (topics.intake, topics.hints, topics.sequences)),
        *_allow(who.workers, write, reply_topics),
        *(
            f"{_ACLS} --add --allow-principal {shlex.quote(who.workers)} --operation Read"
            f" --group {shlex.quote(topics.group(lane))}"
            for lane in Lane
        ),
        *_allow(who.services, write, daily),
        *_allow(who.officers, write, (topics.rotate, topics.keys, topics.control)),
        *_allow(who.triggers, write, (topics.triggers,)),
    ]
    for principal in (who.services, who.officers, who.triggers):
        commands += _allow(principal, read, (topics.replies, topics.intake))
    return commands


def _allow(principal: str, operations: Iterable[str], names: Iterable[str]) -> list[str]:
    rights = " ".join(f"--operation {operation}" for operation in operations)
    return [
        f"{_ACLS} --add --allow-principal {shlex.quote(principal)} {rights} --topic {shlex.quote(name)}"
        for name in names
    ]
