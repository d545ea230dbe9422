"""A small chain of keys and what requests on it leave behind, for the tests of the store."""

import os
from dataclasses import dataclass, field, replace
from itertools import count
from uuid import UUID

from worker.model.effects import Count, Effect, Leaf, LedgerEntry, PutRow, Seen, Settlement, StoreDeks
from worker.model.hsm import Purpose, Wrapping
from worker.model.ids import uuid7
from worker.model.operations import Operation
from worker.model.requests import LedgerKey
from worker.model.rows import (
    Algorithm,
    Alias,
    Client,
    Dek,
    IntakeKey,
    Key,
    Origin,
    Role,
    Row,
    RowRef,
    State,
    Suite,
    Tenant,
    Version,
)

MAC = b"m" * 32
_serial = count(1)


def fresh_id() -> UUID:
    """A UUIDv7 that no other test has."""
    return uuid7(1_700_000_000_000 + next(_serial), int.from_bytes(os.urandom(10), "big"))


def fresh_name(stem: str) -> str:
    """A short name that no other test has."""
    return f"{stem}{next(_serial)}x{os.urandom(3).hex()}"


def key_row(tenant: str, layer: int, parent: UUID | None = None) -> Key:
    purpose = Purpose.WRAPS_DEKS if layer == 3 else Purpose.WRAPS_KEYS
    return Key(fresh_id(), tenant, parent, layer, purpose, Origin.GENERATED, "", True, 1, 1, 1)


def version_row(key: Key, number: int = 1, parent_version: int = 1) -> Version:
    wrapping = Wrapping.TOKEN if key.parent is None else Wrapping.AES_KWP
    material = fresh_id() if key.parent is None else None
    above = 0 if key.parent is None else parent_version
    return Version(key.id, number, State.ACTIVE, wrapping, b"w" * 40, above, material, "", 1_700_000_000_000, 1)


def client_row(tenant: str) -> Client:
    return Client(
        id=fresh_name("client"),
        tenant=tenant,
        role=Role.SERVICE,
        algorithm=Algorithm.ED25519,
        public_key=b"p" * 32,
        permissions=("wrap", "unwrap"),
        pattern="*",
        reply_topics=(),
        recipient_suite=None,
        recipient_key=b"",
        not_after_ms=2_000_000_000_000,
        revoked=False,
        enrolled_by="ann",
        revision=1,
    )


def intake_row() -> IntakeKey:
    sequence = next(_serial) + int.from_bytes(os.urandom(3), "big") * 1000
    return IntakeKey(sequence, Suite.X25519, b"p" * 32, b"wrapped", 1, 2, 1)


@dataclass(frozen=True)
class Chain:
    """A tenant with one key per layer, an alias of the last and a client."""

    tenant: Tenant
    keys: tuple[Key, Key, Key]
    versions: tuple[Version, Version, Version]
    alias: Alias
    client: Client
    rows: tuple[Row, ...] = field(init=False)

    def __post_init__(self) -> None:
        rows = (self.tenant, *self.keys, *self.versions, self.alias, self.client)
        object.__setattr__(self, "rows", rows)

    @property
    def kek(self) -> Key:
        return self.keys[2]

    @property
    def seen(self) -> tuple[Seen, ...]:
        """What a wrap rests on."""
        return tuple(Seen(row.ref, row.revision) for row in self.rows if not isinstance(row, Alias))

    def request(self, name: str | None = None) -> LedgerKey:
        return LedgerKey(self.tenant.id, self.client.id, "/tests", name or fresh_name("r"))


def chain() -> Chain:
    name = fresh_name("tenant")
    first = key_row(name, 1)
    second = key_row(name, 2, first.id)
    third = key_row(name, 3, second.id)
    return Chain(
        Tenant(name, 3, Suite.X25519, True, 1),
        (first, second, third),
        (version_row(first), version_row(second), version_row(third)),
        Alias(f"{name}/kek", name, third.id, 1),
        client_row(name),
    )


def puts(*rows: Row) -> tuple[PutRow, ...]:
    return tuple(PutRow(row, 1, MAC) for row in rows)


def command(*rows: Row, seen: tuple[Seen, ...] = (), changes: tuple[RowRef, ...] = ()) -> Settlement:
    """A settlement without a ledger entry that puts rows."""
    return Settlement(None, None, seen, changes, puts(*rows))


def bumped(row: Key) -> Key:
    """The key after one more rotation."""
    return replace(
        row, revision=row.revision + 1, active_version=row.active_version + 1, latest_version=row.latest_version + 1
    )


def dek(kek: Key, version: int = 1) -> Dek:
    return Dek(fresh_id(), kek.id, version, os.urandom(96))


def wrap(of: Chain, name: str | None = None, items: int = 1, opened: LedgerEntry | None = None) -> Settlement:
    """A wrap of `items` DEKs, all final."""
    deks = tuple(dek(of.kek) for _ in range(items))
    entry = LedgerEntry(of.request(name), Operation.WRAP, b"d" * 32, tuple(one.blob for one in deks))
    effects: tuple[Effect, ...] = (
        StoreDeks(deks),
        Count(of.kek.id, 1, stored=items),
        Leaf(fresh_id(), of.tenant.id, b'{"what":"wrap"}'),
    )
    return Settlement(entry, opened, of.seen, (), effects)


def deks_of(settlement: Settlement) -> tuple[Dek, ...]:
    return tuple(one for effect in settlement.effects if isinstance(effect, StoreDeks) for one in effect.deks)


def entry_of(settlement: Settlement) -> LedgerEntry:
    assert settlement.ledger is not None
    return settlement.ledger
