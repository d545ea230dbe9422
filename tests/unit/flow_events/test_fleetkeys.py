"""Workers follow rotations, tell them to clients, and renew rows' MACs piece by piece, whoever dies in between."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from tests.unit.flow_events.letters import identity, row
from worker.chain.sequences import Mark, Sequences
from worker.client.trust import MOST_UNPROVEN, Trust
from worker.edges.bus.fake import FakeBus
from worker.edges.hsm.fake import FakeToken
from worker.edges.store.fake import FakeStore
from worker.flow import renewing, retagging
from worker.flow import trust as flow_trust
from worker.flow.authentic import Authentic, authentic_rows
from worker.flow.fleetkeys import AGAIN_MS, FleetKeysDoubted, FollowedKeys
from worker.flow.renewing import Renewing
from worker.flow.retagging import Retagging
from worker.flow.voice import RunVoice
from worker.model.effects import Settlement
from worker.model.facts import Question, StoredRow
from worker.model.fleet import FleetKey, FleetKeyState, FleetKind
from worker.model.hsm import CreatedFleetKey, CreateFleetKey
from worker.model.records import Entry
from worker.model.rows import Client
from worker.model.sequences import SEQUENCE
from worker.model.words import RowRef, Table
from worker.ports import Mac
from worker.seal.announcements import UnknownSigner
from worker.seal.errors import BadCertificate
from worker.seal.lineage import Succession
from worker.seal.sequences import Sequence as Told

NOW = 1_795_557_600_000
FLEET = "dev-test"


@dataclass
class Scene:
    token: FakeToken = field(default_factory=FakeToken)
    memory: FakeStore = field(default_factory=FakeStore)
    bus: FakeBus = field(default_factory=FakeBus)

    def __post_init__(self) -> None:
        self.bus.create("intake")
        keys, sink = self.token.fleet_keys, self.bus.sink()
        self.voice = RunVoice(FLEET, "intake", keys, sink, clock=lambda: NOW)
        self.pinned = keys.signing_key
        self.trust = flow_trust.Trust(keys)
        self.sequences = Sequences()
        self.retagging = Retagging(self.sequences, self.memory, keys)
        self.followed = FollowedKeys(FLEET, "intake", self.memory, self.trust, keys, sink, self.voice)

    async def rotate(self, kind: FleetKind, number: int) -> FleetKey:
        made = self.token.fleet_keys.create(CreateFleetKey(kind, number, NOW))
        signed = (made.public_key, made.predecessor, made.by_predecessor, made.by_itself)
        assert isinstance(made, CreatedFleetKey)
        key = FleetKey(f"{kind}/{number}", kind, number, FleetKeyState.ACTIVE, NOW, 1, "fleet", *signed)
        await self.put(key)
        return key

    async def put(self, *rows: FleetKey | Client) -> None:
        effects = await authentic_rows(self.token.fleet_keys, rows)
        await self.memory.settle([Settlement(None, None, (), (), each) for each in effects])

    def said(self) -> list[Entry]:
        return self.bus.entries("intake")


async def test_a_rotation_is_taken_up_told_and_speaks_with_a_new_voice() -> None:
    where = Scene()
    await where.followed.turn(NOW)
    first = where.voice.signer
    await where.followed.turn(NOW)
    assert (where.voice.signer, len(where.said())) == (first, 1), "nothing was rotated"
    await where.rotate(FleetKind.SIGNING, 2)
    await where.followed.turn(NOW)
    assert where.voice.signer is not first
    kinds = [(entry.key or b"").partition(b"/")[0] for entry in where.said()]
    assert kinds == [b"certificate", b"fleet-key", b"certificate"]
    for kind in (FleetKind.ROW_MAC, FleetKind.INTAKE_WRAP):
        await where.rotate(kind, 2)
    await where.followed.turn(NOW)
    assert [where.token.fleet_keys.newest(kind) for kind in FleetKind] == [2, 2, 2]
    count = len(where.said())
    await where.followed.turn(NOW + AGAIN_MS + 1)
    assert len(where.said()) > count, "the topic forgets, so it is told again"


async def test_rows_that_can_not_be_believed_change_nothing() -> None:
    where = Scene()
    await where.followed.turn(NOW)
    key = await where.rotate(FleetKind.ROW_MAC, 2)
    stored = where.memory.rows[key.ref]
    where.memory.rows[key.ref] = StoredRow(replace(key, since_ms=1), stored.mac_version, stored.mac)
    with pytest.raises(FleetKeysDoubted):
        await where.followed.turn(NOW)
    assert where.token.fleet_keys.newest(FleetKind.ROW_MAC) == 1


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_client_that_pinned_the_old_key_follows_whatever_comes_first(backwards: bool) -> None:
    where = Scene()
    await where.rotate(FleetKind.SIGNING, 2)
    await where.followed.turn(NOW)
    client = Trust(FLEET, where.pinned)
    pending: dict[bytes, bytes] = {}
    for entry in sorted(where.said(), key=lambda one: one.offset, reverse=backwards):
        try:
            said = client.accept(entry.key, entry.value or b"", NOW)
        except UnknownSigner:
            continue
        if isinstance(said, Succession):
            pending |= client.unproven()
    for key, value in pending.items():
        client.accept(key, value, NOW)
    assert bool(pending) is backwards
    assert client.certificate(where.voice.signer.kid, NOW) is not None


async def test_a_rotation_under_another_name_is_refused_and_forgeries_are_bounded() -> None:
    where = Scene()
    await where.rotate(FleetKind.SIGNING, 2)
    await where.followed.turn(NOW)
    (told, certificate) = where.said()
    client = Trust(FLEET, where.pinned)
    with pytest.raises(BadCertificate, match="another's record key"):
        client.accept(b"fleet-key/3", told.value or b"", NOW)
    with pytest.raises(UnknownSigner):
        client.accept(certificate.key, certificate.value or b"", NOW)
    with pytest.raises(UnknownSigner):
        client.accept(b"certificate/long", (certificate.value or b"") + b" " * 10_000, NOW)
    assert list(client.unproven()) == [certificate.key]
    for number in range(MOST_UNPROVEN + 5):
        with pytest.raises(UnknownSigner):
            client.accept(b"certificate/%d" % number, certificate.value or b"", NOW)
    kept = client.unproven()
    assert len(kept) == MOST_UNPROVEN
    assert b"certificate/4" not in kept


# Renewing.


@dataclass
class MacRows:
    """`MacRows` over the store in memory."""

    memory: FakeStore
    told: list[Authentic] = field(default_factory=list)
    changes: RowRef | None = None

    async def older(self, table: Table, after: StoredRow | None, newest: int, limit: int) -> Sequence[StoredRow]:
        start = "" if after is None else after.row.ref.key
        rows = [stored for ref, stored in self.memory.rows.items() if ref.table is table and ref.key > start]
        old = [stored for stored in rows if stored.mac_version < newest]
        return sorted(old, key=lambda stored: stored.row.ref.key)[:limit]

    async def renew(self, was: StoredRow, now: Authentic) -> bool:
        put, _ = now
        if self.memory.rows[was.row.ref] != was or was.row.ref == self.changes:
            return False
        self.memory.rows[was.row.ref] = StoredRow(put.row, put.mac_version, put.mac)
        self.told.append(now)
        return True


def client(number: int) -> Client:
    return replace(row(identity()), id=f"c{number}", revision=1)


async def whole_walk(duty: Renewing) -> int:
    return sum([await duty.turn() for _ in range(3 * len(Table))])


async def test_every_row_gets_the_newest_mac_and_keeps_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewing, "AT_ONCE", 2)
    where = Scene()
    await where.put(*[client(number) for number in range(5)])
    rows = MacRows(where.memory)
    duty = Renewing("w", where.memory, rows, where.trust, where.token.fleet_keys, where.retagging)
    assert await whole_walk(duty) == 0, "nothing was rotated"
    await where.rotate(FleetKind.ROW_MAC, 2)
    await where.followed.turn(NOW)
    broken = where.memory.rows[client(3).ref]
    where.memory.rows[client(3).ref] = replace(broken, mac=b"")
    rows.changes = client(4).ref
    assert await whole_walk(duty) == 4, "four clients' less one that changes, and the row of the rotation itself"
    rows.changes = None
    duty._rest = 0
    assert await whole_walk(duty) == 1
    versions = {ref.key: stored.mac_version for ref, stored in where.memory.rows.items()}
    assert versions == {"c0": 2, "c1": 2, "c2": 2, "c3": 1, "c4": 2, "row-mac/2": 2}
    assert {stored.row.revision for stored in where.memory.rows.values()} == {1}
    facts = await where.trust.verified(await where.memory.know(_every()))
    assert facts.tampered == {client(3).ref}
    assert len(rows.told) == 5


async def test_a_row_of_a_retired_version_is_believed_no_more_whatever_was_remembered() -> None:
    where = Scene()
    await where.put(client(1))
    await where.rotate(FleetKind.ROW_MAC, 2)
    old = FleetKey("row-mac/1", FleetKind.ROW_MAC, 1, FleetKeyState.VERIFY_ONLY, 0, 1, "fleet")
    await where.put(old)
    await where.followed.turn(NOW)
    rows = MacRows(where.memory)
    kept = where.memory.rows[client(1).ref]
    duty = Renewing("w", where.memory, rows, where.trust, where.token.fleet_keys, where.retagging)
    await whole_walk(duty)
    leaked = where.memory.rows[client(1).ref]
    where.memory.rows[client(1).ref] = kept
    assert not (await where.trust.verified(await where.memory.know(_every()))).tampered
    await where.put(replace(old, state=FleetKeyState.RETIRED, revision=2))
    await where.followed.turn(NOW)
    assert (await where.trust.verified(await where.memory.know(_every()))).tampered == {client(1).ref}
    where.memory.rows[client(1).ref] = leaked
    assert not (await where.trust.verified(await where.memory.know(_every()))).tampered
    assert await where.token.fleet_keys.bury() == 0, "it was destroyed when it was followed"


async def test_what_was_told_of_rows_that_are_gone_is_vouched_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retagging, "AT_ONCE", 2)
    where = Scene()
    for number in range(3):
        where.sequences.learn(client(number).ref, Mark(1, 1, b"mac", tag=1))
    where.sequences.learn(client(3).ref, Mark(1, 2, b"mac", tag=2))
    await where.rotate(FleetKind.ROW_MAC, 2)
    await where.followed.turn(NOW)
    assert await where.retagging.turn(2) + await where.retagging.turn(2) == 3
    told = [Told.parse(one.body) for one in where.memory.outbox.values() if one.type == SEQUENCE]
    again = [(said, version, tag) for said, version, tag in told if said.mac == b"mac"]
    assert {said.ref for said, _, _ in again} == {client(number).ref for number in range(3)}
    for said, version, tag in again:
        assert (version, said.mac_version) == (2, 1)
        assert await where.token.fleet_keys.verify([said.payload()], [Mac(version, tag)]) == [True]


async def test_only_who_leads_renews_and_a_finished_walk_rests() -> None:
    where = Scene()
    await where.put(client(1))
    await where.rotate(FleetKind.ROW_MAC, 2)
    await where.followed.turn(NOW)
    rows = MacRows(where.memory)
    keys = where.token.fleet_keys
    one, two = (Renewing(name, where.memory, rows, where.trust, keys, where.retagging) for name in "ab")
    assert await whole_walk(one) == 2
    assert one._rest > 0
    await where.memory.lead("row MACs", "a", 30)
    assert await two.turn() == 0
    assert two._place == 0


def _every() -> Question:
    return Question(clients=frozenset(f"c{number}" for number in range(5)))
