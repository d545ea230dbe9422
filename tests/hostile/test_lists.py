"""A row that somebody changed is not left out of its list in silence, and hides no row after it."""

from tests.fleet import Fleet, House
from worker.cli.pages import every
from worker.model.bodies import ClientListBody, KeyListBody
from worker.model.operations import Operation
from worker.model.replies import ClientListResult, KeyListResult


async def test_a_changed_row_is_named_and_the_list_goes_on(fleet: Fleet, house: House) -> None:
    # Given a tenant with three keys, of which somebody changed the first two that a list shows
    ids = await fleet.pool.fetch("SELECT id FROM keyriver.keys WHERE tenant = $1 ORDER BY id", house.tenant)
    first, second, third = (str(row["id"]) for row in ids)
    await fleet.pool.execute("UPDATE keyriver.keys SET region = 'mars' WHERE id = ANY ($1::uuid[])", [first, second])
    # When an officer lists them, one by one
    officer = await fleet.officer()
    page = await officer.command(Operation.KEY_LIST, KeyListBody(tenant=house.tenant, limit=1))
    # Then the page says which it does not believe, and where the next one begins
    assert isinstance(page, KeyListResult)
    assert (page.keys, page.tampered, page.next_after) == ([], [first], first)

    class Asking:
        async def ask(self, operation: Operation, body: KeyListBody, kind: type[KeyListResult]) -> KeyListResult:
            found = await officer.command(operation, body)
            assert isinstance(found, kind)
            return found

    asked = KeyListBody(tenant=house.tenant, limit=1)
    found = await every(Asking(), Operation.KEY_LIST, asked, KeyListResult, lambda page: page.keys, lambda _: None)  # type: ignore[arg-type]
    assert [str(one.id) for one in found] == [third]
    assert f"keys {first} does not pass its check" in fleet.members[0].log


async def test_clients_too(fleet: Fleet, house: House) -> None:
    name = house.identity.client
    await fleet.pool.execute("UPDATE keyriver.clients SET pattern = '*' || pattern WHERE id = $1", name)
    page = await fleet.command(Operation.CLIENT_LIST, ClientListBody(tenant=house.tenant))
    assert isinstance(page, ClientListResult)
    assert page.tampered == [name]
