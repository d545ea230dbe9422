"""A tenant moves between providers (SECURITY S13), and what it takes to be called sovereign."""

from dataclasses import replace

import pytest

from tests.unit.chain.outer import LINK, TARGET, approved, asked, on, outer_world, usable
from tests.unit.chain.test_life_commands import events, puts
from tests.unit.chain.test_switch_and_approvals import refusal, result
from tests.unit.chain.world import ROOT, World, key_ref, seen_of, version_ref
from worker.chain.plan import Conclusion
from worker.chain.resolve import Usable
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Needs
from worker.model.hsm import CreateLink, CreateMaster, Wrapping
from worker.model.keystores import Provider
from worker.model.linked import LinkReport, MoveResult
from worker.model.linking import (
    LinkDeclareBody,
    LinkShowBody,
    TenantMoveBody,
)
from worker.model.rows import Link, Origin, State
from worker.model.words import LinkState


@pytest.fixture
def world() -> World:
    return outer_world()


# Moving.


def moved(where: World, body: TenantMoveBody) -> Conclusion:
    done = approved(where, body)
    for row in puts(done):
        where.put(row)
    return done


def test_a_tenant_moves_out_of_our_token_and_is_sovereign_only_when_nothing_is_left(world: World) -> None:
    plain = World(limits=world.limits)
    body = TenantMoveBody(tenant="acme", key="acme", keystore=TARGET, why="the law")
    plain.needs = {(ROOT, 1): Needs(children=1)}
    done = moved(plain, body)
    (op,) = done.plan.ops
    assert isinstance(op, CreateLink)
    assert events(done) == ["tenant.moved", "key.deactivated", "approval.approved", "hint"]
    told = getattr(result(done), "result", None)
    assert isinstance(told, MoveResult)
    assert [(one.version, one.state, one.children) for one in told.versions] == [
        (1, State.DEACTIVATED, 1),
        (2, State.ACTIVE, 0),
    ]
    key, second = plain.key(ROOT), plain.version(ROOT, 2)
    assert (key.origin, key.active_version, key.latest_version) == (Origin.EXTERNAL, 2, 2)
    assert (second.wrapping, plain.version(ROOT).state) == (Wrapping.EXTERNAL, State.DEACTIVATED)
    # Not sovereign: the old L1 is there still, and an L2 under it
    shown = result(asked(plain, on(LinkShowBody)))
    assert isinstance(shown, LinkReport)
    assert (shown.could_be_sovereign, shown.link.sovereign, shown.link.version) == (False, False, 2)
    assert refusal(asked(plain, on(LinkDeclareBody))) is Code.STILL_NEEDED
    plain.set_state(ROOT, State.DESTROYED)
    assert refusal(asked(plain, on(LinkDeclareBody))) is Code.STILL_NEEDED
    plain.needs = {}
    declared = asked(plain, on(LinkDeclareBody, why="done"))
    (link,) = puts(declared)
    assert isinstance(link, Link)
    assert link.sovereign
    assert events(declared) == ["link.sovereign"]
    assert seen_of(plain, key_ref(ROOT), version_ref(ROOT, 1)) <= set(declared.settlement.seen)
    plain.put(link)
    assert refusal(asked(plain, on(LinkDeclareBody))) is Code.CONFLICT
    plain.put(replace(link, sovereign=False))
    del plain.rows[version_ref(ROOT, 1)]
    assert refusal(asked(plain, on(LinkDeclareBody))) is Code.STILL_NEEDED, "a row that is not shown is not gone"


def test_a_tenant_moves_to_another_keystore_and_back_into_our_token(world: World) -> None:
    other = TARGET.model_copy(update={"provider": Provider.PKCS11, "endpoint": "kryoptic/acme"})
    moved(world, TenantMoveBody(tenant="acme", key="acme", keystore=other))
    links = [row for row in world.rows.values() if isinstance(row, Link)]
    assert {(one.version, one.endpoint, one.state) for one in links} == {
        (1, "https://keys.example", LinkState.LINKED),
        (2, "kryoptic/acme", LinkState.LINKED),
    }
    assert isinstance(usable(world), Usable), "what stands under the old link still opens"
    back = moved(world, TenantMoveBody(tenant="acme", key="acme"))
    assert isinstance(back.plan.ops[0], CreateMaster)
    key = world.key(ROOT)
    assert (key.origin, key.active_version, world.version(ROOT, 3).wrapping) == (Origin.GENERATED, 3, Wrapping.TOKEN)
    assert refusal(asked(world, TenantMoveBody(tenant="acme", key="acme"))) is Code.CONFLICT, "that is a rotation"


def test_who_moves_away_is_sovereign_no_more(world: World) -> None:
    world.put(replace(LINK, sovereign=True))
    done = moved(world, TenantMoveBody(tenant="acme", key="acme"))
    assert world.rows[LINK.ref] == replace(LINK, sovereign=False, revision=5)
    assert LINK.ref in done.settlement.changes
    assert Seen(LINK.ref, 4) in done.settlement.seen


def test_a_move_rests_on_the_link_that_it_leaves(world: World) -> None:
    """Declared sovereign between the look and the settlement, it would stay so with its tenant's key elsewhere."""
    done = moved(world, TenantMoveBody(tenant="acme", key="acme"))
    assert Seen(LINK.ref, 4) in done.settlement.seen
    assert LINK.ref not in done.settlement.changes


def test_a_move_from_a_link_that_is_not_shown_is_refused(world: World) -> None:
    world.tamper(LINK.ref)
    assert refusal(asked(world, TenantMoveBody(tenant="acme", key="acme"))) is Code.INTEGRITY


def test_a_compromised_l1_moves_and_keeps_its_state(world: World) -> None:
    world.set_state(ROOT, State.COMPROMISED)
    done = moved(world, TenantMoveBody(tenant="acme", key="acme"))
    assert world.version(ROOT).state is State.COMPROMISED
    assert version_ref(ROOT) not in done.settlement.changes


@pytest.mark.parametrize(
    ("edit", "key", "code"),
    [
        (None, "acme/none", Code.NOT_FOUND),
        (None, "acme/eu", Code.WRONG_LAYER),
        (lambda where: where.put(replace(where.key(ROOT), enabled=False)), "acme", Code.KEY_DISABLED),
        (lambda where: where.put(replace(where.tenant(), enabled=False)), "acme", Code.KEY_DISABLED),
        (lambda where: where.tamper(version_ref(ROOT)), "acme", Code.INTEGRITY),
    ],
)
def test_a_move_is_refused(world: World, edit: object, key: str, code: Code) -> None:
    if callable(edit):
        edit(world)
    assert refusal(asked(world, TenantMoveBody(tenant="acme", key=key))) is code
