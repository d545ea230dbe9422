"""How deep a chain is belongs to the tenant: a small one has two layers, a bank five; any layer is rotated alone."""

from uuid import uuid4

import pytest

from tests.fleet import Fleet
from worker.client import KeyriverClient
from worker.client.errors import RequestRefused
from worker.client.results import Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyCreateBody, KeyListBody, KeyRotateBody, RewrapItem, TenantCreateBody
from worker.model.hsm import Purpose
from worker.model.operations import Operation
from worker.model.replies import KeyListResult, KeyResult


@pytest.mark.parametrize("layers", [2, 5, 8])
async def test_deks_stand_under_the_last_layer(fleet: Fleet, layers: int) -> None:
    # Given a tenant of so many layers, each under the one above it
    officer = await fleet.officer()
    tenant, line = await _founded(officer, layers)
    client = await fleet.client(await fleet.service(tenant))
    listed = await officer.command(Operation.KEY_LIST, KeyListBody(tenant=tenant))
    assert isinstance(listed, KeyListResult)
    assert [key.layer for key in listed.keys] == list(range(1, layers + 1))
    assert [key.purpose for key in listed.keys] == [Purpose.WRAPS_KEYS] * (layers - 1) + [Purpose.WRAPS_DEKS]

    # When a DEK is made, and then every layer is rotated, from the top down
    (made,) = await client.generate(line[-1], contexts=[{"a": "b"}])
    assert isinstance(made, WrappedDek)
    for alias in line:
        rotated = await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=tenant, key=alias))
        assert isinstance(rotated, KeyResult)
        assert rotated.key.active_version == 2

    # Then the old DEK is read, a new one is made under the new version, and the old one can be moved to it
    (new,) = await client.generate(line[-1], contexts=[{"a": "b"}])
    assert isinstance(new, WrappedDek)
    assert (made.version, new.version) == (1, 2)
    await client.rewrap([RewrapItem(id=made.id)])
    back = await client.unwrap([DekItem(id=one.id, context={"a": "b"}) for one in (made, new)])
    assert [(one.version, one.dek) for one in back if isinstance(one, Unwrapped)] == [(2, made.dek), (2, new.dek)]
    # And each version stands under the version of its parent that was active when it was made
    parents = await fleet.pool.fetch(
        """SELECT v.number, v.parent_version FROM keyriver.versions AS v JOIN keyriver.keys AS k ON k.id = v.key
           WHERE k.tenant = $1 AND k.layer > 1""",
        tenant,
    )
    assert {(row["number"], row["parent_version"]) for row in parents} == {(1, 1), (2, 2)}


async def test_nothing_stands_below_the_last_layer_and_no_dek_above_it(fleet: Fleet) -> None:
    # Given a tenant of two layers
    officer = await fleet.officer()
    tenant, (top, last) = await _founded(officer, 2)
    client = await fleet.client(await fleet.service(tenant, pattern="*"))
    # When a key is to stand below the last, or a DEK under the first, Then neither is possible
    with pytest.raises(RequestRefused, match="WRONG_LAYER"):
        await _create(officer, tenant, last, f"{last}/below")
    (refused,) = await client.generate(top)
    assert getattr(refused, "code", "") == "WRONG_PURPOSE"


async def _founded(officer: KeyriverClient, layers: int) -> tuple[str, list[str]]:
    """The tenant, and the aliases of its keys from L1 down."""
    tenant = f"t{uuid4().hex[:10]}"
    await officer.command(Operation.TENANT_CREATE, TenantCreateBody(tenant=tenant, layers=layers))
    line = [tenant]
    for layer in range(2, layers + 1):
        line.append(f"{line[-1]}/{layer}")
        await _create(officer, tenant, line[-2], line[-1])
    return tenant, line


async def _create(officer: KeyriverClient, tenant: str, parent: str, alias: str) -> None:
    await officer.command(Operation.KEY_CREATE, KeyCreateBody(tenant=tenant, parent=parent, alias=alias))
