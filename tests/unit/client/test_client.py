"""The client against a scripted fleet: values in, values out, whatever the operation."""

from uuid import UUID

from tests.unit.client.fleet import KEK, Fleet, MemoryTransport
from worker.client import ItemError, KeyriverClient, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyShowBody
from worker.model.operations import Operation
from worker.model.replies import KeyResult


async def test_what_was_generated_unwraps_by_id() -> None:
    fleet = Fleet()
    async with KeyriverClient(fleet.identity, MemoryTransport(fleet)) as keys:
        made = await keys.generate("acme/eu/payments", 2, contexts=[{"a": "1"}, {"a": "2"}])
        first, second = (one for one in made if isinstance(one, WrappedDek))
        assert first.dek is not None and len(first.dek) == 32 and first.dek != second.dek
        assert first.blob is None and isinstance(first.id, UUID)
        got = await keys.unwrap([DekItem(id=first.id, context={"a": "1"}), DekItem(id=second.id, context={"a": "1"})])
        assert got[0] == Unwrapped(KEK, 1, first.dek)
        assert isinstance(got[1], ItemError) and got[1].code == "UNWRAP_FAILED" and not got[1].retry
        shown = await keys.command(Operation.KEY_SHOW, KeyShowBody(tenant="acme", key="acme/eu/payments"))
        assert isinstance(shown, KeyResult) and shown.key.id == KEK
