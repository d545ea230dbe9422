"""HYOK in pure decisions (SECURITY S13): how a chain leaves the token, and what officers do with the link."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.chain.outer import ADDRESS, DIGEST, LINK, TARGET, approved, asked, on, outer_world, usable
from tests.unit.chain.test_life_commands import events, puts
from tests.unit.chain.test_switch_and_approvals import approve, refusal, result
from tests.unit.chain.world import EU, NOW, PAYMENTS, ROOT, World, seen_of, uid, version_ref
from worker.chain.conclude import conclude
from worker.chain.links import link_paging
from worker.chain.outside import bound_to
from worker.chain.resolve import Usable
from worker.model.bodies import KeyCreateBody, KeyRotateBody
from worker.model.codes import Code
from worker.model.control import KeyDestroyBody
from worker.model.effects import Leaf
from worker.model.facts import Needs
from worker.model.hsm import CreateKey, CreateLink, CreateOutside, Fault, HsmFault, Outside, Wrapping
from worker.model.linked import LinkEnd, LinkListResult, LinkReport, LinkResult, UnlinkResult
from worker.model.linking import (
    LinkBody,
    LinkCreateBody,
    LinkCutBody,
    LinkDeclareBody,
    LinkListBody,
    LinkRestoreBody,
    LinkShowBody,
    LinkUnlinkBody,
)
from worker.model.operations import Operation
from worker.model.replies import ApprovalResult
from worker.model.rows import Approval, Key, Link, Origin, Row, RowRef, State, Table, Tenant, Version
from worker.model.words import LinkState


@pytest.fixture
def world() -> World:
    return outer_world()


def test_the_way_up_leads_through_the_customers_keystore_and_rests_on_the_link(world: World) -> None:
    found = usable(world)
    assert isinstance(found, Usable)
    l2 = found.kek.parent
    assert l2 is not None
    assert l2.outside == Outside(LINK.id, ADDRESS, bound_to("acme", EU, 1), DIGEST)
    assert l2.parent is not None
    assert (l2.wrapped, l2.parent.wrapping, l2.parent.material) == (b"outer", Wrapping.EXTERNAL, LINK.inner)
    assert found.kek.outside is None
    assert seen_of(world, LINK.ref) <= set(found.seen)


def test_what_the_keystore_binds_is_fixed_for_ever() -> None:
    """Length-prefixed tenant, key and version: a blob of another place does not open (golden)."""
    head, tail = "0000000f6b657972697665722d68796f6b2f310000000461636d65", "0000000400000007"
    assert bound_to("acme", EU, 7).hex() == f"{head}00000010{EU.hex}{tail}"


def edited(where: World, edit: Row | Callable[[World], Row]) -> Row:
    return edit(where) if callable(edit) else edit


def _no_link(where: World) -> Row:
    del where.rows[LINK.ref]
    return where.version(ROOT)


@pytest.mark.parametrize(
    "edit",
    [
        _no_link,
        replace(LINK, tenant="bolt"),
        replace(LINK, key=EU),
        replace(LINK, version=2),
        replace(LINK, inner=uid(5)),
        replace(LINK, serial="token-2"),
        lambda where: replace(where.version(EU), digest=b""),
        lambda where: replace(where.version(EU), digest=b"d" * 31),
        lambda where: replace(where.version(ROOT), wrapping=Wrapping.TOKEN, link=None),
        lambda where: replace(where.version(EU), wrapping=Wrapping.EXTERNAL, link=LINK.id),
    ],
)
def test_rows_that_do_not_fit_together_are_integrity(world: World, edit: Row | Callable[[World], Row]) -> None:
    world.put(edited(world, edit))
    assert usable(world) is Code.INTEGRITY


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (replace(LINK, state=LinkState.CUT), Code.LINK_CUT),
        (replace(LINK, state=LinkState.UNLINKED), Code.KEY_STATE),
        (lambda where: replace(where.tenant(), enabled=False), Code.KEY_DISABLED),
        (lambda where: replace(where.key(ROOT), enabled=False), Code.KEY_DISABLED),
    ],
)
def test_nothing_works_under_a_link_that_is_cut_or_a_key_that_is_off(
    world: World, edit: Row | Callable[[World], Row], code: Code
) -> None:
    world.put(edited(world, edit))
    assert [usable(world, key) for key in (ROOT, EU, PAYMENTS)] == [code] * 3


def test_without_its_tenant_an_l1_is_nobodys(world: World) -> None:
    del world.rows[RowRef(Table.TENANTS, "acme")]
    assert usable(world) is Code.INTEGRITY


# Keys under a link.


def test_a_key_under_a_link_is_made_with_the_keystore_and_keeps_the_inner_digest(world: World) -> None:
    done = asked(world, KeyCreateBody(tenant="acme", parent="acme", alias="acme/us"))
    (op,) = done.plan.ops
    assert isinstance(op, CreateOutside)
    assert (op.outside.link, op.outside.aad, op.outside.digest) == (LINK.id, bound_to("acme", op.key, 1), b"")
    (version,) = [row for row in puts(done) if isinstance(row, Version)]
    assert (version.wrapped, version.wrapping, version.digest) == (b"outer" * 8, Wrapping.AES_KWP, b"i" * 32)
    assert LINK.ref in [seen.ref for seen in done.settlement.seen]
    rotated = asked(world, KeyRotateBody(tenant="acme", key="acme/eu"))
    (op,) = rotated.plan.ops
    assert isinstance(op, CreateOutside)
    assert (op.key, op.version, op.outside.aad) == (EU, 2, bound_to("acme", EU, 2))
    deeper = asked(world, KeyRotateBody(tenant="acme", key="acme/eu/payments"))
    assert isinstance(deeper.plan.ops[0], CreateKey)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.COLD, Code.KEK_OPENING),
        (Fault.FORBIDDEN, Code.KEYSTORE_FORBIDDEN),
        (Fault.UNREACHABLE, Code.KEYSTORE_UNREACHABLE),
        (Fault.BUSY, Code.THROTTLED),
        (Fault.UNFIT, Code.KEYSTORE_UNFIT),
    ],
)
def test_what_the_keystore_says_has_its_code(world: World, fault: Fault, code: Code) -> None:
    plan = world.plan(world.request(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key="acme/eu"), "ann"))
    assert refusal(conclude(plan, [HsmFault(fault)], world.new_ids)) is code


def test_an_l1_outside_is_neither_rotated_into_our_token_nor_destroyed_past_its_link(world: World) -> None:
    assert refusal(asked(world, KeyRotateBody(tenant="acme", key="acme"))) is Code.LINKED
    assert refusal(asked(world, KeyDestroyBody(tenant="acme", key="acme", version=1))) is Code.LINKED


# The link.


def test_a_tenant_begins_outside_and_is_sovereign_at_once(world: World) -> None:
    done = asked(world, LinkCreateBody(tenant="corp", layers=4, keystore=TARGET))
    (op,) = done.plan.ops
    tenant, key, alias, link, version = puts(done)
    assert isinstance(op, CreateLink)
    assert isinstance(tenant, Tenant)
    assert isinstance(key, Key)
    assert isinstance(link, Link)
    assert isinstance(version, Version)
    assert (op.address, op.key, op.version, op.material) == (ADDRESS, key.id, 1, link.inner)
    assert (tenant.layers, key.origin, key.layer, alias.ref.key) == (4, Origin.EXTERNAL, 1, "corp")
    assert (link.key, link.version, link.serial, link.external_version) == (key.id, 1, "token-9", "7")
    assert (version.wrapping, version.link, version.material) == (Wrapping.EXTERNAL, link.id, link.inner)
    assert (version.serial, link.sovereign, link.state) == ("token-9", True, LinkState.LINKED)
    assert events(done) == ["link.created", "tenant.created"]
    told = result(done)
    assert isinstance(told, LinkResult)
    assert (told.link.key, told.link.endpoint, told.link.credential) == (key.id, "https://keys.example", "acme")
    assert refusal(asked(world, LinkCreateBody(tenant="acme", keystore=TARGET))) is Code.EXISTS
    assert refusal(asked(world, LinkCreateBody(tenant="fleet", keystore=TARGET))) is Code.EXISTS


def test_a_redelivered_link_names_the_same_rows_and_the_same_inner_key(world: World) -> None:
    body = LinkCreateBody(tenant="corp", keystore=TARGET)
    assert puts(asked(world, body)) == puts(asked(world, body))
    assert puts(asked(world, body)) != puts(asked(world, body, "r2"))


def test_a_cut_is_one_officers_and_a_restore_names_it(world: World) -> None:
    cut = asked(world, on(LinkCutBody, why="a rehearsal"))
    (row,) = puts(cut)
    assert isinstance(row, Link)
    assert (row.state, row.revision, row.cut_revision) == (LinkState.CUT, 5, 5)
    assert events(cut) == ["link.severed", "hint"]
    world.put(row)
    again = puts(asked(world, on(LinkCutBody)))[0]
    assert isinstance(again, Link)
    assert again.cut_revision == 6, "pressing again is a cut of its own"
    world.put(again)
    assert refusal(asked(world, on(LinkRestoreBody, revision=5))) is Code.CONFLICT
    restored = approved(world, on(LinkRestoreBody, revision=6, why="over"))
    (whole,) = [row for row in puts(restored) if isinstance(row, Link)]
    assert (whole.state, whole.cut_revision, whole.revision) == (LinkState.LINKED, 0, 7)
    assert events(restored) == ["link.restored", "approval.approved"]
    told = [leaf for effect in restored.settlement.effects if isinstance(effect, Leaf) for leaf in [effect.body]]
    said = json.loads(told[0])["told"]
    assert (said["who"], said["approved_by"], said["was"], said["now"]) == ("ann", "ben", "cut", "linked")


def test_a_cut_meanwhile_voids_the_restore(world: World) -> None:
    world.put(replace(LINK, state=LinkState.CUT, cut_revision=4))
    waiting = asked(world, on(LinkRestoreBody, revision=4))
    (row,) = puts(waiting)
    assert isinstance(row, Approval)
    world.put(row, replace(LINK, state=LinkState.CUT, cut_revision=5, revision=5))
    assert events(approve(world, row)) == ["approval.voided"]


def test_the_end_waits_until_nothing_stands_under_the_link_unless_it_is_forced_by_name(world: World) -> None:
    world.needs = {(ROOT, 1): Needs(children=2)}
    assert refusal(asked(world, on(LinkUnlinkBody, version=1))) is Code.STILL_NEEDED
    assert refusal(asked(world, on(LinkUnlinkBody, version=1, force="acme/eu"))) is Code.STILL_NEEDED
    done = approved(world, on(LinkUnlinkBody, version=1, force="acme", why="they leave"))
    link, version = (row for row in puts(done) if isinstance(row, Link | Version))
    assert isinstance(link, Link)
    assert isinstance(version, Version)
    assert link.state is LinkState.UNLINKED
    assert (version.state, version.due_ms, version.prior) == (State.DESTROY_SCHEDULED, NOW, None)
    assert version.forced
    assert events(done) == ["link.unlinked", "approval.approved", "hint"]
    told = result(done)
    assert isinstance(told, ApprovalResult)
    assert isinstance(told.result, UnlinkResult)
    end = LinkEnd(due_ms=NOW, recoverable_until_ms=NOW + 1000, children=2, forced=True)
    assert (told.result.end, told.result.link.state) == (end, LinkState.UNLINKED)
    world.put(link, version)
    for body in (LinkCutBody, LinkRestoreBody, LinkUnlinkBody, LinkDeclareBody):
        more = {"revision": 4, "version": 1, "force": "acme"}
        known = {name: more[name] for name in body.model_fields if name in more}
        assert refusal(asked(world, on(body, **known))) is Code.CONFLICT
    assert usable(world) is Code.KEY_STATE


def test_an_empty_link_that_was_moved_away_from_ends_without_force(world: World) -> None:
    world.set_state(ROOT, State.DEACTIVATED)
    done = approved(world, on(LinkUnlinkBody, version=1))
    assert [row.forced for row in puts(done) if isinstance(row, Version)] == [False]
    world.limits = replace(world.limits, recoverable_ms=None)
    assert refusal(asked(world, on(LinkUnlinkBody, version=1))) is Code.RECOVERY_UNKNOWN
    assert refusal(asked(world, on(LinkDeclareBody))) is Code.RECOVERY_UNKNOWN


def test_an_active_version_ends_by_force_only(world: World) -> None:
    assert refusal(asked(world, on(LinkUnlinkBody, version=1))) is Code.STILL_NEEDED


def test_links_are_found_by_key_and_version(world: World) -> None:
    assert refusal(asked(world, on(LinkShowBody, key="acme/none"))) is Code.NOT_FOUND
    assert refusal(asked(world, on(LinkShowBody, key="acme/eu"))) is Code.NOT_FOUND
    assert refusal(asked(world, on(LinkShowBody, version=9))) is Code.NOT_FOUND
    world.tampered.add(version_ref(ROOT, 9))
    assert refusal(asked(world, on(LinkShowBody, version=9))) is Code.INTEGRITY
    world.put(replace(LINK, version=3))
    assert refusal(asked(world, on(LinkShowBody))) is Code.INTEGRITY
    world.tamper(LINK.ref)
    assert refusal(asked(world, on(LinkShowBody))) is Code.INTEGRITY


def test_links_are_listed(world: World) -> None:
    body = LinkListBody(tenant="acme", after=uid(1), limit=1)
    assert (link_paging(body).after, link_paging(LinkListBody()).tenant) == (str(uid(1)), "")
    world.pages = {link_paging(body): (LINK.ref, RowRef(Table.LINKS, str(uid(71))))}
    told = result(asked(world, body))
    assert isinstance(told, LinkListResult)
    assert ([one.id for one in told.links], told.more) == ([LINK.id], True)
    assert result(asked(world, LinkListBody())) == LinkListResult(links=[], more=False)


@pytest.mark.parametrize("id_", ["r1", str(uid(9)), "b0a7f2d4-0000-4000-8000-000000000001"])
def test_a_repeated_request_with_a_new_time_names_the_same_key(world: World, id_: str) -> None:
    """Else what was prepared for the first try would never be found by the second."""
    body = KeyCreateBody(tenant="acme", parent="acme", alias="acme/us")
    request = world.request(Operation.KEY_CREATE, body, "ann", id_)
    later = replace(request, time_ms=request.time_ms + 5000)
    assert world.plan(request).ops == world.plan(later).ops
    assert world.plan(request).ops != world.plan(world.request(Operation.KEY_CREATE, body, "ann", f"{id_}x")).ops


PAIRS: dict[type[LinkBody], dict[LinkState, Code | LinkState]] = {
    LinkShowBody: {state: state for state in LinkState},
    LinkCutBody: {LinkState.LINKED: LinkState.CUT, LinkState.CUT: LinkState.CUT, LinkState.UNLINKED: Code.CONFLICT},
    LinkRestoreBody: {
        LinkState.LINKED: Code.CONFLICT,
        LinkState.CUT: LinkState.LINKED,
        LinkState.UNLINKED: Code.CONFLICT,
    },
    LinkUnlinkBody: {
        LinkState.LINKED: LinkState.UNLINKED,
        LinkState.CUT: LinkState.UNLINKED,
        LinkState.UNLINKED: Code.CONFLICT,
    },
    LinkDeclareBody: {
        LinkState.LINKED: LinkState.LINKED,
        LinkState.CUT: Code.CONFLICT,
        LinkState.UNLINKED: Code.CONFLICT,
    },
}


@pytest.mark.parametrize("state", LinkState)
@pytest.mark.parametrize("body", PAIRS)
def test_every_state_and_operation_has_its_outcome(world: World, body: type[LinkBody], state: LinkState) -> None:
    world.put(replace(LINK, state=state, cut_revision=4 if state is LinkState.CUT else 0))
    more = {"revision": 4, "force": "acme", "version": 1}
    asked_for = on(body, **{name: more[name] for name in body.model_fields if name in more})
    wanted = PAIRS[body][state]
    if isinstance(wanted, Code):
        assert refusal(asked(world, asked_for)) is wanted
        return
    two = body in (LinkRestoreBody, LinkUnlinkBody)
    done = approved(world, asked_for) if two else asked(world, asked_for)
    told = result(done)
    told = told.result if isinstance(told, ApprovalResult) else told
    assert isinstance(told, LinkResult | LinkReport | UnlinkResult)
    assert told.link.state is wanted
