"""One slice of DEKs: what it does with rows that are not what they say, and what it leaves behind."""

import json
from dataclasses import replace

import pytest

from tests.unit.campaigns.office import Office
from tests.unit.flow_river.rig import PAYMENTS
from worker.chain import campaigns, slices
from worker.chain.campaign_end import Look, certificate, completed, ended
from worker.chain.campaigns import Verdict, verdict
from worker.chain.resolve import Chains
from worker.chain.slices import DekWork, Ends, conclude, decide, digest_of, ends
from worker.chain.work import failed
from worker.model.audit import Head
from worker.model.campaign_replies import CampaignTold
from worker.model.campaigns import LAST_ID, Campaign, CampaignState, Leftovers, Progress, Slice
from worker.model.effects import Announce, Count, FinishSlice, Leaf, MoveDeks, PutRow, Settlement, Vacant
from worker.model.facts import Facts, Needs, Question
from worker.model.hsm import Fault, HsmFault, HsmResult, WrappedDek
from worker.model.ids import NO_ID
from worker.model.rows import Dek, State, Version
from worker.seal.certificates import BadCertificate, check, payload, signed

NONCE = b"n" * 12


class Desk:
    """A slice of four rows before the facts."""

    def __init__(self, campaign: Campaign, facts: Facts, rows: list[Dek]) -> None:
        self.campaign, self.facts, self.rows = campaign, facts, rows
        at = ends(campaign, facts, Chains(facts))
        assert isinstance(at, Ends)
        self.at = at

    @classmethod
    async def laid(cls) -> "Desk":
        office = await Office.opened()
        await office.wrapped(4)
        await office.rotated()
        campaign = office.row((await office.started()).id)
        place = (campaign.key, 1)
        question = Question(tenants=frozenset({"acme"}), trees=frozenset({campaign.key}), needs=frozenset({place}))
        rows = sorted(office.rig.memory.deks.values(), key=lambda dek: dek.id)
        return cls(campaign, await office.facts(question), rows)

    def decided(self, rows: list[Dek]) -> DekWork:
        held = Slice(self.campaign.id, 1, 0, NO_ID, LAST_ID, 1)
        return decide(held, self.campaign, self.at, rows, None)

    def concluded(self, rows: list[Dek], results: list[HsmResult], *, tells: bool = False) -> Settlement:
        return conclude(self.decided(rows), results, self.facts, tells=tells)


async def test_rows_that_are_not_what_they_say_fail_alone() -> None:
    desk = await Desk.laid()
    one, two, three, four = desk.rows
    bad = [
        replace(one, blob=b"x"),
        replace(two, blob=three.blob),
        replace(three, version=2),
        four,
    ]
    work = desk.decided(bad)
    assert len(work.ops) == 1
    done = conclude(work, [WrappedDek(NONCE, b"c" * 81)], desk.facts, tells=False)
    (finish,) = [effect for effect in done.effects if isinstance(effect, FinishSlice)]
    assert [one.item for one in finish.failures] == [str(row.id) for row in bad[:3]]
    (move,) = [effect for effect in done.effects if isinstance(effect, MoveDeks)]
    assert (move.ids, move.old_blobs, move.version) == ((four.id,), (four.blob,), 2)
    counts = [(effect.version, effect.stored) for effect in done.effects if isinstance(effect, Count)]
    assert counts == [(1, -1), (2, 1)]
    (leaf,) = [json.loads(effect.body) for effect in done.effects if isinstance(effect, Leaf)]
    assert leaf["counts"] == {"OK": 1, "INTEGRITY": 3}
    assert leaf["items"] == digest_of([(four.id, move.blobs[0])]).hex()
    (fact,) = [effect for effect in done.effects if isinstance(effect, Announce)]
    assert (fact.type, CampaignTold.model_validate_json(fact.body).codes) == (campaigns.ITEMS_FAILED, {"INTEGRITY": 3})


async def test_an_empty_slice_is_only_finished() -> None:
    desk = await Desk.laid()
    done = desk.concluded([], [], tells=True)
    assert [type(effect) for effect in done.effects] == [MoveDeks, FinishSlice]


async def test_it_rests_on_the_campaign_and_on_both_chains() -> None:
    desk = await Desk.laid()
    tables = [seen.ref.table.value for seen in desk.decided(desk.rows).seen]
    # the campaign, the tenant, three keys, and of each a version but of the lowest two
    assert sorted(tables) == sorted(["campaigns", "tenants", *["keys"] * 3, *["versions"] * 4])


async def test_progress_is_told_under_one_id_a_second() -> None:
    desk = await Desk.laid()
    results: list[HsmResult] = [WrappedDek(NONCE, b"c" * 81)] * 4
    ids = set()
    for ms in (0, 999):
        desk.facts = replace(desk.facts, now_ms=1_750_000_000_000 + ms)
        facts = [one for one in desk.concluded(desk.rows, results, tells=True).effects if isinstance(one, Announce)]
        ids |= {one.id for one in facts}
    assert len(ids) == 1
    desk.campaign = replace(desk.campaign, state=CampaignState.VERIFYING)
    quiet = desk.concluded(desk.rows, results, tells=True)
    assert not [one for one in quiet.effects if isinstance(one, Announce)]


@pytest.mark.parametrize("fault", Fault)
def test_who_is_to_blame(fault: Fault) -> None:
    items = fault in (Fault.BAD_CIPHERTEXT, Fault.INTEGRITY, Fault.UNFIT)
    sound = WrappedDek(NONCE, b"c" * 81)
    assert slices.waits_for([sound, HsmFault(fault)]) == (None if items else failed(HsmFault(fault)).code)
    assert slices.waits_for([sound]) is None


@pytest.mark.parametrize(
    ("left", "census", "wanted"),
    [
        (Leftovers(), 0, Verdict.DONE),
        (Leftovers(), 1, Verdict.FAILED),  # rows were taken away
        (Leftovers(3, 3), 3, Verdict.FAILED),
        (Leftovers(3, 2), 3, Verdict.RESCAN),
        (Leftovers(1, 0), 0, Verdict.RESCAN),
    ],
)
def test_what_the_last_look_means(left: Leftovers, census: int, wanted: Verdict) -> None:
    assert verdict(left, census) is wanted


async def test_the_end_of_a_campaign() -> None:
    desk = await Desk.laid()
    verifying = replace(desk.campaign, state=CampaignState.VERIFYING, compromised=True)
    empty = replace(desk.facts, needs={(verifying.key, 1): Needs(0, 5, 0)})
    look = Look(Leftovers(), Progress(0, 2, 4), [b"d" * 32], Head("acme", 7, (b"r" * 32,)))
    assert ended(verifying, None, empty, look) is Verdict.DONE
    again = ended(verifying, None, desk.facts, replace(look, left=Leftovers(2, 1, NO_ID, LAST_ID)))
    assert isinstance(again, Settlement)
    (row,) = [effect.row for effect in again.effects if isinstance(effect, PutRow)]
    assert isinstance(row, Campaign)
    assert (row.state, row.round) == (CampaignState.RUNNING, verifying.round + 1)
    for left in (Leftovers(2, 2), Leftovers()):
        failed = ended(verifying, None, desk.facts, replace(look, left=left))
        assert isinstance(failed, Settlement)
        (row,) = [effect.row for effect in failed.effects if isinstance(effect, PutRow)]
        assert isinstance(row, Campaign)
        assert row.state is CampaignState.FAILED
    said = certificate("dev-rig", verifying, empty, look)
    assert (said.items, said.exposed, said.issued_outside, said.log_size, said.log_root) == (4, 4, 5, 7, b"r" * 32)
    assert certificate("dev-rig", verifying, empty, replace(look, log=Head("acme"))).log_root == b""
    quiet = replace(verifying, compromised=False)
    assert certificate("dev-rig", quiet, empty, look).exposed == 0
    place = (quiet.key, 1)
    later = {**empty.versions, place: replace(empty.versions[place], state=State.COMPROMISED)}  # while it ran
    assert certificate("dev-rig", quiet, replace(empty, versions=later), look).exposed == 4
    assert certificate("dev-rig", quiet, replace(empty, versions={}), look).exposed == 0
    version = empty.versions[verifying.key, 1]
    done = completed(verifying, None, empty, version, b"{}")
    assert done is not None
    assert version.ref in done.changes
    assert Vacant(verifying.key, 1) in done.effects
    retired = [effect.row for effect in done.effects if isinstance(effect, PutRow) and isinstance(effect.row, Version)]
    assert [row.retired_ms for row in retired] == [empty.now_ms]
    assert completed(replace(verifying, state=CampaignState.PAUSED), None, empty, version, b"") is None


async def test_a_certificate_is_believed_only_as_it_was_signed() -> None:
    office = await Office.opened()
    await office.wrapped(4)
    await office.rotated()
    text = (await office.ran(await office.started())).certificate
    key = office.rig.token.fleet_keys.signing_key
    assert text is not None
    said = check(text, "dev-rig", key)
    assert (said.items, said.key) == (4, office.key(PAYMENTS).id)
    assert payload(said) == payload(check(signed(said, said.signature), "dev-rig", key))
    for changed in (
        "{}",
        signed(said.model_copy(update={"items": 5}), said.signature),
        signed(said.model_copy(update={"form": "other/1"}), said.signature),
        signed(said, bytes(64)),
    ):
        with pytest.raises(BadCertificate):
            check(changed, "dev-rig", key)
    with pytest.raises(BadCertificate, match="another fleet"):
        check(text, "dev-other", key)
