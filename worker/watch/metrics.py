"""The observers that the flow and the HSM edge ask for, counting into the table. Children are looked up once."""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from uuid import UUID

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.chain.plan import Conclusion
from worker.flow.guarding import Outcome
from worker.flow.river import Concluded
from worker.model.codes import Code
from worker.model.hsm import Fault
from worker.model.keystores import KeystoreAddress
from worker.model.operations import BY_TYPE
from worker.model.outcomes import Failed
from worker.model.records import Closed, Partition, Record, Undeliverable
from worker.model.requests import Envelope
from worker.watch.table import Table

log = logging.getLogger(__name__)

OK = "OK"
UNKNOWN = "unknown"
_LOUDNESS = {"healing": logging.WARNING, "pin-refused": logging.CRITICAL}
Lag = Callable[[], Mapping[Partition, int]]
"""Records not yet committed per assigned partition; called at each scrape, so it must not wait for the broker."""


class Metrics:
    """Is a `flow.river.Watch`, a `flow.deadletters.Mourner`, a `flow.guarding.KeystoreWatch`, an `edges.hsm.Observer`.

    `lane` makes intake observers.
    Every method may be called from any thread, does not block and does not raise.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lags: dict[str, Lag] = {}
        table = self._table = Table(self.registry)
        self.registry.register(_LagCollector(self._lags))
        ProcessCollector(registry=self.registry)
        self._stages = cache(lambda name: (table.stage_seconds.labels(name), table.stage_items.labels(name)))
        self._results = cache(table.results.labels)
        self._hsm_seconds = cache(table.hsm_seconds.labels)
        self._hsm_operations = cache(table.hsm_operations.labels)
        self._state = ""

    def render(self) -> bytes:
        """The text that Prometheus scrapes (exposition format 0.0.4)."""
        return generate_latest(self.registry)

    def lane(self, name: str) -> "LaneMetrics":
        """The `flow.intake.IntakeObserver` of one lane."""
        return LaneMetrics(self._table, name)

    def lag_of(self, lane: str, lag: Lag) -> None:
        """Where a lane's lag is read from."""
        self._lags[lane] = lag

    def handles_of(self, handles: Callable[[], int]) -> None:
        """Where the number of open KEKs is read from, at each scrape."""
        self._table.hsm_handles.set_function(handles)

    def audit_behind(self, seconds: float) -> None:
        """How far the audit log is behind the leaves."""
        self._table.audit_behind.set(seconds)

    # flow.river.Watch

    def stage(self, name: str, items: int, seconds: float) -> None:
        """See `flow.river.Watch`."""
        time, count = self._stages(name)
        time.observe(seconds)
        count.inc(items)

    def concluded(self, request: Envelope, item: Concluded) -> None:
        """See `flow.river.Watch`. Types that nobody knows share one label, or callers could make labels."""
        operation = BY_TYPE[request.type].value if request.type in BY_TYPE else UNKNOWN
        if not isinstance(item, Conclusion):
            self._results(operation, item.code.value).inc()
            return
        failed = [outcome.code for outcome in item.outcomes if isinstance(outcome, Failed)]
        for code in failed:
            self._results(operation, code.value).inc()
        if done := len(item.outcomes) - len(failed):
            self._results(operation, OK).inc(done)

    # flow.deadletters.Mourner

    def buried(self, record: Record, code: Code) -> None:
        """See `flow.deadletters.Mourner`."""
        self._table.dead_letters.labels(record.partition.topic, code.value).inc()

    def noted(self, record: Record, code: Code) -> None:
        """See `flow.deadletters.Mourner`."""
        self._table.noted.labels(record.partition.topic, code.value).inc()

    def undelivered(self, topic: str, reason: Undeliverable) -> None:  # noqa: ARG002 - callers name topics: no label
        """See `flow.deadletters.Mourner`."""
        self._table.undelivered.labels(reason.value).inc()

    # flow.guarding.KeystoreWatch

    def exchanged(self, where: KeystoreAddress, operation: str, outcome: Outcome, seconds: float) -> None:
        """See `flow.guarding.KeystoreWatch`. Keys are the customers' to name: no label."""
        self._table.keystore_calls.labels(where.credential, operation, outcome.value).inc()
        if outcome.was_sent:
            self._table.keystore_seconds.labels(where.provider.value).observe(seconds)

    def circuit(self, where: KeystoreAddress, *, closed: bool) -> None:
        """See `flow.guarding.KeystoreWatch`."""
        gauge = self._table.keystores_silent.labels(where.credential)
        gauge.dec() if closed else gauge.inc()
        say = "answers again" if closed else "does not answer; nothing is sent to it for a while"
        log.warning("the keystore of credential %s (%s) %s", where.credential, where.provider.value, say)

    # flow.keystones.LinkWatch

    def barred(self, links: Mapping[Fault, int]) -> None:
        """See `flow.keystones.LinkWatch`."""
        for why in (Fault.FORBIDDEN, Fault.UNREACHABLE):
            self._table.links_barred.labels(why.value).set(links.get(why, 0))

    # edges.hsm.Observer

    def sliced(self, moved: int, codes: Mapping[str, int], seconds: float) -> None:
        """See `CampaignWatch`."""
        self._table.campaign_items.labels("OK").inc(moved)
        for code, count in codes.items():
            self._table.campaign_items.labels(code).inc(count)
        self._table.campaign_slice_seconds.observe(seconds)

    # flow.fairness.PaceWatch

    def interactive(self, p99_ms: int) -> None:
        """See `PaceWatch`."""
        self._table.interactive_p99.set(p99_ms / 1000)

    def paced(self, pace: float) -> None:
        """See `PaceWatch`."""
        self._table.bulk_pace.set(pace)

    def remains(self, campaign: UUID, items: int, rate: float, failed: int) -> None:
        """See `CampaignWatch`."""
        self._table.campaign_rate.labels(str(campaign)).set(rate)
        self._table.campaign_failures.labels(str(campaign)).set(failed)
        self._table.campaign_remaining.labels(str(campaign)).set(items)
        self._table.campaign_eta.labels(str(campaign)).set(items / rate if rate else float("nan"))

    def gone(self, campaign: UUID) -> None:
        """See `CampaignWatch`."""
        table, name = self._table, str(campaign)
        for gauge in (table.campaign_remaining, table.campaign_eta, table.campaign_rate, table.campaign_failures):
            gauge.remove(name)

    def done(self, operation: str, count: int, seconds: float, fault: Fault | None) -> None:
        """See `edges.hsm.Observer`."""
        if count:
            self._hsm_seconds(operation).observe(seconds / count)
            self._hsm_operations(operation, OK if fault is None else fault.value).inc(count)

    def sessions(self, in_use: int) -> None:
        """See `edges.hsm.Observer`."""
        self._table.hsm_sessions.set(in_use)

    def token(self, state: str, detail: str) -> None:
        """See `edges.hsm.Observer`. Whoever is woken by the alarm finds the detail in the log."""
        log.log(_LOUDNESS.get(str(state), logging.INFO), "the token is %s: %s", state, detail or "as it should be")
        if self._state:
            self._table.token.labels(self._state).set(0)
        self._state = str(state)
        self._table.token.labels(self._state).set(1)
        self._table.token_changes.labels(self._state).inc()


class LaneMetrics:
    """One lane's `flow.intake.IntakeObserver`."""

    def __init__(self, table: Table, lane: str) -> None:
        self._lane = lane
        self._records = table.batch_records.labels(lane)
        self._bytes = table.batch_bytes.labels(lane)
        self._closed = {why: table.batches_closed.labels(lane, why.value) for why in Closed}
        self._seconds = table.batch_seconds.labels(lane)
        self._failures = table.batch_failures
        self._rebalances = table.rebalances.labels(lane)
        self._unfinished = table.unfinished.labels(lane)
        self._suspects = table.suspects.labels(lane)
        self._stopped = table.stopped.labels(lane)
        self._stopped.set(0)

    def caught(self, records: int, size: int, closed: Closed) -> None:
        """See `flow.intake.IntakeObserver`."""
        self._records.observe(records)
        self._bytes.observe(size)
        self._closed[closed].inc()

    def finished(self, records: int, seconds: float) -> None:  # noqa: ARG002 - `caught` counted the records
        """See `flow.intake.IntakeObserver`."""
        self._seconds.observe(seconds)

    def failed(self, records: int, error: Exception) -> None:  # noqa: ARG002 - they come again
        """See `flow.intake.IntakeObserver`."""
        self._failures.labels(self._lane, type(error).__name__).inc()

    def revoked(self, partitions: int, unfinished: int) -> None:  # noqa: ARG002
        """See `flow.intake.IntakeObserver`."""
        self._rebalances.inc()
        self._unfinished.inc(unfinished)

    def suspected(self, record: Record, times: int) -> None:  # noqa: ARG002
        """See `flow.intake.IntakeObserver`."""
        self._suspects.inc()

    def stopped(self, partition: Partition) -> None:  # noqa: ARG002 - the flow's log names it
        """See `flow.intake.IntakeObserver`."""
        self._stopped.inc()


class _LagCollector(Collector):
    """How far each assigned partition's committed offset is behind its end; grows when workers are too few or stuck."""

    def __init__(self, lags: Mapping[str, Lag]) -> None:
        self._lags = lags

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "keyriver_lag_records", "Records not yet committed", labels=("lane", "topic", "partition")
        )
        for lane, lag in self._lags.items():
            for partition, records in lag().items():
                family.add_metric((lane, partition.topic, str(partition.number)), records)
        yield family
