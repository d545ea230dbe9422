"""A developer gets data keys, encrypts, and reads everything back after the security officer has rotated the key."""

from tests.fleet import Fleet, House
from worker.client.results import Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyRotateBody
from worker.model.operations import Operation
from worker.model.replies import KeyResult

INVOICES = [{"invoice": str(number)} for number in range(4711, 4714)]


async def test_old_and_new_deks_are_read_after_a_rotation(fleet: Fleet, house: House) -> None:
    # Given DEKs that were made under the first version, stored and not stored
    stored = await house.client.generate(house.key, contexts=INVOICES)
    kept = await house.client.generate(house.key, contexts=INVOICES, store=False)
    assert all(isinstance(one, WrappedDek) and one.version == 1 for one in [*stored, *kept])

    # When an officer rotates the key
    officer = await fleet.officer()
    rotated = await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    assert isinstance(rotated, KeyResult)
    assert rotated.key.active_version == 2

    # Then new DEKs are under the second version, and all of them come back as they were
    new = await house.client.generate(house.key, contexts=INVOICES)
    made = [one for one in [*stored, *kept, *new] if isinstance(one, WrappedDek)]
    assert [one.version for one in made] == [1] * 6 + [2] * 3
    items = [
        DekItem(id=one.id, blob=None if one.id else one.blob, context=INVOICES[index % 3])
        for index, one in enumerate(made)
    ]
    back = await house.client.unwrap(items)
    assert [one.dek for one in back if isinstance(one, Unwrapped)] == [one.dek for one in made]


async def test_old_blobs_become_new_ones_as_they_are_read(fleet: Fleet, house: House) -> None:
    # Given a blob of the caller's under a version that was rotated away, and one that is stored
    (kept,) = await house.client.generate(house.key, contexts=INVOICES[:1], store=False)
    (stored,) = await house.client.generate(house.key, contexts=INVOICES[1:2])
    assert isinstance(kept, WrappedDek)
    assert isinstance(stored, WrappedDek)
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    items = [DekItem(blob=kept.blob, context=INVOICES[0]), DekItem(id=stored.id, context=INVOICES[1])]
    # When they are read with `rewrap`
    old, other = await house.client.unwrap(items, rewrap=True)
    # Then the caller's comes back under the new version as well, and the stored one is the fleet's to move
    assert isinstance(old, Unwrapped)
    assert isinstance(other, Unwrapped)
    assert (old.dek, old.version, old.blob_version) == (kept.dek, 1, 2)
    assert (other.dek, other.version, other.blob) == (stored.dek, 1, None)
    # And the new blob is the same DEK for the same context, and current
    (new,) = await house.client.unwrap([DekItem(blob=old.blob, context=INVOICES[0])], rewrap=True)
    assert isinstance(new, Unwrapped)
    assert (new.dek, new.version, new.blob) == (kept.dek, 2, None)
    (without,) = await house.client.unwrap([DekItem(blob=old.blob)])
    assert getattr(without, "code", "") == "UNWRAP_FAILED"
    # And it counts as one that left the database
    counted = "SELECT issued_outside FROM keyriver.census_totals WHERE key = $1 AND version = 2"
    assert await fleet.pool.fetchval(counted, old.key) == 1


async def test_a_dek_needs_its_own_context(house: House) -> None:
    # Given a DEK bound to one invoice
    (made,) = await house.client.generate(house.key, contexts=[{"invoice": "4711"}])
    assert isinstance(made, WrappedDek)
    # When it is asked for with another one, or with none, Then it does not come
    for context in ({"invoice": "4712"}, {}):
        (back,) = await house.client.unwrap([DekItem(id=made.id, context=context)])
        assert getattr(back, "code", "") == "UNWRAP_FAILED"
