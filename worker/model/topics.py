"""The topics of the wire contract: their names under a prefix, their settings, and the lanes that consume them.

Request topics keep what came in for seven days (wrap 72 hours, it holds sealed DEKs): less than the ledger's window.
"""

from dataclasses import dataclass
from enum import StrEnum

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LEDGER_WINDOW_MS = 14 * DAY_MS
REQUEST_RETENTION_MS = 7 * DAY_MS
"""The longest of any request topic's, as we create them."""
"""How long the ledger remembers a request; request topics must forget sooner."""

REQUEST_LIMIT_BYTES = 2 * 1024 * 1024
"""The body of one request. Topics take more, so that a larger one is refused by us, with its own code."""
TOPIC_LIMIT_BYTES = 8 * 1024 * 1024
DEAD_LETTER_LIMIT_BYTES = TOPIC_LIMIT_BYTES + 64 * 1024 + 64 * 1024
"""Any record of any topic, 64 KB of headers that we add, and as much for the batch around them."""


class Lane(StrEnum):
    """One consumer group each; bulk runs in processes of its own (D6)."""

    CONTROL = "control"
    INTERACTIVE = "interactive"
    BULK = "bulk"


class Cleanup(StrEnum):
    """Kafka's `cleanup.policy`."""

    DELETE = "delete"
    COMPACT = "compact"
    BOTH = "compact,delete"


class Writer(StrEnum):
    """Who may write a topic: the least ACLs follow from it (S17)."""

    CALLERS = "callers"
    WORKERS = "workers"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it has to be. `retention_ms` None: kept for ever (compacted only)."""

    name: str
    partitions: int
    cleanup: Cleanup
    retention_ms: int | None
    max_message_bytes: int
    writer: Writer
    is_request: bool = False

    @property
    def config(self) -> dict[str, str]:
        """Kafka's topic settings. Append time is the broker's (S3)."""
        config = {
            "cleanup.policy": self.cleanup.value,
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
        }
        if self.is_request:
            # The broker unpacks what callers compressed, so the size limit also bounds what a worker unpacks.
            config["compression.type"] = "uncompressed"
        return config


@dataclass(frozen=True, slots=True)
class Topics:
    """The names under one prefix; two fleets on one cluster have two prefixes."""

    prefix: str = "keyriver"

    def _name(self, noun: str) -> str:
        return f"{self.prefix}.{noun}.v1"

    @property
    def wrap(self) -> str:
        """Requests: generate or wrap DEKs."""
        return self._name("wrap")

    @property
    def unwrap(self) -> str:
        """Requests: unwrap DEKs."""
        return self._name("unwrap")

    @property
    def rotate(self) -> str:
        """Requests: a new active version of a key."""
        return self._name("rotate")

    @property
    def keys(self) -> str:
        """Requests: the other commands on keys, tenants, clients and policies."""
        return self._name("keys")

    @property
    def control(self) -> str:
        """Requests: disable, suspend, compromise; the fast lane."""
        return self._name("control")

    @property
    def rewrap(self) -> str:
        """Requests: rewrap DEKs, in bulk."""
        return self._name("rewrap")

    @property
    def replies(self) -> str:
        """The default reply topic."""
        return self._name("replies")

    @property
    def events(self) -> str:
        """Facts, in the past tense."""
        return self._name("events")

    @property
    def triggers(self) -> str:
        """Outside events that start campaigns."""
        return self._name("triggers")

    @property
    def audit(self) -> str:
        """Checkpoints of the Merkle logs."""
        return self._name("audit")

    @property
    def intake(self) -> str:
        """Fleet certificates and intake keys, compacted."""
        return self._name("intake")

    @property
    def hints(self) -> str:
        """Broadcast: drop these handles."""
        return self._name("hints")

    @property
    def sequences(self) -> str:
        """(row, sequence, MAC) of every row that grants or decides, compacted (S7)."""
        return self._name("sequences")

    @property
    def undelivered(self) -> str:
        """Replies that could not be delivered (D5)."""
        return self._name("undelivered")

    @property
    def requests(self) -> tuple[str, ...]:
        """Every topic that callers write."""
        return (self.wrap, self.unwrap, self.rotate, self.keys, self.control, self.rewrap, self.triggers)

    def lane(self, lane: Lane) -> tuple[str, ...]:
        """What a lane consumes."""
        return {
            Lane.CONTROL: (self.control,),
            Lane.INTERACTIVE: (self.wrap, self.unwrap, self.rotate, self.keys, self.triggers),
            Lane.BULK: (self.rewrap,),
        }[lane]

    def group(self, lane: Lane) -> str:
        """A lane's consumer group."""
        return f"{self.prefix}.{lane.value}"


def dead_letter_topic(topic: str) -> str:
    """Where the dead letters of a topic go."""
    return f"{topic}.dlq"


def specs(topics: Topics, partitions: int = 12) -> tuple[TopicSpec, ...]:
    """Every topic of a fleet; `partitions` bounds how many workers share one lane."""
    few = min(partitions, 3)
    wide = {topics.wrap, topics.unwrap, topics.rewrap}
    requests = [
        TopicSpec(
            name,
            partitions if name in wide else few,
            Cleanup.DELETE,
            72 * HOUR_MS if name == topics.wrap else REQUEST_RETENTION_MS,
            TOPIC_LIMIT_BYTES,
            Writer.CALLERS,
            is_request=True,
        )
        for name in topics.requests
    ]
    graves = [
        TopicSpec(name, few, Cleanup.DELETE, 14 * DAY_MS, DEAD_LETTER_LIMIT_BYTES, Writer.WORKERS)
        for name in (*map(dead_letter_topic, topics.requests), topics.undelivered)
    ]

    def ours(name: str, count: int, cleanup: Cleanup, retention_ms: int | None) -> TopicSpec:
        return TopicSpec(name, count, cleanup, retention_ms, TOPIC_LIMIT_BYTES, Writer.WORKERS)

    return (
        *requests,
        ours(topics.replies, partitions, Cleanup.DELETE, DAY_MS),
        ours(topics.events, few, Cleanup.DELETE, 7 * DAY_MS),
        ours(topics.audit, few, Cleanup.DELETE, 7 * DAY_MS),
        ours(topics.intake, 1, Cleanup.BOTH, 48 * HOUR_MS),
        ours(topics.hints, 1, Cleanup.DELETE, HOUR_MS),
        ours(topics.sequences, few, Cleanup.COMPACT, None),
        *graves,
    )


def limits(topics: Topics) -> dict[str, int]:
    """The size limit of every topic of the fleet's, in bytes. Of callers' reply topics we know nothing."""
    return {spec.name: spec.max_message_bytes for spec in specs(topics)}
