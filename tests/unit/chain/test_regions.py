"""S19: a key that is bound to a region works only under an L1 in one of the region's tokens."""

from dataclasses import replace
from uuid import UUID

import pytest

from tests.unit.chain.orders import code as refused
from tests.unit.chain.orders import done, puts, result
from tests.unit.chain.test_switch_and_approvals import asked, refusal
from tests.unit.chain.world import (
    EU,
    PAYMENTS,
    ROOT,
    World,
    blob_of,
    chain_refs,
    seen_of,
    uid,
    version_ref,
)
from worker.chain.approvals import digest
from worker.chain.conclude import conclude
from worker.chain.regions import region_paging, region_ref
from worker.model.bodies import DekItem, KeyCreateBody, KeyRotateBody, UnwrapBody, WrapBody, WrapItem
from worker.model.codes import Code
from worker.model.control import ApprovalApproveBody
from worker.model.effects import Announce, PutRow
from worker.model.hsm import Fault, HsmFault
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.regional import RegionListBody, RegionListResult, RegionResult, RegionSetBody
from worker.model.replies import ApprovalResult
from worker.model.rows import FLEET_TENANT, Approval, Client, Key, Region, RowRef

HERE = Region("eu", FLEET_TENANT, ("token-1",), 1)
ELSEWHERE = replace(HERE, serials=("token-2",))


def bound(*regions: Region, key: UUID = EU) -> World:
    """A world whose L2 (or another key) is bound to the region eu."""
    world = World()
    world.put(replace(world.key(key), region="eu"), *regions)
    return world


def unwrapped(world: World) -> Code | None:
    body = UnwrapBody(items=[DekItem(blob=blob_of(PAYMENTS, 1, uid(7)))])
    (step,) = world.plan(world.request(Operation.UNWRAP, body)).steps
    return step.code if isinstance(step, Failed) else None


@pytest.mark.parametrize("key", [EU, PAYMENTS])
def test_the_way_up_must_lead_to_a_token_of_the_region(key: UUID) -> None:
    assert unwrapped(bound(HERE, key=key)) is None
    assert unwrapped(bound(replace(HERE, serials=("token-0", "token-1")), key=key)) is None
    assert unwrapped(bound(ELSEWHERE, key=key)) is Code.WRONG_REGION
    assert unwrapped(bound(key=key)) is Code.WRONG_REGION, "nobody registered it: deny on doubt"


def test_a_tampered_region_is_an_integrity_error() -> None:
    world = bound(HERE)
    world.tamper(HERE.ref)
    assert unwrapped(world) is Code.INTEGRITY


def test_what_is_answered_rests_on_the_region() -> None:
    """A region that gets another token is refused from the next settle on."""
    world = bound(HERE)
    plan = world.plan(world.request(Operation.WRAP, WrapBody(key="acme/eu/payments", items=[WrapItem()])))
    refs = (RowRef(Client.TABLE, "billing"), *chain_refs(ROOT, EU, PAYMENTS), HERE.ref)
    assert set(plan.seen) == seen_of(world, *refs)


def test_another_old_master_in_another_token_is_as_good_as_its_token() -> None:
    """The version in use decides, not the active one."""
    world = bound(HERE)
    world.rotate(ROOT)
    world.put(replace(world.version(ROOT, 2), serial="token-2"))
    assert unwrapped(world) is None
    assert refused(world, KeyRotateBody(tenant="acme", key="acme/eu")) is Code.WRONG_REGION


def test_a_worker_on_another_token_says_so_and_the_item_stays_open() -> None:
    world = World()
    body = WrapBody(key="acme/eu/payments", items=[WrapItem()])
    plan = world.plan(world.request(Operation.WRAP, body))
    concluded = conclude(plan, [HsmFault(Fault.ELSEWHERE)], world.new_ids)
    assert concluded.outcomes == (Failed(Code.WRONG_TOKEN),)
    assert concluded.settlement.ledger is not None
    assert concluded.settlement.ledger.outcomes == (None,)


# Creating and rotating.


def create(region: str = "", parent: str = "acme/eu") -> KeyCreateBody:
    return KeyCreateBody(tenant="acme", parent=parent, alias="acme/eu/new", region=region)


def test_a_key_is_made_only_in_a_region_whose_token_holds_its_l1() -> None:
    assert refused(World(), create("eu")) is Code.WRONG_REGION
    world = World()
    world.put(ELSEWHERE)
    assert refused(world, create("eu")) is Code.WRONG_REGION
    world.put(HERE)
    concluded = done(world, create("eu"))
    key, *_ = puts(concluded)
    assert isinstance(key, Key)
    assert key.region == "eu"
    assert set(concluded.settlement.seen) >= seen_of(world, HERE.ref)


def test_a_key_is_in_no_other_region_than_the_one_above_it() -> None:
    world = bound(HERE, replace(HERE, id="us"))
    assert refused(world, create("us")) is Code.WRONG_REGION
    (key, *_) = puts(done(world, create()))
    assert isinstance(key, Key)
    assert key.region == "eu"


def test_a_rotation_stays_in_the_region() -> None:
    rotate = KeyRotateBody(tenant="acme", key="acme/eu")
    assert refused(bound(ELSEWHERE), rotate) is Code.WRONG_REGION
    world = bound(HERE)
    assert set(done(world, rotate).settlement.seen) >= {*seen_of(world, HERE.ref)}
    assert version_ref(EU, 2) in world.rows


# The register.


def test_a_region_is_set_by_two_officers_and_told() -> None:
    world = World()
    body = RegionSetBody(region="eu", serials=["token-2", "token-1", "token-2"], why="Frankfurt")
    concluded = world.approved(world.request(Operation.REGION_SET, body, "ann"))
    (row,) = [one.row for one in concluded.settlement.effects if isinstance(one, PutRow) and type(one.row) is Region]
    assert row == Region("eu", FLEET_TENANT, ("token-1", "token-2"), 1)
    told = result(concluded)
    assert isinstance(told, ApprovalResult)
    assert isinstance(told.result, RegionResult)
    events = {one.type: one.body for one in concluded.settlement.effects if isinstance(one, Announce)}
    assert (
        b'"was":[],"now":["token-1","token-2"],"who":"ann","approved_by":"ben"' in events["keyriver.region.changed.v1"]
    )


def test_setting_it_again_is_the_next_revision_and_voids_what_was_asked_before() -> None:
    world = World()
    body = RegionSetBody(region="eu", serials=["token-1"])
    waiting = world.run(world.request(Operation.REGION_SET, body, "ann"))
    (row,) = [one.row for one in waiting.settlement.effects if isinstance(one, PutRow)]
    assert isinstance(row, Approval)
    world.put(row)
    other = world.approved(world.request(Operation.REGION_SET, body, "ben", "r9"))
    world.put(*[one.row for one in other.settlement.effects if isinstance(one, PutRow)])
    approve = ApprovalApproveBody(tenant=row.tenant, approval=row.id, digest=digest(row))
    voided = result(asked(world, approve, "ben", "r2"))
    assert isinstance(voided, ApprovalResult)
    assert (voided.approval.state, voided.result) == ("voided", None)
    again = world.approved(world.request(Operation.REGION_SET, body, "ann", "r3"))
    (region,) = [one.row for one in again.settlement.effects if isinstance(one, PutRow) and type(one.row) is Region]
    assert region.revision == 2
    assert region.ref in again.settlement.changes


def test_a_tampered_region_is_not_set() -> None:
    world = World()
    world.put(HERE)
    world.tamper(HERE.ref)
    body = RegionSetBody(region="eu", serials=["token-1"])
    assert refusal(world.run(world.request(Operation.REGION_SET, body, "ann"))) is Code.INTEGRITY


def test_regions_are_listed_page_by_page() -> None:
    world = World()
    world.put(HERE, replace(HERE, id="us"))
    body = RegionListBody(limit=1)
    world.pages = {region_paging(body): (HERE.ref, region_ref("us"))}
    (outcome,) = world.run(world.request(Operation.REGION_LIST, body, "ann")).outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, RegionListResult)
    assert ([one.region for one in outcome.result.regions], outcome.result.more) == (["eu"], True)
