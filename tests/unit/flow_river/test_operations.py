"""Every operation once through the whole river, on fakes."""

import json

from tests.unit.flow_river.parts import Told
from tests.unit.flow_river.rig import CARDS, PAYMENTS, TOPICS, Rig
from worker.chain import blob
from worker.client.answers import Rewrap, Unwrap, Wrap
from worker.model.bodies import (
    ClientListBody,
    ClientRevokeBody,
    ClientRotateBody,
    DekItem,
    KeyListBody,
    KeyRotateBody,
    KeyShowBody,
    RewrapBody,
    RewrapItem,
    UnwrapBody,
    WrapBody,
    WrapItem,
)
from worker.model.operations import Operation
from worker.model.records import Verdict
from worker.model.replies import ClientListResult, KeyListResult, KeyResult
from worker.model.rows import FLEET_TENANT
from worker.model.sequences import SEQUENCE

BOUND = {"customer": "42"}


def wraps(told: Told) -> list[Wrap]:
    found = [result for result in told.results if isinstance(result, Wrap)]
    assert len(found) == len(told.results), told.codes
    return found


async def generated(rig: Rig, count: int = 2, key: str = PAYMENTS) -> tuple[list[Wrap], list[bytes]]:
    body = WrapBody(key=key, items=[WrapItem(context=BOUND) for _ in range(count)], return_blob=True, return_dek=True)
    told = await rig.ask(Operation.WRAP, body)
    return wraps(told), told.deks


async def unwrapped(rig: Rig, *items: DekItem) -> Told:
    return await rig.ask(Operation.UNWRAP, UnwrapBody(items=list(items)))


async def test_generated_deks_unwrap_to_what_was_sealed() -> None:
    rig = await Rig.made()
    made, deks = await generated(rig)
    assert [len(dek) for dek in deks] == [32, 32]
    by_id = await unwrapped(rig, *[DekItem(id=one.id, context=BOUND) for one in made])
    by_blob = await unwrapped(rig, *[DekItem(blob=one.blob, context=BOUND) for one in made])
    assert by_id.deks == by_blob.deks == deks
    assert all(isinstance(result, Unwrap) for result in by_id.results)
    assert rig.rows() == rig.census() == {(made[0].key, 1): 2}


async def test_nothing_comes_back_that_was_not_asked_for() -> None:
    rig = await Rig.made()
    told = await rig.ask(Operation.WRAP, WrapBody(key=PAYMENTS, items=[WrapItem()]))
    assert (told.deks, wraps(told)[0].blob) == ([], None)
    told = await rig.ask(Operation.WRAP, WrapBody(key=PAYMENTS, items=[WrapItem()], store=False))
    (loose,) = wraps(told)
    assert (loose.id, blob.parse(loose.blob or b"").version) == (None, 1)
    assert len(rig.memory.deks) == 1


async def test_the_callers_deks_come_back_as_they_were_sent() -> None:
    rig = await Rig.made()
    mine = [bytes(range(16)), bytes(range(64)), bytes(range(32))]
    told = await rig.ask(Operation.WRAP, rig.sealed(mine, "mine"), id_="mine")
    back = await unwrapped(rig, *[DekItem(id=one.id) for one in wraps(told)])
    assert back.deks == mine
    stored = b"".join(dek.blob for dek in rig.memory.deks.values())
    on_the_bus = b"".join(entry.value or b"" for entry in rig.bus.entries(TOPICS.replies))
    assert not any(dek in stored or dek in on_the_bus for dek in mine)


async def test_a_batch_with_bad_items_answers_the_others() -> None:
    rig = await Rig.made()
    made, deks = await generated(rig, 3)
    flipped = bytearray(made[1].blob or b"")
    flipped[-1] ^= 1
    told = await unwrapped(
        rig,
        DekItem(blob=made[0].blob, context=BOUND),
        DekItem(blob=bytes(flipped), context=BOUND),
        DekItem(blob=made[2].blob, context={"customer": "43"}),
        DekItem(id=made[2].id, context=BOUND),
    )
    assert told.codes == ["", "UNWRAP_FAILED", "UNWRAP_FAILED", ""]
    assert told.deks == [deks[0], b"", b"", deks[2]]


async def test_stored_deks_move_to_the_new_version_and_stay_the_same() -> None:
    rig = await Rig.made()
    made, deks = await generated(rig)
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS))
    items = [RewrapItem(id=one.id) for one in made]
    told = await rig.ask(Operation.REWRAP, RewrapBody(items=items))
    assert [(one.version, one.unchanged) for one in told.results if isinstance(one, Rewrap)] == [(2, False)] * 2
    assert rig.rows() == rig.census() == {(made[0].key, 2): 2}
    assert (await unwrapped(rig, *[DekItem(id=one.id, context=BOUND) for one in made])).deks == deks
    assert (await unwrapped(rig, *[DekItem(blob=one.blob, context=BOUND) for one in made])).deks == deks
    again = await rig.ask(Operation.REWRAP, RewrapBody(items=items))
    assert [one.unchanged for one in again.results if isinstance(one, Rewrap)] == [True, True]


async def test_blobs_move_to_another_key_with_their_context() -> None:
    rig = await Rig.made()
    made, deks = await generated(rig)
    told = await rig.ask(Operation.REWRAP, RewrapBody(items=[RewrapItem(blob=one.blob) for one in made], to=CARDS))
    blobs = [one.blob for one in told.results if isinstance(one, Rewrap)]
    assert (await unwrapped(rig, *[DekItem(blob=raw, context=BOUND) for raw in blobs])).deks == deks
    assert (await unwrapped(rig, DekItem(blob=blobs[0]))).codes == ["UNWRAP_FAILED"]


async def test_a_rotation_on_every_layer_leaves_everything_readable() -> None:
    rig = await Rig.made()
    made, deks = await generated(rig)
    for key in ("acme", "acme/eu", PAYMENTS):
        await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=key))
        assert (await unwrapped(rig, *[DekItem(id=one.id, context=BOUND) for one in made])).deks == deks
        await generated(rig)
    assert len(rig.token.masters) == 2


async def test_keys_are_shown_and_listed() -> None:
    rig = await Rig.made()
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS))
    told = await rig.ask(Operation.KEY_SHOW, KeyShowBody(tenant="acme", key=PAYMENTS), rig.ann)
    (shown,) = told.results
    assert isinstance(shown, KeyResult)
    assert [view.number for view in shown.key.versions] == [1, 2]
    by_id = await rig.ask(Operation.KEY_SHOW, KeyShowBody(tenant="acme", key=str(shown.key.id)), rig.ann)
    assert by_id.results == told.results
    (page,) = (await rig.ask(Operation.KEY_LIST, KeyListBody(tenant="acme", limit=3), rig.ann)).results
    assert isinstance(page, KeyListResult)
    assert (len(page.keys), page.more) == (3, True)
    after = page.keys[-1].id
    (rest,) = (await rig.ask(Operation.KEY_LIST, KeyListBody(tenant="acme", after=after), rig.ann)).results
    assert isinstance(rest, KeyListResult)
    assert {view.alias for view in (*page.keys, *rest.keys)} == {"acme", "acme/eu", PAYMENTS, CARDS}


async def test_clients_are_listed_rotated_and_revoked() -> None:
    rig = await Rig.made()
    (page,) = (await rig.ask(Operation.CLIENT_LIST, ClientListBody(tenant=FLEET_TENANT), rig.ann)).results
    assert isinstance(page, ClientListResult)
    assert [view.id for view in page.clients] == ["ann", "ben"]
    new = await rig.add("temporary")
    await rig.command(
        Operation.CLIENT_ROTATE,
        ClientRotateBody(tenant="acme", client="billing", public_key=new.signer().public_key),
    )
    old = rig.draft(Operation.KEY_LIST, KeyListBody(tenant="acme"))
    assert await rig.run(old) == [Verdict.UNAUTHENTIC], "the old key is refused from then on"
    await rig.command(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant="acme", client="temporary"))
    assert await rig.run(rig.draft(Operation.UNWRAP, UnwrapBody(items=[DekItem(blob=b"")]), new)) == [
        Verdict.UNAUTHENTIC
    ]
    assert rig.told(old) == []


async def test_what_changed_is_announced_and_every_request_leaves_a_leaf() -> None:
    rig = await Rig.made()
    types = [event.type for event in rig.memory.outbox.values() if event.type != SEQUENCE]
    changes = sum(stored.row.revision for stored in rig.memory.rows.values())
    assert len(rig.memory.outbox) - len(types) == changes, "each change of each row is told"
    two = ["keyriver.approval.requested.v1", "keyriver.client.added.v1", "keyriver.approval.approved.v1"]
    assert types == ["keyriver.tenant.created.v1", *["keyriver.key.created.v1"] * 3, *two]
    before = len(rig.memory.leaves)
    await generated(rig)
    (leaf,) = rig.memory.leaves[before:]
    assert (leaf.tenant, json.loads(leaf.body)["counts"]) == ("acme", {"OK": 2})
