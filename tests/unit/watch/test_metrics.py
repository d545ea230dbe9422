"""The observers count what they are told, under bounded labels."""

from typing import cast
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.chain.plan import Conclusion, Plan
from worker.edges.hsm import Observer, TokenState
from worker.flow.campaigns import CampaignWatch
from worker.flow.deadletters import Mourner
from worker.flow.fairness import PaceWatch
from worker.flow.guarding import KeystoreWatch, Outcome
from worker.flow.intake import IntakeObserver
from worker.flow.opening import Rejected
from worker.flow.river import Watch
from worker.model.codes import Code
from worker.model.effects import Settlement
from worker.model.hsm import Fault
from worker.model.keystores import KeystoreAddress, Provider
from worker.model.outcomes import Failed, Unwrapped
from worker.model.records import Closed, Partition, Record, Undeliverable
from worker.model.requests import Envelope, LedgerKey, ReplyRoute
from worker.watch import Metrics

PARTITION = Partition("keyriver.wrap.v1", 3)
RECORD = Record(PARTITION, 7, b"k", b"v", (), 0, 1)


def envelope(kind: str = "keyriver.unwrap.v1") -> Envelope:
    return Envelope(
        record=RECORD,
        key=LedgerKey("acme", "billing", "s", "1"),
        type=kind,
        time_ms=0,
        deadline_ms=None,
        recipient=None,
        route=ReplyRoute("r", None, ()),
        body_digest=b"",
        signed_digest=b"",
        client_revision=1,
    )


def samples(metrics: Metrics) -> dict[frozenset[str], float]:
    """Every sample by its name and label values, histogram buckets left out."""
    return {
        frozenset((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def of(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_it_is_what_the_flow_and_the_edge_ask_for() -> None:
    metrics = Metrics()
    watch: Watch = metrics
    mourner: Mourner = metrics
    observer: Observer = metrics
    lane: IntakeObserver = metrics.lane("bulk")
    assert all((watch, mourner, observer, lane))


def test_results_are_counted_by_operation_and_code() -> None:
    metrics = Metrics()
    good = Unwrapped(uuid4(), 1, b"")
    outcomes = (good, good, Failed(Code.UNWRAP_FAILED), good)
    nothing = Settlement(None, None, (), (), ())
    metrics.concluded(envelope(), Conclusion(cast(Plan, None), outcomes, nothing))
    metrics.concluded(envelope(), Rejected(envelope(), Code.MALFORMED))
    for number in range(50):
        metrics.concluded(envelope(f"keyriver.{number}.v1"), Rejected(envelope(), Code.MALFORMED))
    found = {key: value for key, value in samples(metrics).items() if "keyriver_results_total" in key}
    assert found == {
        of("keyriver_results_total", "unwrap", "OK"): 3,
        of("keyriver_results_total", "unwrap", "UNWRAP_FAILED"): 1,
        of("keyriver_results_total", "unwrap", "MALFORMED"): 1,
        of("keyriver_results_total", "unknown", "MALFORMED"): 50,
    }


def test_stages_and_lanes() -> None:
    metrics = Metrics()
    metrics.stage("know", 10, 0.5)
    metrics.stage("know", 20, 0.25)
    lane = metrics.lane("interactive")
    lane.caught(500, 4000, Closed.RECORDS)
    lane.caught(1, 40, Closed.EMPTY)
    lane.finished(500, 0.1)
    lane.failed(1, TimeoutError("x"))
    lane.revoked(4, 17)
    lane.suspected(RECORD, 2)
    lane.stopped(PARTITION)
    found = samples(metrics)
    assert found[of("keyriver_stage_seconds_sum", "know")] == 0.75
    assert found[of("keyriver_stage_items_total", "know")] == 30
    assert found[of("keyriver_batch_records_sum", "interactive")] == 501
    assert found[of("keyriver_batch_bytes_sum", "interactive")] == 4040
    assert found[of("keyriver_batches_closed_total", "interactive", "records")] == 1
    assert found[of("keyriver_batches_closed_total", "interactive", "bytes")] == 0
    assert found[of("keyriver_batch_seconds_count", "interactive")] == 1
    assert found[of("keyriver_batch_failures_total", "interactive", "TimeoutError")] == 1
    assert found[of("keyriver_rebalances_total", "interactive")] == 1
    assert found[of("keyriver_unfinished_total", "interactive")] == 17
    assert found[of("keyriver_suspects_total", "interactive")] == 1
    assert found[of("keyriver_stopped_partitions", "interactive")] == 1


def test_an_alarm_that_never_rang_is_there_to_be_watched() -> None:
    metrics = Metrics()
    metrics.lane("control")
    assert samples(metrics)[of("keyriver_stopped_partitions", "control")] == 0


def test_the_dead_are_counted() -> None:
    metrics = Metrics()
    metrics.buried(RECORD, Code.UNREADABLE)
    metrics.noted(RECORD, Code.UNAUTHENTICATED)
    for number in range(50):
        metrics.undelivered(f"callers.own.{number}", Undeliverable.NO_TOPIC)
    found = samples(metrics)
    assert found[of("keyriver_dead_letters_total", "keyriver.wrap.v1", "UNREADABLE")] == 1
    assert found[of("keyriver_dead_letters_noted_total", "keyriver.wrap.v1", "UNAUTHENTICATED")] == 1
    assert found[of("keyriver_undelivered_total", "no-topic")] == 50


def test_the_token(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.done("wrap", 64, 0.64, None)
    metrics.done("wrap", 1, 0.01, Fault.UNAVAILABLE)
    metrics.sessions(3)
    metrics.token(TokenState.READY, "")
    metrics.token(TokenState.PIN_REFUSED, "CKR_PIN_INCORRECT")
    assert ("worker.watch.metrics", 50, "the token is pin-refused: CKR_PIN_INCORRECT") in caplog.record_tuples
    found = samples(metrics)
    assert found[of("keyriver_hsm_operations_total", "wrap", "OK")] == 64
    assert found[of("keyriver_hsm_operations_total", "wrap", Fault.UNAVAILABLE.value)] == 1
    assert round(found[of("keyriver_hsm_seconds_sum", "wrap")], 9) == 0.02
    assert found[of("keyriver_hsm_sessions_in_use")] == 3
    assert found[of("keyriver_token_state", "ready")] == 0
    assert found[of("keyriver_token_state", "pin-refused")] == 1


def test_open_handles_are_read_at_each_scrape() -> None:
    metrics, handles = Metrics(), [3]
    metrics.handles_of(lambda: handles[-1])
    assert samples(metrics)[of("keyriver_hsm_handles")] == 3
    handles.append(0)
    assert samples(metrics)[of("keyriver_hsm_handles")] == 0


def test_lag_is_read_at_each_scrape() -> None:
    metrics, behind = Metrics(), {PARTITION: 5}
    metrics.lag_of("interactive", lambda: behind)
    assert samples(metrics)[of("keyriver_lag_records", "interactive", "keyriver.wrap.v1", "3")] == 5
    behind[PARTITION] = 9
    assert samples(metrics)[of("keyriver_lag_records", "interactive", "keyriver.wrap.v1", "3")] == 9
    behind.clear()
    assert not [key for key in samples(metrics) if "keyriver_lag_records" in key]


def test_keystores_are_told_apart_by_credential_and_outcome() -> None:
    metrics = Metrics()
    watch: KeystoreWatch = metrics
    where = KeystoreAddress(Provider.XKS, "https://kms.acme.example", "a-key-of-theirs", "acme")
    for outcome in Outcome:
        watch.exchanged(where, "decrypt", outcome, 0.01)
    watch.circuit(where, closed=False)
    found = samples(metrics)
    for outcome in Outcome:
        assert found[of("keyriver_keystore_calls_total", "acme", "decrypt", outcome.value)] == 1
    assert found[of("keyriver_keystore_seconds_count", "xks")] == len(Outcome) - 2  # two are not sent
    assert found[of("keyriver_keystores_silent", "acme")] == 1
    watch.circuit(where, closed=True)
    assert samples(metrics)[of("keyriver_keystores_silent", "acme")] == 0
    assert b"a-key-of-theirs" not in metrics.render()


def test_campaigns_are_counted_by_what_became_of_their_items() -> None:
    metrics = Metrics()
    watch: CampaignWatch = metrics
    id_ = uuid4()
    watch.sliced(7, {"INTEGRITY": 2}, 0.1)
    watch.sliced(3, {}, 0.1)
    watch.remains(id_, 50, 25.0, 2)
    found = samples(metrics)
    assert found[of("keyriver_campaign_items_total", "OK")] == 10
    assert found[of("keyriver_campaign_items_total", "INTEGRITY")] == 2
    assert found[of("keyriver_campaign_slice_seconds_count")] == 2
    assert found[of("keyriver_campaign_remaining", str(id_))] == 50
    assert found[of("keyriver_campaign_eta_seconds", str(id_))] == 2
    assert found[of("keyriver_campaign_rate", str(id_))] == 25
    assert found[of("keyriver_campaign_failures", str(id_))] == 2
    watch.gone(id_)
    assert not [names for names in samples(metrics) if str(id_) in names]


def test_the_pace_of_bulk_work_is_seen() -> None:
    metrics = Metrics()
    watch: PaceWatch = metrics
    watch.interactive(250)
    watch.paced(0.5)
    found = samples(metrics)
    assert (found[of("keyriver_interactive_p99_seconds")], found[of("keyriver_bulk_pace")]) == (0.25, 0.5)
