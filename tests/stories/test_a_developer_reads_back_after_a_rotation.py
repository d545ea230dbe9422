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


async def test_a_dek_needs_its_own_context(house: House) -> None:
    # Given a DEK bound to one invoice
    (made,) = await house.client.generate(house.key, contexts=[{"invoice": "4711"}])
    assert isinstance(made, WrappedDek)
    # When it is asked for with another one, or with none, Then it does not come
    for context in ({"invoice": "4712"}, {}):
        (back,) = await house.client.unwrap([DekItem(id=made.id, context=context)])
        assert getattr(back, "code", "") == "UNWRAP_FAILED"
