"""How far a grant reaches: its version and its tenant bound it whatever state a version is in."""

from dataclasses import replace

import pytest

from tests.unit.chain.licensed import bare, grant_row
from tests.unit.chain.world import NOW, PAYMENTS
from worker.chain import policy
from worker.chain.lifecycle import Use
from worker.chain.policy import Shown, Wanted
from worker.chain.resolve import Usable
from worker.model.codes import Code
from worker.model.operations import Permission


@pytest.mark.parametrize(("version", "reaches"), [(0, {1, 2}), (1, {1}), (2, {2})])
def test_a_grant_for_one_version_allows_no_other_though_nothing_is_compromised(version: int, reaches: set[int]) -> None:
    world = bare(grant_row(version=version))
    world.rotate(PAYMENTS)
    client, chains = world.client("billing"), world.chains()
    for number in (1, 2):
        found = chains.for_client(client, Permission.UNWRAP, PAYMENTS, number)
        assert isinstance(found, Usable) is (number in reaches)
        assert number in reaches or found is Code.NOT_FOUND


def test_a_grant_is_for_keys_of_its_own_tenant_alone() -> None:
    world = bare()
    key, client = world.key(PAYMENTS), world.client("billing")
    wanted = Wanted(client, Permission.UNWRAP, key, (), 1, Use.UNWRAP, Shown(), NOW)
    assert policy.grant_allows(grant_row(), wanted)
    assert not policy.grant_allows(grant_row(), replace(wanted, key=replace(key, tenant="bolt")))
