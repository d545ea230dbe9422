"""What went wrong once flows again from the top: twins, moved rows, freezes, lost partitions, lost services."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.flow_river.parts import Sent
from tests.unit.flow_river.rig import PAYMENTS, TOPICS, Rig
from worker.client.answers import Rewrap, Wrap
from worker.flow import river
from worker.flow.failpoints import NAMES, Failpoint, FailpointError
from worker.model.bodies import (
    ClientRevokeBody,
    KeyRotateBody,
    RewrapBody,
    RewrapItem,
    WrapBody,
    WrapItem,
)
from worker.model.effects import Moved, PutRow, Settled, Settlement
from worker.model.operations import Operation
from worker.model.records import Verdict
from worker.model.rows import Client, Key, RowRef, Version
from worker.ports import BusUnavailable, StaleEpoch, StoreUnavailable
from worker.seal.rowmac import mac_input

WRAP = WrapBody(key=PAYMENTS, items=[WrapItem(), WrapItem()], return_dek=True)


def wrap(rig: Rig) -> Sent:
    return rig.draft(Operation.WRAP, WRAP)


def ids(rig: Rig, sent: Sent) -> list[list[object]]:
    return [[result.id for result in told.results if isinstance(result, Wrap)] for told in rig.told(sent)]


async def put(rig: Rig, row: Client | Key) -> None:
    """Another worker's write, with its MAC."""
    (mac,) = await rig.token.fleet_keys.mac([mac_input(row)])
    assert await rig.memory.settle([Settlement(None, None, (), (), (PutRow(row, mac.version, mac.value),))]) == [
        Settled()
    ]


def row(rig: Rig, kind: type[Client | Key], alias: str = "billing") -> Client | Key:
    if kind is Client:
        found = rig.memory.rows[RowRef(Client.TABLE, alias)].row
    else:
        (found,) = [
            stored.row for stored in rig.memory.rows.values() if isinstance(stored.row, Key) and stored.row.layer == 2
        ]
    assert isinstance(found, Client | Key)
    return found


# Twins.


async def test_a_request_twice_in_one_batch_is_done_once_and_answered_twice() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    twin = replace(sent, record=replace(sent.record, offset=10_000))
    assert await rig.run(sent, twin) == [Verdict.DONE] * 2
    first, second = rig.told(sent)
    assert first.results == second.results
    assert first.deks == second.deks
    assert len(rig.memory.deks) == 2
    assert rig.census() == rig.rows()


async def test_a_request_that_comes_again_in_any_way_is_answered_alike() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    await rig.run(sent)
    await rig.run(rig.redelivered(sent))
    rig.clock.ms += 3_600_000
    again = rig.again(sent)
    rig.river = rig.worker()
    await rig.run(again)
    (later,) = rig.told(again)
    one, two = rig.told(sent)
    assert one.results == two.results == later.results
    assert one.deks == two.deks == later.deks
    assert len(rig.memory.deks) == 2


async def test_two_workers_with_one_request_make_one_effect() -> None:
    """The second knows nothing of the first when it decides: its settle loses, and it tells what the first made."""
    rig = await Rig.made()
    sent = wrap(rig)
    other = rig.worker()
    first = asyncio.Event()

    async def settle_late() -> None:
        await first.wait()

    rig.store.script = [settle_late, None]
    late = asyncio.create_task(rig.run(sent))
    while rig.store.script != [None]:
        await asyncio.sleep(0)
    await other.run([rig.redelivered(sent).record])
    first.set()
    assert await late == [Verdict.DONE]
    assert len(ids(rig, sent)) == 2
    assert ids(rig, sent)[0] == ids(rig, sent)[1] == list(rig.memory.deks)
    one, two = rig.told(sent)
    assert one.deks == two.deks


async def test_another_body_with_the_same_id_loses_even_in_one_batch() -> None:
    rig = await Rig.made()
    first = rig.draft(Operation.WRAP, WRAP, id_="same")
    other = rig.draft(Operation.WRAP, WrapBody(key=PAYMENTS, items=[WrapItem()]), id_="same")
    assert await rig.run(first, other) == [Verdict.DONE] * 2
    assert rig.told(first)[0].codes == ["", ""]
    assert rig.told(other)[0].code == "ID_REUSED"
    assert len(rig.memory.deks) == 2


async def test_one_dek_moved_by_two_requests_of_one_batch() -> None:
    rig = await Rig.made()
    await rig.ask(Operation.WRAP, WRAP)
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS))
    body = RewrapBody(items=[RewrapItem(id=dek) for dek in rig.memory.deks], return_blob=True)
    both = [rig.draft(Operation.REWRAP, body) for _ in range(2)]
    await rig.run(*both)
    told = [[one for one in rig.told(sent)[0].results if isinstance(one, Rewrap)] for sent in both]
    assert [one.unchanged for one in told[0]] == [False, False]
    assert [one.unchanged for one in told[1]] == [True, True]
    assert [one.blob for one in told[0]] == [one.blob for one in told[1]]
    assert rig.census() == rig.rows()


async def test_many_rotations_of_one_key_in_one_batch_follow_each_other() -> None:
    """Each round settles one; those that are left when the rounds end are told to come again, and nothing hangs."""
    rig = await Rig.made()
    body = KeyRotateBody(tenant="acme", key="acme")
    sent = [rig.draft(Operation.KEY_ROTATE, body, rig.ann) for _ in range(river.ROUNDS + 3)]
    assert await rig.run(*sent) == [Verdict.DONE] * len(sent)
    codes = [rig.told(one)[0].code for one in sent]
    done = codes.count("")
    assert set(codes) <= {"", "DEFERRED"}
    assert 1 < done == len(rig.token.masters) - 1
    left = [rig.again(one) for one, code in zip(sent, codes, strict=True) if code]
    await rig.run(*left)
    assert all(rig.told(one)[-1].code == "" for one in left)
    versions = [stored.row for stored in rig.memory.rows.values() if isinstance(stored.row, Version)]
    assert rig.token.masters.keys() == {version.material for version in versions if version.material is not None}


# Moved rows.


async def test_what_was_decided_under_a_row_that_moved_is_decided_anew() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    rig.store.script = [[Moved()]]
    assert await rig.run(sent) == [Verdict.DONE]
    assert ids(rig, sent) == [list(rig.memory.deks)]
    assert rig.census() == rig.rows()


async def test_a_wrap_that_settles_after_a_rotation_is_done_under_the_new_version() -> None:
    """DELIVERY D8: the settle under the old version is refused by its revision."""
    rig = await Rig.made()
    rotation = rig.draft(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS), rig.ann)
    wrapping = wrap(rig)
    await rig.run(rotation, wrapping)
    (told,) = rig.told(wrapping)
    assert {result.version for result in told.results if isinstance(result, Wrap)} == {2}
    assert {dek.version for dek in rig.memory.deks.values()} == {2}
    assert rig.census() == rig.rows()


async def test_rows_that_never_stand_still_end_in_a_retryable_answer() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    rig.store.script = [[Moved()] for _ in range(river.ROUNDS - 1)]
    assert await rig.run(sent) == [Verdict.DONE]
    assert rig.told(sent)[0].code == "DEFERRED"
    assert rig.memory.deks == {}
    rig.store.script = [[Moved()] for _ in range(river.ROUNDS)]
    with pytest.raises(StoreUnavailable):
        await rig.run(rig.redelivered(sent))


async def test_a_client_whose_row_changed_is_read_again() -> None:
    rig = await Rig.made()
    before = row(rig, Client)
    assert isinstance(before, Client)
    await rig.ask(Operation.WRAP, WRAP)
    await put(rig, replace(before, pattern="acme/us/*", revision=2))
    sent = wrap(rig)
    await rig.run(sent)
    assert rig.told(sent)[0].codes == ["NOT_FOUND"] * 2


@pytest.mark.parametrize("body", [WRAP.model_dump_json().encode(), b"{}"])
async def test_a_client_that_is_revoked_at_the_last_moment_is_answered_nothing(body: bytes) -> None:
    """Neither a result nor a refusal, though `open` still took its signature for good."""
    rig = await Rig.made()
    await rig.ask(Operation.WRAP, WRAP)
    sent = rig.signed(replace(wrap(rig).request, body=body), rig.billing)
    revoke = rig.draft(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant="acme", client="billing"), rig.ann)
    assert await rig.run(revoke, sent) == [Verdict.DONE, Verdict.UNAUTHENTIC]
    assert rig.told(sent) == []
    assert len(rig.memory.deks) == 2


# A process that stood still.


def stand_still(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    """What the river's clock says, the last time for ever."""
    left = list(times)
    monkeypatch.setattr(river, "boottime", lambda: left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize(("waited", "checks"), [(0.0, 0), (0.249, 0), (0.25, 1), (90.0, 1)])
async def test_an_answer_that_waited_is_checked_once_more(
    monkeypatch: pytest.MonkeyPatch, waited: float, checks: int
) -> None:
    rig = await Rig.made()
    stand_still(monkeypatch, 0.0, waited)
    before = len(rig.store.settled)
    sent = wrap(rig)
    await rig.run(sent)
    assert len(rig.store.settled) - before == 1 + checks
    assert len(rig.told(sent)) == 1
    if checks:
        (check,) = rig.store.settled[-1]
        first = rig.store.settled[before][0]
        assert (check.ledger, check.effects, check.seen) == (None, (), first.seen)


async def test_an_answer_that_waited_while_its_key_was_disabled_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settled in time, so it stands in the ledger; but after the officer's answer nobody may be given the DEK."""
    rig = await Rig.made()
    sent = wrap(rig)
    upper = row(rig, Key)
    assert isinstance(upper, Key)
    (mac,) = await rig.token.fleet_keys.mac([mac_input(replace(upper, enabled=False, revision=upper.revision + 1))])
    off = replace(upper, enabled=False, revision=upper.revision + 1)

    def disable() -> None:
        rig.memory.rows[off.ref] = replace(rig.memory.rows[off.ref], row=off, mac_version=mac.version, mac=mac.value)

    stand_still(monkeypatch, 0.0, 0.3)
    rig.store.script = [None, disable]
    assert await rig.run(sent) == [Verdict.DONE]
    (told,) = rig.told(sent)
    assert (told.codes, told.deks) == (["KEY_DISABLED"] * 2, [b"", b""])
    assert len(rig.memory.deks) == 2, "what was settled is there"


async def test_a_command_that_waited_is_not_stopped_by_its_own_change(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig.made()
    sent = rig.draft(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS), rig.ann)
    stand_still(monkeypatch, 0.0, 1.0)
    assert await rig.run(sent) == [Verdict.DONE]
    (told,) = rig.told(sent)
    assert told.codes == [""]
    assert sum(sent.request.id.encode() in leaf.body for leaf in rig.memory.leaves) == 1, "it was decided once"


# Partitions that were given back.


async def test_a_stale_batch_settles_nothing() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    rig.fence.stale.add((sent.record.partition, 1))
    with pytest.raises(StaleEpoch):
        await rig.run(sent)
    assert (rig.memory.deks, rig.told(sent)) == ({}, [])


async def test_a_batch_that_went_stale_after_its_settle_publishes_nothing() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    rig.store.script = [lambda: rig.fence.stale.add((sent.record.partition, 1))]
    with pytest.raises(StaleEpoch):
        await rig.run(sent)
    assert (len(rig.memory.deks), rig.told(sent)) == (2, [])
    await rig.run(rig.redelivered(sent))
    assert ids(rig, sent) == [list(rig.memory.deks)]


# Services that are away.


async def test_without_the_store_nothing_is_answered() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    rig.store.script = [StoreUnavailable("the fate of COMMIT is unknown")]
    with pytest.raises(StoreUnavailable):
        await rig.run(sent)
    assert rig.told(sent) == []
    assert await rig.run(rig.redelivered(sent)) == [Verdict.DONE]


async def test_without_the_bus_it_is_answered_when_it_comes_again() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    rig.bus.is_away = True
    with pytest.raises(BusUnavailable):
        await rig.run(sent)
    rig.bus.is_away = False
    await rig.run(rig.redelivered(sent))
    assert ids(rig, sent) == [list(rig.memory.deks)]
    assert len(rig.memory.deks) == 2


@pytest.mark.parametrize("name", [name for name in NAMES if name != "committed"])
@pytest.mark.parametrize("operation", [Operation.WRAP, Operation.KEY_ROTATE])
async def test_an_error_at_any_point_harms_nothing(name: str, operation: Operation) -> None:
    rig = await Rig.made()
    is_wrap = operation is Operation.WRAP
    body = WRAP if is_wrap else KeyRotateBody(tenant="acme", key=PAYMENTS)
    sent = rig.draft(operation, body, rig.billing if is_wrap else rig.ann)
    rig.points[name] = Failpoint("error", 1)
    with pytest.raises(FailpointError):
        await rig.run(sent)
    early = name in {"caught", "opened", "known", "decided", "executed"}
    assert len(rig.memory.deks) == (0 if early or not is_wrap else 2)
    assert await rig.run(rig.redelivered(sent)) == [Verdict.DONE]
    told = rig.told(sent)
    assert len(told) == (2 if name == "published" else 1)
    assert all(one.results == told[0].results and one.deks == told[0].deks for one in told)
    assert len(rig.memory.deks) == (2 if is_wrap else 0)
    versions = [ref for ref in rig.memory.rows if ref.table == "versions"]
    assert len(versions) == (4 if is_wrap else 5)
    assert rig.census() == rig.rows()


async def test_a_mixed_batch_has_one_verdict_for_each_record_in_order() -> None:
    rig = await Rig.made()
    good, bad = wrap(rig), wrap(rig)
    forged = replace(bad, record=replace(bad.record, value=bad.record.value + b" "))
    unread = replace(bad, record=replace(bad.record, headers=(), offset=999))
    verdicts = await rig.run(forged, good, unread)
    assert verdicts == [Verdict.UNAUTHENTIC, Verdict.DONE, Verdict.UNAUTHENTIC]
    assert len(rig.bus.entries(f"{TOPICS.wrap}.dlq")) == 2
    assert rig.told(bad) == []
