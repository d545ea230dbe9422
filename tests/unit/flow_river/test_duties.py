"""What goes on beside the river: intake keys by the day, the voice's certificate, the outbox."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from uuid import UUID

import pytest

from tests.unit.flow_river.rig import FLEET, PAYMENTS, TOPICS, Rig
from worker.client.wire import header
from worker.edges.store.fake import FakeStore
from worker.flow.intakekeys import DAY_MS, SUITES, IntakeKeys, sequence_of
from worker.flow.relay import Relay
from worker.flow.trust import Trust
from worker.flow.upkeep import Duty, keep_up
from worker.flow.voice import LIFE_MS, RENEW_MS, RunVoice
from worker.model.bodies import DekItem, KeyRotateBody, UnwrapBody
from worker.model.effects import Moved
from worker.model.operations import Operation
from worker.model.records import Entry
from worker.model.rows import Algorithm, IntakeKey, Suite
from worker.ports import BusUnavailable, StoreUnavailable, TokenUnavailable
from worker.seal.announcements import SKEW_MS, IntakeAnnouncement, WorkerCertificate
from worker.seal.claims import EventClaims
from worker.seal.signatures import verify_jws

MIDNIGHT = 20_000 * DAY_MS
NOON = MIDNIGHT + DAY_MS // 2


def intake_rows(rig: Rig) -> dict[int, IntakeKey]:
    found = [stored.row for stored in rig.memory.rows.values() if isinstance(stored.row, IntakeKey)]
    return {row.sequence: row for row in found}


def keeper(rig: Rig, *suites: Suite) -> IntakeKeys:
    """Another worker's."""
    return IntakeKeys(
        fleet=FLEET,
        intake_topic=TOPICS.intake,
        suites=suites or (Suite.X25519,),
        store=rig.store,
        trust=Trust(rig.token.fleet_keys),
        fleet_keys=rig.token.fleet_keys,
        sink=rig.sink,
        progress=rig.progress,
        private_halves=rig.memory.private_halves,
    )


def announced(rig: Rig, now_ms: int) -> list[IntakeAnnouncement]:
    fleet_key = rig.token.fleet_keys.signing_key
    return [IntakeAnnouncement.parse(value(entry), FLEET, fleet_key, now_ms) for entry in intake(rig, b"intake/")]


def intake(rig: Rig, prefix: bytes) -> list[Entry]:
    return [entry for entry in rig.bus.entries(TOPICS.intake) if (entry.key or b"").startswith(prefix)]


def value(entry: Entry) -> bytes:
    assert entry.value is not None
    return entry.value


# Intake keys.


@pytest.mark.parametrize(
    ("now", "days"),
    [
        (NOON, {20_000}),
        (MIDNIGHT, {20_000}),
        (MIDNIGHT + DAY_MS - SKEW_MS - 1, {20_000}),
        (MIDNIGHT + DAY_MS - SKEW_MS, {20_000, 20_001}),
        (MIDNIGHT + DAY_MS - 1, {20_000, 20_001}),
    ],
)
async def test_the_key_of_the_day_and_tomorrows_five_minutes_before(now: int, days: set[int]) -> None:
    rig = Rig()
    await rig.intake.keep(now)
    assert set(intake_rows(rig)) == {sequence_of(day, Suite.X25519) for day in days}
    for row in intake_rows(rig).values():
        day = row.sequence // 8
        assert (row.not_before_ms, row.not_after_ms) == (day * DAY_MS - SKEW_MS, (day + 1) * DAY_MS + SKEW_MS)
    assert {said.sequence for said in announced(rig, now)} == set(intake_rows(rig))


async def test_keys_overlap_so_that_none_is_missing_at_midnight() -> None:
    rig = Rig()
    for now in range(NOON, NOON + DAY_MS, SKEW_MS):
        await rig.intake.keep(now)
        held = [row for row in intake_rows(rig).values() if row.not_before_ms <= now <= row.not_after_ms]
        assert held, now
    assert len(announced(rig, NOON + DAY_MS // 2)) == 2, "each is announced once"


async def test_every_suite_has_a_sequence_of_its_own() -> None:
    rig = Rig()
    await keeper(rig, *SUITES).keep(NOON)
    assert {row.suite: row.sequence % 8 for row in intake_rows(rig).values()} == {
        Suite.P256: 0,
        Suite.X25519: 1,
        Suite.MLKEM768_X25519: 2,
    }


async def test_workers_that_race_use_one_key() -> None:
    rig = Rig()
    keepers = [keeper(rig) for _ in range(4)]
    await asyncio.gather(*[each.keep(NOON) for each in keepers])
    (row,) = intake_rows(rig).values()
    assert {said.public_key for said in announced(rig, NOON)} == {row.public_key}
    for each in keepers:
        opener = await each.opener(row)
        assert opener is not None
        assert await each.opener(row) is opener


async def test_a_key_that_does_not_come_is_told() -> None:
    rig = Rig()
    rig.store.script = [[Moved()]]
    with pytest.raises(StoreUnavailable, match="intake keys are missing"):
        await rig.intake.keep(NOON)


async def test_a_key_that_was_not_announced_is_announced_later() -> None:
    rig = Rig()
    rig.bus.is_away = True
    with pytest.raises(BusUnavailable):
        await rig.intake.keep(NOON)
    rig.bus.is_away = False
    await rig.intake.keep(NOON)
    await rig.intake.keep(NOON)
    assert len(announced(rig, NOON)) == 1


async def test_a_private_half_is_forgotten_when_all_that_was_sealed_to_it_has_been_read() -> None:
    rig = Rig()
    await rig.intake.keep(NOON)
    (row,) = intake_rows(rig).values()
    opener = await rig.intake.opener(row)
    assert opener is not None
    await rig.intake.keep(row.not_after_ms + 1)
    assert intake_rows(rig)[row.sequence] == row, "somebody may still have a request to read"
    assert rig.progress.asked == [row.not_after_ms + SKEW_MS], "a fresh request may be appended five minutes late"
    rig.progress.is_past = True
    await rig.intake.keep(row.not_after_ms)
    assert intake_rows(rig)[row.sequence] == row, "its time is not over"
    await rig.intake.keep(row.not_after_ms + 1)
    bare = intake_rows(rig)[row.sequence]
    assert bare == replace(row, wrapped_private=b"", revision=2)
    assert await rig.intake.opener(bare) is None
    await rig.intake.keep(row.not_after_ms + 2)
    assert intake_rows(rig)[row.sequence].revision == 2


async def test_who_forgets_second_changes_nothing() -> None:
    rig = Rig()
    await rig.intake.keep(NOON)
    (row,) = intake_rows(rig).values()
    rig.progress.is_past = True
    await rig.intake.keep(row.not_after_ms - 1)
    rig.store.script = [[Moved()]]
    await rig.intake.keep(row.not_after_ms + 1)
    assert intake_rows(rig)[row.sequence] == row


async def test_a_forgotten_key_opens_nothing_and_a_remembered_answer_still_comes() -> None:
    rig = await Rig.made()
    mine = [b"a" * 32]
    done = rig.draft(Operation.WRAP, rig.sealed(mine, "done"), id_="done")
    await rig.run(done)
    answered = rig.told(done)[0].results
    late = rig.sealed(mine, "late")
    rig.clock.ms += 86_400_000 + 2 * SKEW_MS
    await rig.voice.renew(rig.clock.ms)
    rig.progress.is_past = True
    await rig.intake.keep(rig.clock.ms)
    again = rig.again(done)
    await rig.run(again)
    assert rig.told(again)[0].results == answered
    (made,) = rig.told(again)[0].results
    assert (await rig.ask(Operation.UNWRAP, UnwrapBody(items=[DekItem(id=made.id)]))).deks == mine  # type: ignore[union-attr]
    assert (await rig.ask(Operation.WRAP, late, id_="late")).code == "INTAKE_KEY_UNKNOWN"


async def test_a_key_is_not_used_outside_its_time() -> None:
    rig = await Rig.made()
    (row,) = intake_rows(rig).values()
    body = rig.sealed([b"a" * 32], "mine")
    rig.clock.ms = row.not_before_ms - 1
    assert (await rig.ask(Operation.WRAP, body, id_="mine")).code == "INTAKE_KEY_UNKNOWN"
    rig.clock.ms = row.not_after_ms + 1
    assert (await rig.ask(Operation.WRAP, body, id_="mine")).code == "INTAKE_KEY_UNKNOWN"
    rig.clock.ms = row.not_after_ms
    assert (await rig.ask(Operation.WRAP, body, id_="mine")).codes == [""]


# The voice.


def certificates(rig: Rig, now_ms: int) -> list[WorkerCertificate]:
    fleet_key = rig.token.fleet_keys.signing_key
    return [WorkerCertificate.parse(value(each), FLEET, fleet_key, now_ms) for each in intake(rig, b"certificate/")]


def voice(rig: Rig) -> RunVoice:
    return RunVoice(FLEET, TOPICS.intake, rig.token.fleet_keys, rig.sink, rig.clock)


async def test_nothing_is_said_without_a_certificate() -> None:
    rig = Rig()
    with pytest.raises(BusUnavailable, match="no certificate"):
        _ = voice(rig).signer


async def test_a_key_is_renewed_at_half_its_life() -> None:
    rig = Rig()
    speaker = voice(rig)
    kids = []
    for now in (NOON, NOON + RENEW_MS - 60_001, NOON + RENEW_MS - 60_000, NOON + RENEW_MS):
        rig.clock.ms = now
        await speaker.renew(now)
        kids.append(speaker.signer.kid)
    assert kids[0] == kids[1] != kids[2] == kids[3]
    said = certificates(rig, NOON + RENEW_MS)
    assert [each.kid for each in said] == [kids[0], kids[2]]
    assert [each.not_after_ms - each.not_before_ms for each in said] == [LIFE_MS] * 2
    assert said[0].not_after_ms > said[1].not_before_ms + RENEW_MS - 120_000, "the old one holds while answers travel"


@pytest.mark.parametrize("missing", ["token", "bus", "topic"])
async def test_a_key_that_nobody_can_verify_is_not_used(missing: str) -> None:
    rig = Rig()
    speaker = voice(rig)
    rig.clock.ms = NOON
    await speaker.renew(NOON)
    before = speaker.signer
    rig.token.away, rig.bus.is_away = missing == "token", missing == "bus"
    if missing == "topic":
        rig.bus.create(TOPICS.intake, refuses=True)
    with pytest.raises(TokenUnavailable if missing == "token" else BusUnavailable):
        await speaker.renew(NOON + LIFE_MS)
    assert speaker.signer is before
    rig.clock.ms = NOON + LIFE_MS
    with pytest.raises(BusUnavailable, match="expired"):
        _ = speaker.signer


def test_the_voice_prints_no_key() -> None:
    assert "signer" not in repr(voice(Rig()))


# The outbox.


def relay(rig: Rig) -> Relay:
    return Relay(FLEET, TOPICS.events, TOPICS.hints, TOPICS.sequences, rig.memory, rig.sink, rig.voice)


async def test_events_go_out_signed_with_their_id_until_they_are_acknowledged() -> None:
    rig = await Rig.made()
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS))
    waiting = await rig.memory.waiting(100)
    assert await relay(rig).turn() == len(waiting) == 10
    assert await relay(rig).turn() == 0
    *facts, hint = waiting
    assert hint.type == "keyriver.hint.v1"
    entries = [*rig.bus.entries(TOPICS.events), *rig.bus.entries(TOPICS.hints)]
    for entry, event in zip(entries, [*facts, hint], strict=True):
        heads = {name: text.decode() for name, text in entry.headers}
        claims = EventClaims(
            fleet=FLEET,
            tenant="acme",
            topic=TOPICS.hints if event is hint else TOPICS.events,
            id=str(event.id),
            type=event.type,
            time=heads["ce_time"],
            body_sha256=sha256(value(entry)).digest(),
        )
        verify_jws(heads["keyriver-signature"], claims.payload(), Algorithm.ED25519, rig.voice.signer.public_key)
        assert (heads["ce_id"], heads["ce_type"], heads["ce_tenant"]) == (str(event.id), event.type, "acme")
        assert (entry.key, entry.value) == (b"acme", event.body)


async def test_an_event_that_was_not_acknowledged_goes_again_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig.made()

    async def fails(store: FakeStore, ids: Sequence[UUID]) -> None:
        del store, ids
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(FakeStore, "acknowledge", fails)
        with pytest.raises(StoreUnavailable):
            await relay(rig).turn()
    assert await relay(rig).turn() == 7
    words = [
        (each.value, header(each.headers, "ce_id"), header(each.headers, "ce_time"))
        for each in rig.bus.entries(TOPICS.events)
    ]
    assert words[:7] == words[7:]


async def test_an_event_that_is_refused_waits_and_the_others_go() -> None:
    rig = await Rig.made()
    first = (await rig.memory.waiting(1))[0].id
    rig.memory.outbox[first] = replace(rig.memory.outbox[first], body=b"x" * 10_000_000)
    assert await relay(rig).turn() == 6
    assert [event.id for event in await rig.memory.waiting(10)] == [first]


# Duties.


async def test_a_duty_that_fails_is_tried_again_and_harms_no_other() -> None:
    done: list[str] = []
    enough = asyncio.Event()

    async def fails() -> None:
        done.append("bad")
        raise ValueError("any")

    async def works() -> None:
        done.append("good")
        if done.count("bad") >= 3 and done.count("good") >= 3:
            enough.set()

    task = asyncio.create_task(keep_up([Duty("bad", fails, 3600.0, 0.001), Duty("good", works, 0.001)]))
    await asyncio.wait_for(enough.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
