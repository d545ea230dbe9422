"""The client against a scripted fleet: values in, values out, whatever the operation."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.unit.client.fleet import KEK, Asked, Fleet, MemoryTransport
from worker.client import ItemError, KeyriverClient, NoAnswer, Options, RequestRefused, Rewrapped, Unwrapped, WrappedDek
from worker.client.calls import Pace
from worker.client.errors import BusDown, BusRefused
from worker.model.bodies import DekItem, KeyShowBody, RewrapItem, WrapBody
from worker.model.codes import Code
from worker.model.operations import Operation
from worker.model.records import Entry, Outgoing
from worker.model.replies import ERRORS, KeyResult, Result, UnwrapResult
from worker.model.rows import Suite

QUICK = Options(pace=Pace(answer_s=0.01, pause_s=0.001, longest_pause_s=0.002))
KEY = "acme/eu/payments"


def the_dek(one: WrappedDek | Unwrapped | ItemError) -> bytes:
    assert not isinstance(one, ItemError)
    assert one.dek is not None
    return one.dek


def silent(fleet: Fleet, asked: Asked) -> list[Entry]:
    return []


def test_nothing_is_sent_before_the_client_is_open() -> None:
    fleet = Fleet()
    with pytest.raises(BusRefused, match="async with"):
        asyncio.run(KeyriverClient(fleet.identity, MemoryTransport(fleet)).generate(KEY))


@pytest.mark.parametrize("suite", list(Suite))
async def test_what_was_generated_unwraps_by_id(suite: Suite) -> None:
    fleet = Fleet(suite)
    async with KeyriverClient(fleet.identity, MemoryTransport(fleet)) as keys:
        first, second = await keys.generate(KEY, contexts=[{"a": "1"}, {"a": "2"}])
        assert isinstance(first, WrappedDek)
        assert isinstance(second, WrappedDek)
        assert len(the_dek(first)) == 32
        assert the_dek(first) != the_dek(second)
        assert isinstance(first.id, UUID)
        assert first.blob is None
        got = await keys.unwrap([DekItem(id=first.id, context={"a": "1"}), DekItem(id=second.id, context={"a": "1"})])
        assert got[0] == Unwrapped(KEK, 1, the_dek(first))
        assert got[1] == ItemError("UNWRAP_FAILED", ERRORS[Code.UNWRAP_FAILED].message, retry=False)


async def test_own_deks_travel_sealed_and_come_back_by_blob() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    dek = bytes(range(48))
    async with KeyriverClient(fleet.identity, transport) as keys:
        (made,) = await keys.wrap(KEY, [dek], contexts=[{"for": "it"}], store=False)
        assert isinstance(made, WrappedDek)
        assert made.dek is None
        assert made.id is None
        assert the_dek((await keys.unwrap([DekItem(blob=made.blob, context={"for": "it"})]))[0]) == dek
        (moved,) = await keys.rewrap([RewrapItem(blob=made.blob)])
        assert moved == Rewrapped(KEK, 1, None, made.blob, unchanged=True)
    assert not any(dek in (record.value or b"") for record in transport.sent)
    assert transport.stopped


async def test_old_blobs_come_back_as_new_ones_if_they_are_asked_for() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    async with KeyriverClient(fleet.identity, transport) as keys:
        (made,) = await keys.wrap(KEY, [bytes(32)], store=False)
        assert isinstance(made, WrappedDek)
        (plain,) = await keys.unwrap([DekItem(blob=made.blob)])
        assert plain == Unwrapped(KEK, 1, bytes(32))
        assert b"rewrap" not in (transport.sent[-1].value or b""), "a worker of an older release knows no such field"
        (lazily,) = await keys.unwrap([DekItem(blob=made.blob)], rewrap=True)
        assert lazily == Unwrapped(KEK, 1, bytes(32), b"KR anew", 2)


async def test_a_dek_is_not_asked_for_when_only_the_wrapped_one_is_wanted() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    async with KeyriverClient(fleet.identity, transport) as keys:
        (made,) = await keys.generate(KEY, bits=128, return_dek=False, return_blob=True)
    assert isinstance(made, WrappedDek)
    assert made.dek is None
    assert made.blob is not None
    assert fleet.asked[0].recipient is None


async def test_what_can_be_told_wrong_here_is_not_sent() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    async with KeyriverClient(fleet.identity, transport) as keys:
        for dek in (bytes(15), bytes(65)):
            with pytest.raises(ValueError, match="16 to 64 bytes"):
                await keys.wrap(KEY, [dek])
        with pytest.raises(ValueError, match="shorter"):
            await keys.wrap(KEY, [bytes(32)], contexts=[])
        assert await keys.generate(KEY, contexts=[]) == []
    assert not transport.sent


async def test_an_officers_command_has_one_result_or_is_refused() -> None:
    fleet = Fleet()
    body = KeyShowBody(tenant="acme", key=KEY)
    async with KeyriverClient(fleet.identity, MemoryTransport(fleet)) as keys:
        shown = await keys.command(Operation.KEY_SHOW, body)
        assert isinstance(shown, KeyResult)
        assert shown.key.id == KEK
        with pytest.raises(ValueError, match="is not the body"):
            await keys.command(Operation.KEY_ROTATE, body)
    async with KeyriverClient(
        fleet.identity,
        MemoryTransport(fleet, lambda fleet, asked: [fleet.reply(asked, [ERRORS[Code.NOT_FOUND]])]),
    ) as keys:
        with pytest.raises(RequestRefused) as refused:
            await keys.command(Operation.KEY_SHOW, body)
    assert refused.value.code == "NOT_FOUND"


async def test_a_request_that_is_refused_as_a_whole_raises() -> None:
    fleet = Fleet()
    async with KeyriverClient(
        fleet.identity, MemoryTransport(fleet, lambda fleet, asked: [fleet.reply(asked, error=Code.CONTEXT_TOO_LARGE)])
    ) as keys:
        with pytest.raises(RequestRefused, match="CONTEXT_TOO_LARGE") as refused:
            await keys.generate(KEY, 2)
        with pytest.raises(RequestRefused, match="CONTEXT_TOO_LARGE"):
            await keys.wrap(KEY, [bytes(32)])
    assert not refused.value.retry


async def test_retries_send_the_same_id_and_bytes_with_a_new_time_and_signature() -> None:
    fleet = Fleet()
    times = iter(range(3))

    def third_time(fleet: Fleet, asked: Asked) -> list[Entry]:
        return fleet.answer(asked) if next(times) == 2 else []

    transport = MemoryTransport(fleet, third_time)
    async with KeyriverClient(fleet.identity, transport, QUICK) as keys:
        (made,) = await keys.generate(KEY)
    assert len(the_dek(made)) == 32
    assert len(transport.sent) == 3
    assert len({(record.key, record.value, record.topic) for record in transport.sent}) == 1
    headers = [dict(record.headers) for record in transport.sent]
    for name in headers[0]:
        different = len({given[name] for given in headers})
        assert different == (3 if name in {"ce_time", "keyriver-signature"} else 1), name


async def test_an_answer_to_an_earlier_attempt_is_an_answer() -> None:
    fleet = Fleet()

    def late(fleet: Fleet, asked: Asked) -> list[Entry]:
        return fleet.answer(fleet.asked[0]) if len(fleet.asked) == 2 else []

    async with KeyriverClient(fleet.identity, MemoryTransport(fleet, late), QUICK) as keys:
        assert len(the_dek((await keys.generate(KEY))[0])) == 32


async def test_items_that_may_succeed_later_are_asked_for_again_until_they_do() -> None:
    fleet = Fleet()
    good, bad, later = UnwrapResult(key=KEK, version=1), ERRORS[Code.UNWRAP_FAILED], ERRORS[Code.THROTTLED]
    script: Iterator[tuple[list[Result], list[bytes]]] = iter(
        [
            ([good, bad, later], [b"a" * 16, b"", b""]),
            # What was final stays, whatever is said later.
            ([later, later, good], [b"", b"", b"c" * 16]),
        ]
    )

    def reaction(fleet: Fleet, asked: Asked) -> list[Entry]:
        results, deks = next(script)
        return [fleet.reply(asked, results, deks)]

    transport = MemoryTransport(fleet, reaction)
    async with KeyriverClient(fleet.identity, transport, QUICK) as keys:
        got = await keys.unwrap([DekItem(blob=bytes((number,))) for number in range(3)])
    assert [the_dek(got[0]), the_dek(got[2])] == [b"a" * 16, b"c" * 16]
    assert isinstance(got[1], ItemError)
    assert len({record.value for record in transport.sent}) == 1


async def test_at_the_deadline_items_say_that_they_may_succeed_later() -> None:
    fleet = Fleet()

    def busy(fleet: Fleet, asked: Asked) -> list[Entry]:
        return [fleet.reply(asked, [UnwrapResult(key=KEK, version=1), ERRORS[Code.THROTTLED]], [b"a" * 16, b""])]

    async with KeyriverClient(fleet.identity, MemoryTransport(fleet, busy), QUICK) as keys:
        got = await keys.unwrap([DekItem(blob=b"1"), DekItem(blob=b"2")], timeout_s=0.1)
    assert the_dek(got[0]) == b"a" * 16
    assert isinstance(got[1], ItemError)
    assert got[1].retry


async def test_what_the_fleet_throttled_is_sent_again_when_it_said_and_not_sooner() -> None:
    fleet = Fleet()
    moments: list[float] = []

    def throttled_once(fleet: Fleet, asked: Asked) -> list[Entry]:
        moments.append(asyncio.get_running_loop().time())
        return (
            [fleet.reply(asked, error=Code.THROTTLED, retry_after_ms=40)] if len(moments) == 1 else fleet.answer(asked)
        )

    async with KeyriverClient(fleet.identity, MemoryTransport(fleet, throttled_once), QUICK) as keys:
        assert len(the_dek((await keys.generate(KEY))[0])) == 32
    assert moments[1] - moments[0] >= 0.04

    def throttled(fleet: Fleet, asked: Asked) -> list[Entry]:
        return [fleet.reply(asked, error=Code.THROTTLED, retry_after_ms=3_600_000)]

    transport = MemoryTransport(fleet, throttled)
    async with KeyriverClient(fleet.identity, transport, QUICK) as keys:
        with pytest.raises(RequestRefused, match="THROTTLED") as refused:
            await keys.generate(KEY, timeout_s=590)  # told at once, for it would not be sent again
    assert (refused.value.retry, refused.value.retry_after_ms) == (True, 3_600_000)
    assert len(transport.sent) == 1


async def test_a_retryable_refusal_is_retried_and_in_the_end_raised() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet, lambda fleet, asked: [fleet.reply(asked, error=Code.DEFERRED)])
    async with KeyriverClient(fleet.identity, transport, QUICK) as keys:
        with pytest.raises(RequestRefused) as refused:
            await keys.generate(KEY, timeout_s=0.1)
    assert refused.value.retry
    assert len(transport.sent) > 1


async def test_silence_ends_at_the_deadline_which_the_request_names() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet, silent)
    async with KeyriverClient(fleet.identity, transport, QUICK) as keys:
        with pytest.raises(NoAnswer) as none:
            await keys.generate(KEY, timeout_s=0.05)
        assert none.value.request_id == fleet.asked[0].id
        with pytest.raises(ValueError, match="timeout_s"):
            await keys.generate(KEY, timeout_s=601)
    assert fleet.asked[0].headers["ce_deadline"] > fleet.asked[0].headers["ce_time"]


async def test_a_broker_that_is_away_is_tried_again_and_named_if_it_stays_away() -> None:
    fleet = Fleet()

    class Flaky(MemoryTransport):
        failures = 2

        async def send(self, record: Outgoing) -> None:
            if self.failures:
                self.failures -= 1
                raise BusDown("away")
            await super().send(record)

    transport = Flaky(fleet)
    async with KeyriverClient(fleet.identity, transport, QUICK) as keys:
        assert len(the_dek((await keys.generate(KEY))[0])) == 32
        transport.failures = 1_000_000
        with pytest.raises(NoAnswer, match="away"):
            await keys.generate(KEY, timeout_s=0.05)


async def test_a_cancelled_call_leaves_nothing_behind_and_its_answer_is_ignored() -> None:
    fleet = Fleet()
    sent = asyncio.Event()

    def note(fleet: Fleet, asked: Asked) -> list[Entry]:
        sent.set()
        return []

    transport = MemoryTransport(fleet, note)
    async with KeyriverClient(fleet.identity, transport) as keys:
        for count in (1, 2):  # by the batcher, and without it
            sent.clear()
            task = asyncio.create_task(keys.generate(KEY, count))
            await sent.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not keys._sender._replies._calls
            transport.deliver(fleet.answer(fleet.asked[-1])[0])
            await asyncio.sleep(0)
        assert not keys.refused


async def test_an_intake_key_that_rotated_away_is_replaced_by_its_successor() -> None:
    fleet = Fleet()

    def rotated(fleet: Fleet, asked: Asked) -> list[Entry]:
        assert isinstance(asked.body, WrapBody)
        assert asked.body.sealed is not None
        if asked.body.sealed.sequence == 1:
            transport.announce(*fleet.intake_key(2))
            return [fleet.reply(asked, error=Code.INTAKE_KEY_UNKNOWN)]
        return fleet.answer(asked)

    transport = MemoryTransport(fleet, rotated)
    async with KeyriverClient(fleet.identity, transport) as keys:
        (made,) = await keys.wrap(KEY, [bytes(32)])
    assert isinstance(made, WrappedDek)
    assert fleet.asked[0].id != fleet.asked[1].id


async def test_what_may_have_been_stored_is_not_sealed_anew() -> None:
    """The first attempt took effect and its answer was lost; the key rotated away before the second."""
    fleet = Fleet()

    def rotated(fleet: Fleet, asked: Asked) -> list[Entry]:
        if len(fleet.asked) == 1:
            fleet.answer(asked)
            transport.announce(*fleet.intake_key(2))
            return []
        return [fleet.reply(asked, error=Code.INTAKE_KEY_UNKNOWN)]

    transport = MemoryTransport(fleet, rotated)
    async with KeyriverClient(fleet.identity, transport, QUICK) as keys:
        with pytest.raises(NoAnswer, match="an earlier attempt may have taken effect"):
            await keys.wrap(KEY, [bytes(32)])
    assert len({asked.id for asked in fleet.asked}) == 1
