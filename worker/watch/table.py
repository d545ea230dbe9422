"""Every metric of a worker, in one place. The comment above each says when to look at it."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Buckets: from one short HSM call to the longest wait that a statement or a drain may take."""
RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
BYTES = (1024, 4096, 16384, 65536, 262144, 1048576, 4194304)


@dataclass(frozen=True, slots=True)
class _Make:
    """Metrics of ours in one registry."""

    registry: CollectorRegistry

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"keyriver_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"keyriver_{name}", text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"keyriver_{name}", text, labels, registry=self.registry, buckets=buckets)


class Table:
    """The metrics, registered once in a registry of the worker's own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = _Make(registry)
        # Where a batch spends its time: the first look when answers become slow.
        self.stage_seconds = make.histogram("stage_seconds", "Seconds of a batch in a stage", SECONDS, "stage")
        # Per item, because batches differ in size: rate(stage_seconds_sum) / rate(stage_items_total).
        self.stage_items = make.counter("stage_items", "Items that went through a stage", "stage")
        # The worker's output; `code` is OK, or why an item or a whole request was refused. INTEGRITY wakes somebody.
        self.results = make.counter("results", "Results by operation and code", "operation", "code")

        self._lanes(make)
        self._letters(make)
        self._token(make)
        self._campaigns(make)
        self._keystores(make)

    def _lanes(self, make: "_Make") -> None:
        # Batches of one record mean an idle lane; batches closed by `records` or `bytes` all the time, a full one.
        self.batch_records = make.histogram("batch_records", "Records of a caught batch", RECORDS, "lane")
        self.batch_bytes = make.histogram("batch_bytes", "Bytes of a caught batch", BYTES, "lane")
        self.batches_closed = make.counter("batches_closed", "Why caught batches had no more records", "lane", "why")
        # From catch to answer, offsets not counted.
        self.batch_seconds = make.histogram("batch_seconds", "Seconds of a batch in the river", SECONDS, "lane")
        # Batches that came again, by the error: StoreUnavailable and BusUnavailable name who is away.
        self.batch_failures = make.counter("batch_failures", "Batches that failed and come again", "lane", "error")
        # Many without a deployment: members are expelled, so something blocks the loop (FACTS 3).
        self.rebalances = make.counter("rebalances", "Times that partitions were given back", "lane")
        self.unfinished = make.counter("unfinished", "Records given back before they were finished", "lane")
        # A record that stopped its worker before is tried alone (D5).
        self.suspects = make.counter("suspects", "Records processed alone", "lane")
        # ALARM above 0: the dead-letter limit stopped a partition; a person looks at its DLQ, then restarts the worker.
        self.stopped = make.gauge("stopped_partitions", "Partitions stopped by the dead-letter limit", "lane")

    def _letters(self, make: "_Make") -> None:
        # Rubbish has UNREADABLE or UNAUTHENTICATED; POISON stopped a worker three times.
        self.dead_letters = make.counter("dead_letters", "Dead letters by topic and code", "topic", "code")
        # Beyond the bounded rate only coordinates are kept: somebody floods this topic (S9).
        self.noted = make.counter("dead_letters_noted", "Unauthentic records beyond the rate", "topic", "code")
        # Answers that their topic will never take; they wait in the undelivered topic.
        self.undelivered = make.counter("undelivered", "Answers that could not be delivered", "reason")

        # ALARM above 5, when workers are no longer ready: nobody appends, signs or publishes; the log says why (S16).
        self.audit_behind = make.gauge("audit_behind_seconds", "Age of the oldest leaf that is in no published log")

    def _token(self, make: "_Make") -> None:
        # Per operation, not per batch: the group's time shared out.
        self.hsm_seconds = make.histogram("hsm_seconds", "Seconds of one HSM operation", SECONDS, "operation")
        self.hsm_operations = make.counter("hsm_operations", "HSM operations by kind and fault", "operation", "fault")
        # At the setting hsm_handles all the time: more keys are in use than are kept open. 0 after a red button on all.
        self.hsm_handles = make.gauge("hsm_handles", "KEKs that are open in the token")
        # At the configured number all the time: the token is the narrow place.
        self.hsm_sessions = make.gauge("hsm_sessions_in_use", "Sessions at work at this moment")
        # ALARM when state is pin-refused: no login is tried again before a restart with the right PIN (S9).
        self.token = make.gauge("token_state", "1 at the token's present state", "state")
        self.token_changes = make.counter("token_changes", "Times that the token came into this state", "state")

    def _keystores(self, make: "_Make") -> None:
        # FORBIDDEN: the customer has cut the link. THROTTLED: he asks for fewer calls. REFUSED: a bug, or rotten bytes.
        self.keystore_calls = make.counter(
            "keystore_calls", "Exchanges with customers' keystores", "credential", "operation", "outcome"
        )
        # Near keystore_timeout_ms they become UNREACHABLE.
        self.keystore_seconds = make.histogram("keystore_seconds", "Seconds of an exchange", SECONDS, "provider")
        # Above 0: a customer's keystore does not answer, and his keys close when the time limit has passed (S13).
        self.links_barred = make.gauge("keystore_links_barred", "Links whose keys this process refuses", "why")
        self.keystores_silent = make.gauge("keystores_silent", "Keystores whose breaker is open", "credential")

    def _campaigns(self, make: "_Make") -> None:
        # rate() of OK is this process's speed; any other code: `keyriver campaign failures` lists the items.
        self.campaign_items = make.counter("campaign_items", "Items of campaigns by what became of them", "code")
        self.campaign_slice_seconds = make.histogram(
            "campaign_slice_seconds", "Seconds of a slice, HSM to settle", SECONDS
        )
        # Flat while the campaign is running: it waits (the log says for what), or is throttled.
        self.campaign_remaining = make.gauge("campaign_remaining", "Items still under the old version", "campaign")
        # 0 for long while it is running: nobody does bulk work, or bulk_pace says why.
        self.campaign_rate = make.gauge("campaign_rate", "Items per second of all processes together", "campaign")
        # Above 0: it will not be done before these are mended and replayed.
        self.campaign_failures = make.gauge("campaign_failures", "Items that could not be moved", "campaign")
        # Below 1: interactive answers are slower than interactive_p99_ms, so bulk work backs off.
        self.bulk_pace = make.gauge("bulk_pace", "Bulk work's part of its full speed")
        self.interactive_p99 = make.gauge(
            "interactive_p99_seconds", "Of this process in the last seconds, from Kafka on"
        )
        self.campaign_eta = make.gauge("campaign_eta_seconds", "Remaining items at the present rate", "campaign")
