"""S15: a worker confirms that handles are gone, and what falls due waits for those who live."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from tests.unit.flow_river.rig import PAYMENTS, Rig
from worker.chain.plan import Limits
from worker.flow.attendance import Attendance
from worker.flow.clock import boottime
from worker.flow.due import LEAD_S, DueWork
from worker.flow.failpoints import FailpointError, Failpoints, parse
from worker.flow.fresh import new_ids
from worker.flow.trust import Trust
from worker.model.bodies import DekItem, KeyRotateBody, KeyShowBody, UnwrapBody, WrapBody, WrapItem
from worker.model.control import KeyCancelDestroyBody, KeyDestroyBody
from worker.model.facts import Answer, Question, StoredRow
from worker.model.operations import Operation
from worker.model.replies import KeyResult
from worker.model.rows import RowRef, State, Table, Version
from worker.seal.rowmac import mac_input

SESSION_S = 30.0
DAY_MS = 86_400_000
LIMITS = Limits(recoverable_ms=DAY_MS)


class Crew:
    """Workers of one rig, each with its presence; all of them may carry out what is due."""

    def __init__(self, rig: Rig, names: str) -> None:
        self.rig = rig
        self.attending = {name: self.attendance(name) for name in names}

    def attendance(self, name: str) -> Attendance:
        rig = self.rig
        trust = Trust(rig.token.fleet_keys)
        return Attendance(new_ids(1)[0], name, SESSION_S, rig.memory, rig.store, trust, rig.token.hsm)

    async def beat(self, names: str) -> list[int]:
        return [await self.attending[name].turn() for name in names]

    async def due(self, failpoints: str = "", clock: Callable[[], float] = boottime) -> int:
        rig = self.rig
        work = DueWork(
            holder="a",
            serial=rig.token.serial,
            recoverable_ms=DAY_MS,
            dues=rig.memory,
            presence=rig.memory,
            store=rig.store,
            trust=Trust(rig.token.fleet_keys),
            fleet_keys=rig.token.fleet_keys,
            hsm=rig.token.hsm,
            failpoints=Failpoints(parse(failpoints)),
            clock=clock,
        )
        return await work.turn()


async def scheduled(rig: Rig, key: str = PAYMENTS) -> None:
    """Version 1 of the key is deactivated and, after its grace, due for destruction."""
    rig.river = replace(rig.river, limits=LIMITS)
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=key))
    told = await rig.ask(Operation.KEY_DESTROY, KeyDestroyBody(tenant="acme", key=key, version=1, force=key), rig.ann)
    await rig.approve(told)
    rig.clock.ms += 8 * DAY_MS
    await rig.voice.renew(rig.clock.ms)


async def state(rig: Rig, key: str = PAYMENTS) -> State:
    shown = await rig.command(Operation.KEY_SHOW, KeyShowBody(tenant="acme", key=key))
    assert isinstance(shown, KeyResult)
    return shown.key.versions[0].state


async def test_a_destruction_waits_for_nobody_whose_session_is_over() -> None:
    rig = await Rig.made()
    crew = Crew(rig, "abc")
    await crew.beat("abc")
    await scheduled(rig)
    assert await crew.beat("ab") == [1, 1]
    assert await crew.due() == 1, "the third one's session is over since the grace began"
    assert await state(rig) is State.DESTROYED


async def test_a_worker_that_is_frozen_is_waited_for_until_its_session_is_over() -> None:
    rig = await Rig.made()
    crew = Crew(rig, "abc")
    await scheduled(rig)
    await crew.attending["c"].presence.beat(crew.attending["c"].run, "c", SESSION_S)  # and then it stops
    assert await crew.beat("ab") == [1, 1]
    assert await crew.due() == 0
    assert await state(rig) is State.DESTROY_SCHEDULED
    rig.clock.ms += int(SESSION_S * 1000)
    assert await crew.due() == 0
    rig.clock.ms += 1
    assert await crew.beat("ab") == [1, 1]
    assert await crew.due() == 1
    # When it goes on, it drops all that it has.
    rig.token.hsm.dropped.clear()
    assert await crew.beat("c") == [0]
    assert rig.token.hsm.dropped == [None]
    await crew.beat("c")
    assert rig.token.hsm.dropped == [None]


async def test_what_was_confirmed_opens_no_more_until_the_destruction_is_cancelled() -> None:
    rig = await Rig.made()
    (made,) = (await rig.ask(Operation.WRAP, WrapBody(key=PAYMENTS, items=[WrapItem()]))).results
    late = rig.draft(Operation.UNWRAP, UnwrapBody(items=[DekItem(id=made.id)]))  # type: ignore[union-attr]
    crew = Crew(rig, "a")
    await scheduled(rig)
    await crew.beat("a")
    version = await version_of(rig)
    assert rig.token.hsm.condemned == {(version.key, 1): version.revision}
    told = await rig.ask(
        Operation.KEY_CANCEL_DESTROY, KeyCancelDestroyBody(tenant="acme", key=PAYMENTS, version=1), rig.ann
    )
    await rig.approve(told)
    again = rig.again(late)
    await rig.run(again)
    assert rig.told(again)[0].codes == [""]
    assert await crew.due() == 0


async def version_of(rig: Rig) -> Version:
    shown = await rig.command(Operation.KEY_SHOW, KeyShowBody(tenant="acme", key=PAYMENTS))
    assert isinstance(shown, KeyResult)
    row = rig.memory.rows[RowRef(Table.VERSIONS, f"{shown.key.id}/1")].row
    assert isinstance(row, Version)
    return row


async def test_what_a_database_admin_schedules_by_hand_condemns_nothing() -> None:
    rig = await Rig.made()
    crew = Crew(rig, "a")
    row = await version_of(rig)
    stored = rig.memory.rows[row.ref]
    forged = replace(row, state=State.DESTROY_SCHEDULED, due_ms=1)
    rig.memory.rows[row.ref] = StoredRow(forged, stored.mac_version, stored.mac)
    assert await crew.beat("a") == [0]
    assert rig.token.hsm.condemned == {}
    assert await crew.due() == 0


async def test_a_worker_with_a_handle_in_use_does_not_confirm(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig.made()
    crew = Crew(rig, "a")
    await scheduled(rig)
    monkeypatch.setattr(rig.token.hsm, "condemn", lambda _: frozenset())
    assert await crew.beat("a") == [0]
    assert await crew.due() == 0
    monkeypatch.undo()
    assert await crew.beat("a") == [1]
    assert await crew.due() == 1


@pytest.mark.parametrize("point", ["due-known", "due-executed", "due-settled"])
async def test_a_duty_that_stops_anywhere_is_finished_by_the_next_one_once(point: str) -> None:
    rig = await Rig.made()
    crew = Crew(rig, "a")
    await scheduled(rig, "acme")
    await crew.beat("a")
    if point == "due-executed":
        assert await crew.due() == 1, "first the way back is closed in the row"
    with pytest.raises(FailpointError, match=point):
        await crew.due(f"{point}=error")
    for _ in range(3):
        await crew.due()
    assert await state(rig, "acme") is State.DESTROYED
    assert len(rig.token.masters) == 1, "the new version's object"
    told = [event.type for event in rig.memory.outbox.values()]
    assert told.count("keyriver.key.destroyed.v1") == 1


async def test_a_leader_that_was_frozen_past_its_lead_touches_no_token_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then another one may have deleted the material, and its customer may have brought it again (S12)."""
    rig = await Rig.made()
    crew = Crew(rig, "a")
    await scheduled(rig, "acme")
    await crew.beat("a")
    assert await crew.due() == 1, "the way back is closed"
    masters, seconds = dict(rig.token.masters), [0.0]
    know, slow = rig.store.know, [LEAD_S]

    async def known(question: Question) -> Answer:
        seconds[0] += slow[0]
        return await know(question)

    monkeypatch.setattr(rig.store, "know", known)
    clock = partial(seconds.__getitem__, 0)
    assert await crew.due(clock=clock) == 0
    assert rig.token.masters == masters
    slow[0] = LEAD_S / 2
    assert await crew.due(clock=clock) == 1
    assert rig.token.masters != masters


async def test_imported_material_waits_for_handles_too() -> None:
    rig = await Rig.made()
    crew = Crew(rig, "ab")
    shown = await rig.command(Operation.KEY_SHOW, KeyShowBody(tenant="acme", key="acme"))
    assert isinstance(shown, KeyResult)
    row = rig.memory.rows[RowRef(Table.VERSIONS, f"{shown.key.id}/1")].row
    assert isinstance(row, Version)
    over = replace(row, not_after_ms=1, canary=b"c")
    (mac,) = await rig.token.fleet_keys.mac([mac_input(over)])
    rig.memory.rows[row.ref] = StoredRow(over, mac.version, mac.value)
    await crew.beat("ab")
    assert await crew.due() == 1, "from now on it works no more"
    assert await crew.beat("a") == [1]
    assert await crew.due() == 0, "the other one may have handles that it opened"
    assert row.material in rig.token.masters
    assert await crew.beat("b") == [1]
    assert await crew.due() == 1
    assert row.material not in rig.token.masters
