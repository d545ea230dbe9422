"""Campaigns above the DEKs: versions that are rewrapped, keys that get new ones, and what goes wrong with them."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.unit.campaigns.office import Office
from tests.unit.flow_river.rig import CARDS, PAYMENTS
from worker.chain.campaign_end import turned
from worker.chain.campaign_parts import parts_of
from worker.chain.campaigns import Turn, campaign_id
from worker.chain.key_slices import conclude_keys, decide_keys
from worker.chain.resolve import Chains
from worker.chain.slices import Ends, ends
from worker.flow.authentic import authenticated
from worker.model.campaign_bodies import CampaignCancelBody, CampaignPauseBody, CampaignReplayBody, CampaignResumeBody
from worker.model.campaigns import LAST_ID, Campaign, CampaignKind, CampaignState, Failure, Slice
from worker.model.codes import Code
from worker.model.control import KeyDisableBody, KeyEnableBody
from worker.model.effects import FinishSlice, PutRow, Settlement
from worker.model.facts import Facts, Question
from worker.model.fields import Reason
from worker.model.hsm import CreatedKey, Fault, HsmFault, RewrapKey, Wrapping
from worker.model.ids import NO_ID
from worker.model.operations import Operation
from worker.model.rows import State, Version
from worker.seal.certificates import check

S = CampaignState
EU = "acme/eu"


async def test_versions_are_rewrapped_layer_by_layer() -> None:
    office = await Office.opened()
    await office.wrapped(2)
    for key, moved in (("acme", 1), (EU, 2)):
        await office.rotated(key)
        done = await office.ran(await office.started(key))
        assert (done.state, done.moved, done.remaining) == (S.DONE, moved, 0)
        assert done.certificate is not None
        assert check(done.certificate, "dev-rig", office.rig.token.fleet_keys.signing_key).campaign == done.id
    assert [row.parent_version for row in office.versions(PAYMENTS)] == [2]
    assert [bool(row.retired_ms) for row in office.versions(EU)] == [True, False]
    assert len(await office.wrapped(1)) == 1


@pytest.mark.parametrize("reason", [Reason.COMPROMISE, Reason.OPERATOR])
async def test_a_deep_campaign_gives_every_key_below_a_new_version(reason: Reason) -> None:
    office = await Office.opened()
    ids = await office.wrapped(5) + await office.wrapped(2, CARDS)
    await office.rotated()
    ids += await office.wrapped(2)
    await office.rotated(EU, reason)
    view = await office.started(EU, kind=CampaignKind.DEEP, items_s=1000)
    done = await office.ran(view, 60)
    assert (done.state, done.moved) == (S.DONE, 2)
    old = State.COMPROMISED if reason is Reason.COMPROMISE else State.DEACTIVATED
    assert [row.state for row in office.versions(PAYMENTS)] == [old, old, State.ACTIVE]
    assert [row.state for row in office.versions(CARDS)] == [old, State.ACTIVE]
    active = {office.key(name).id: office.key(name).active_version for name in (PAYMENTS, CARDS)}
    assert all(office.rig.memory.deks[id_].version == active[office.rig.memory.deks[id_].key] for id_ in ids)
    assert done.certificate is not None
    said = check(done.certificate, "dev-rig", office.rig.token.fleet_keys.signing_key)
    assert len(said.parts) == 3
    part = office.row(campaign_id(office.key(PAYMENTS).id, 1, 3))
    assert (part.parent, part.items_s, part.compromised) == (done.id, 1000, reason is Reason.COMPROMISE)


async def test_a_key_that_was_rotated_since_needs_no_new_version() -> None:
    office = await Office.opened()
    ids = await office.wrapped(4)
    await office.wrapped(1, CARDS)
    await office.rotated(EU, Reason.COMPROMISE)
    for key in (PAYMENTS, CARDS):
        await office.rotated(key)  # their version 2 is under the new version above
    await office.started(CARDS)  # and one has its campaign already
    done = await office.ran(await office.started(EU, kind=CampaignKind.DEEP), 60)
    assert done.state is S.DONE
    assert [row.state for row in office.versions(PAYMENTS)] == [State.COMPROMISED, State.ACTIVE]
    assert {office.rig.memory.deks[id_].version for id_ in ids} == {2}


async def test_parts_stand_still_while_the_campaign_above_is_paused() -> None:
    office = await Office.opened()
    await office.wrapped(5)
    await office.rotated(EU)
    view = await office.started(EU, kind=CampaignKind.DEEP)
    process = office.process()
    part = campaign_id(office.key(PAYMENTS).id, 1, 2)
    rows = office.rig.memory.rows
    for _ in range(20):  # until its parts have begun, but not further
        if any(str(part) == ref.key and office.row(part).state is S.RUNNING for ref in rows):
            break
        office.rig.clock.ms += 6000
        await process._advance(view.id)
    assert office.row(part).state is S.RUNNING
    pause = CampaignPauseBody(tenant="acme", campaign=view.id)
    await office.view(Operation.CAMPAIGN_PAUSE, pause)
    await office.ran(view, 5)
    assert (await office.shown(part)).moved == 0
    await office.view(Operation.CAMPAIGN_RESUME, CampaignResumeBody(tenant="acme", campaign=view.id))
    assert (await office.ran(view, 60)).state is S.DONE


async def test_a_cancelled_part_fails_the_whole_and_a_replay_needs_it_first() -> None:
    office = await Office.opened()
    await office.wrapped(5)
    await office.rotated(EU)
    view = await office.started(EU, kind=CampaignKind.DEEP)
    part = campaign_id(office.key(PAYMENTS).id, 1, 2)
    process = office.process()
    while not any(ref.key == str(part) for ref in office.rig.memory.rows):
        office.rig.clock.ms += 6000
        await process._advance(view.id)
    await office.view(Operation.CAMPAIGN_CANCEL, CampaignCancelBody(tenant="acme", campaign=part))
    assert (await office.ran(view, 40)).state is S.FAILED
    await office.started(PAYMENTS)
    await office.ran(view, 20)
    await office.view(Operation.CAMPAIGN_REPLAY, CampaignReplayBody(tenant="acme", campaign=view.id))
    assert (await office.ran(view, 20)).state is S.DONE


async def test_a_key_that_is_off_is_listed() -> None:
    office = await Office.opened()
    await office.wrapped(2)
    await office.rotated(EU)
    await office.rig.ask(Operation.KEY_DISABLE, KeyDisableBody(tenant="acme", key=CARDS), office.rig.ann)
    view = await office.ran(await office.started(EU, kind=CampaignKind.DEEP), 40)
    assert (view.state, view.failed) == (S.FAILED, 1)
    revision = office.key(CARDS).disabled_revision
    await office.rig.command(Operation.KEY_ENABLE, KeyEnableBody(tenant="acme", key=CARDS, revision=revision))
    await office.view(Operation.CAMPAIGN_REPLAY, CampaignReplayBody(tenant="acme", campaign=view.id))
    assert (await office.ran(view, 60)).state is S.DONE


async def test_the_token_refuses_a_key_and_then_does_it() -> None:
    office = await Office.opened()
    await office.rotated(EU)
    view = await office.started(EU)
    row = office.versions(PAYMENTS)[0]
    await spoiled(office, row, wrapped=b"x" * 40)
    failed = await office.ran(view)
    assert (failed.state, failed.moved, failed.failed) == (S.FAILED, 1, 1)
    await spoiled(office, office.versions(PAYMENTS)[0], wrapped=row.wrapped)
    await office.view(Operation.CAMPAIGN_REPLAY, CampaignReplayBody(tenant="acme", campaign=view.id))
    assert (await office.ran(view)).state is S.DONE


async def spoiled(office: Office, row: Version, **changes: Any) -> None:  # noqa: ANN401 - as `replace` takes them
    """A row with a MAC that holds, and other columns."""
    put = replace(row, revision=row.revision + 1, **changes)
    settlement = Settlement(None, None, (), (), (PutRow(put),))
    await office.rig.memory.settle([await authenticated(office.rig.token.fleet_keys, settlement)])


class Table:
    """A campaign of `acme/eu` before the facts, to be decided by hand."""

    def __init__(self, office: Office, campaign: Campaign, facts: Facts) -> None:
        self.office, self.campaign, self.facts = office, campaign, facts
        at = ends(campaign, facts, Chains(facts))
        assert isinstance(at, Ends)
        self.at = at
        self.payments = office.key(PAYMENTS).id

    @classmethod
    async def laid(cls, kind: CampaignKind) -> "Table":
        office = await Office.opened()
        await office.rotated(EU)
        view = await office.started(EU, kind=kind)
        trees = frozenset(office.key(name).id for name in (EU, PAYMENTS))
        facts = await office.facts(Question(tenants=frozenset({"acme"}), trees=trees))
        return cls(office, office.row(view.id), facts)

    def decided(self, places: list[tuple[UUID, int]], **facts: Any) -> list[object]:  # noqa: ANN401
        held = Slice(self.campaign.id, 1, 0, NO_ID, LAST_ID, 1)
        work = decide_keys(held, self.campaign, self.at, places, replace(self.facts, **facts), None)
        return list(work.steps)

    def with_version(self, **changes: Any) -> dict[tuple[UUID, int], Version]:  # noqa: ANN401
        place = (self.payments, 1)
        return {**self.facts.versions, place: replace(self.facts.versions[place], **changes)}


async def test_versions_that_can_not_be_moved() -> None:
    table = await Table.laid(CampaignKind.SHALLOW)
    place = (table.payments, 1)
    name = f"{table.payments}/1"
    assert table.decided([(uuid4(), 1)])[0].code == "INTEGRITY"  # type: ignore[attr-defined]
    for changes in ({"wrapping": Wrapping.TOKEN}, {"digest": b"d" * 32}):
        found = table.decided([place], versions=table.with_version(**changes))
        assert found == [Failure(name, Code.UNSUPPORTED.value)]
    assert table.decided([place], versions=table.with_version(parent_version=2)) == []  # it has moved since
    assert table.decided([place], versions=table.with_version(state=State.DESTROYED)) == []


async def test_keys_that_can_not_be_renewed() -> None:
    table = await Table.laid(CampaignKind.DEEP)
    place = (table.payments, 1)
    name = f"{table.payments}/1"
    assert table.decided([place], keys={}) == [Failure(name, Code.INTEGRITY.value)]
    assert table.decided([place], versions={}) == [Failure(name, Code.INTEGRITY.value)]
    stuck = table.with_version(state=State.DESTROY_SCHEDULED)
    assert table.decided([place], versions=stuck) == [Failure(name, Code.KEY_STATE.value)]
    assert table.decided([place], versions=table.with_version(retired_ms=1)) == []


async def test_what_the_token_says_of_a_slice_of_keys() -> None:
    table = await Table.laid(CampaignKind.SHALLOW)
    held = Slice(table.campaign.id, 1, 0, NO_ID, LAST_ID, 1)
    work = decide_keys(held, table.campaign, table.at, [(table.payments, 1)], table.facts, None)
    (op,) = work.ops
    assert isinstance(op, RewrapKey)
    bad = conclude_keys(work, [HsmFault(Fault.INTEGRITY)], table.facts, tells=False)
    (finish,) = [effect for effect in bad.effects if isinstance(effect, FinishSlice)]
    assert (finish.items, [one.code for one in finish.failures]) == (0, ["INTEGRITY"])
    good = conclude_keys(work, [CreatedKey(b"n" * 40, Wrapping.AES_KW)], table.facts, tells=True)
    (put,) = [effect.row for effect in good.effects if isinstance(effect, PutRow)]
    assert isinstance(put, Version)
    assert (put.wrapped, put.wrapping, put.parent_version, put.revision) == (b"n" * 40, Wrapping.AES_KW, 2, 2)


async def test_parts_of_a_layer_that_is_not_whole() -> None:
    table = await Table.laid(CampaignKind.DEEP)
    place = (table.payments, 1)
    assert parts_of(table.campaign, table.facts, [(uuid4(), 1)], ()).left.rows == 1
    missing = parts_of(table.campaign, table.facts, [place], ())
    assert (missing.left.rows, missing.left.failed, missing.left.last) == (1, 0, table.payments)
    assert parts_of(table.campaign, table.facts, [place], {table.payments}).left.failed == 1
    gone = replace(table.facts, versions=table.with_version(state=State.DESTROYED))
    assert parts_of(table.campaign, gone, [place], ()).left.rows == 0
    retired = replace(table.facts, versions=table.with_version(retired_ms=1))
    assert parts_of(table.campaign, retired, [place], ()).done == ()


async def test_ends_and_turns_that_are_not_there() -> None:
    table = await Table.laid(CampaignKind.SHALLOW)
    campaign, facts = table.campaign, table.facts
    assert ends(campaign, replace(facts, keys={}), Chains(facts)) is Code.INTEGRITY
    assert ends(replace(campaign, to_version=3), facts, Chains(facts)) is Code.CAMPAIGN_STATE
    eu = facts.keys[campaign.key]
    old, new = facts.versions[eu.id, 1], facts.versions[eu.id, 2]
    for version in (replace(old, state=State.DESTROYED), replace(new, state=State.SUSPENDED)):
        there = replace(facts, versions={**facts.versions, (eu.id, version.number): version})
        assert ends(campaign, there, Chains(there)) is Code.KEY_STATE
    assert turned(replace(campaign, state=S.DONE), None, facts, Turn.VERIFY) is None
