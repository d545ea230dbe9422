"""A small world for the pure rooms: two tenants, a service and officers, each row as the store would give it.

acme (3 layers)  ─ acme/eu ─ acme/eu/payments, acme/eu/cards
bolt (3 layers)  ─ bolt/eu ─ bolt/eu/ledger
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from uuid import UUID

from tests.unit.chain.token import NONCE, SEALED_BYTES, answer
from worker.chain import blob
from worker.chain.approvals import digest
from worker.chain.conclude import conclude
from worker.chain.decide import decide
from worker.chain.plan import Conclusion, Decision, Limits, Plan, Refused, Unsealed
from worker.chain.resolve import Chains
from worker.model.bodies import AnyBody
from worker.model.codes import Code
from worker.model.control import ApprovalApproveBody
from worker.model.effects import LedgerEntry, PutRow, Seen
from worker.model.facts import Below, Facts, Needs, Paging, RowPage
from worker.model.fleet import FleetKind
from worker.model.hsm import (
    Purpose,
    Wrapping,
)
from worker.model.ids import uuid7
from worker.model.operations import Operation
from worker.model.records import Partition, Record
from worker.model.requests import LedgerKey, Recipient, ReplyRoute, Request
from worker.model.rows import (
    FLEET_TENANT,
    Algorithm,
    Alias,
    Approval,
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
from worker.seal.hpke import load_keypair

NOW = 1_750_000_000_000
LIMITS = Limits()
PAIR = load_keypair(Suite.X25519, b"\x07" * 32)
RECIPIENT = Recipient(Suite.X25519, PAIR.public)


def uid(number: int) -> UUID:
    """A UUIDv7 that says which it is."""
    return uuid7(NOW, number)


ROOT, EU, PAYMENTS, CARDS = uid(1), uid(2), uid(3), uid(4)
BOLT_ROOT, BOLT_EU, BOLT_LEDGER = uid(11), uid(12), uid(13)


def key_row(id_: UUID, tenant: str, parent: UUID | None, layer: int) -> Key:
    purpose = Purpose.WRAPS_DEKS if layer == 3 else Purpose.WRAPS_KEYS
    return Key(id_, tenant, parent, layer, purpose, Origin.GENERATED, "", True, 1, 1, 1)


def version_row(key: Key, number: int = 1, state: State = State.ACTIVE, parent_version: int = 1) -> Version:
    if key.parent is None:
        return Version(key.id, number, state, Wrapping.TOKEN, b"", 0, uid(1000 + number), "token-1", NOW, 1)
    return Version(key.id, number, state, Wrapping.AES_KWP, b"w" * 40, parent_version, None, "", NOW, 1)


def service(name: str = "billing", tenant: str = "acme") -> Client:
    return Client(
        id=name,
        tenant=tenant,
        role=Role.SERVICE,
        algorithm=Algorithm.ED25519,
        public_key=b"p" * 32,
        permissions=("wrap", "unwrap", "rewrap", "rewrap-from", "rewrap-to", "trigger"),
        pattern="*",
        reply_topics=("keyriver.replies.v1",),
        recipient_suite=None,
        recipient_key=b"",
        not_after_ms=NOW + 1_000_000,
        revoked=False,
        enrolled_by="ann",
        revision=1,
    )


def officer(name: str) -> Client:
    return replace(service(name, FLEET_TENANT), role=Role.OFFICER, permissions=(), pattern="", enrolled_by="init")


class Ids:
    """Fresh ids that can be told apart from all others."""

    def __init__(self) -> None:
        self.given = 0

    def __call__(self, count: int) -> list[UUID]:
        first, self.given = self.given, self.given + count
        return [uid(1_000_000 + number) for number in range(first, self.given)]


@dataclass
class World:
    """Rows by their name; change them, then ask."""

    rows: dict[RowRef, Row] = field(default_factory=dict)
    deks: dict[UUID, Dek] = field(default_factory=dict)
    ledger: dict[LedgerKey, LedgerEntry] = field(default_factory=dict)
    tampered: set[RowRef] = field(default_factory=set)
    distrusted: set[str] = field(default_factory=set)
    key_pages: dict[Paging, tuple[UUID, ...]] = field(default_factory=dict)
    client_pages: dict[Paging, tuple[str, ...]] = field(default_factory=dict)
    pages: dict[RowPage, tuple[RowRef, ...]] = field(default_factory=dict)
    below: dict[UUID, tuple[Below, ...]] = field(default_factory=dict)
    needs: dict[tuple[UUID, int], Needs] | None = field(default_factory=dict)
    """Of other versions than these nothing is needed; None: nobody asked."""
    rests: dict[tuple[FleetKind, int], int] = field(default_factory=dict)
    limits: Limits = LIMITS
    new_ids: Ids = field(default_factory=Ids)
    now_ms: int = NOW

    def __post_init__(self) -> None:
        for tenant, ids in (("acme", (ROOT, EU, PAYMENTS)), ("bolt", (BOLT_ROOT, BOLT_EU, BOLT_LEDGER))):
            self.put(Tenant(tenant, 3, Suite.P256, True, 1))
            names = (tenant, f"{tenant}/eu", f"{tenant}/eu/{'payments' if tenant == 'acme' else 'ledger'}")
            parent: UUID | None = None
            for layer, (id_, name) in enumerate(zip(ids, names, strict=True), start=1):
                self.put_key(key_row(id_, tenant, parent, layer), name)
                parent = id_
        self.put_key(key_row(CARDS, "acme", EU, 3), "acme/eu/cards")
        self.put(service(), service("ledger", "bolt"), officer("ann"), officer("ben"))

    # Rows.

    def put(self, *rows: Row) -> None:
        self.rows |= {row.ref: row for row in rows}

    def put_key(self, key: Key, name: str) -> None:
        self.put(key, version_row(key), Alias(name, key.tenant, key.id, 1))

    def key(self, id_: UUID) -> Key:
        row = self.rows[key_ref(id_)]
        assert isinstance(row, Key)
        return row

    def version(self, id_: UUID, number: int = 1) -> Version:
        row = self.rows[version_ref(id_, number)]
        assert isinstance(row, Version)
        return row

    def client(self, name: str) -> Client:
        row = self.rows[RowRef(Client.TABLE, name)]
        assert isinstance(row, Client)
        return row

    def tenant(self, name: str = "acme") -> Tenant:
        row = self.rows[RowRef(Tenant.TABLE, name)]
        assert isinstance(row, Tenant)
        return row

    def tamper(self, ref: RowRef) -> None:
        """What a row whose MAC does not hold looks like: it is gone, and named."""
        del self.rows[ref]
        self.tampered.add(ref)

    def set_state(self, id_: UUID, state: State, number: int = 1) -> None:
        self.put(replace(self.version(id_, number), state=state))

    def disable(self, id_: UUID) -> None:
        self.put(replace(self.key(id_), enabled=False))

    def rotate(self, id_: UUID) -> None:
        """A second version, as `key rotate` leaves it."""
        key, first = self.key(id_), self.version(id_)
        parent_version = 0 if key.parent is None else self.key(key.parent).active_version
        self.put(
            replace(key, active_version=2, latest_version=2, revision=2),
            replace(first, state=State.DEACTIVATED, revision=2),
            version_row(key, 2, parent_version=parent_version),
        )

    def stored(self, number: int, key: UUID, version: int = 1) -> Dek:
        """A stored DEK under a version."""
        id_ = uid(500 + number)
        row = self.deks[id_] = Dek(id_, key, version, blob_of(key, version, id_))
        return row

    # Questions.

    def facts(self) -> Facts:
        rows = list(self.rows.values())
        nothing = {(row.key, row.number): Needs() for row in rows if isinstance(row, Version)}
        names: dict[UUID, tuple[str, ...]] = {}
        for row in rows:
            if isinstance(row, Alias):
                names[row.key] = (*names.get(row.key, ()), row.name)
        return Facts(
            now_ms=self.now_ms,
            ledger=self.ledger,
            deks=self.deks,
            tenants={row.id: row for row in rows if isinstance(row, Tenant)},
            keys={row.id: row for row in rows if isinstance(row, Key)},
            versions={(row.key, row.number): row for row in rows if isinstance(row, Version)},
            aliases={row.name: row for row in rows if isinstance(row, Alias)},
            names=names,
            clients={row.id: row for row in rows if isinstance(row, Client)},
            intake_keys={row.sequence: row for row in rows if isinstance(row, IntakeKey)},
            tampered=frozenset(self.tampered),
            key_pages=self.key_pages,
            client_pages=self.client_pages,
            approvals={row.id: row for row in rows if isinstance(row, Approval)},
            rows={row.ref: row for row in rows},
            distrusted=frozenset(self.distrusted),
            pages=self.pages,
            below=self.below,
            needs={} if self.needs is None else nothing | self.needs,
            rests=self.rests,
        )

    def chains(self) -> Chains:
        return Chains(self.facts())

    def request(self, operation: Operation, body: AnyBody, client: str = "billing", id_: str = "r1") -> Request:
        """An authentic request that came a second ago."""
        signer = self.client(client)
        raw = body.model_dump_json().encode()
        return Request(
            record=Record(Partition(f"keyriver.{operation.topic}", 0), 7, b"k", raw, (), NOW - 1000, 1),
            key=LedgerKey(signer.tenant, client, "/tests", id_),
            type=operation.request_type,
            time_ms=NOW - 1000,
            deadline_ms=None,
            recipient=RECIPIENT,
            route=ReplyRoute("keyriver.replies.v1", None, ()),
            body_digest=sha256(operation.encode() + raw).digest(),
            signed_digest=sha256(b"signed" + raw).digest(),
            client_revision=signer.revision,
            operation=operation,
            body=body,
        )

    def decide(self, request: Request, unsealed: Unsealed = None) -> Decision:
        facts = self.facts()
        return decide(request, facts, Chains(facts), unsealed, self.limits)

    def plan(self, request: Request, unsealed: Unsealed = None) -> Plan:
        decided = self.decide(request, unsealed)
        assert isinstance(decided, Plan), decided
        return decided

    def refusal(self, request: Request, unsealed: Unsealed = None) -> Code:
        decided = self.decide(request, unsealed)
        assert isinstance(decided, Refused), decided
        return decided.code

    def run(self, request: Request, unsealed: Unsealed = None) -> Conclusion:
        """Decide and conclude, with answers of an HSM that always succeeds."""
        plan = self.plan(request, unsealed)
        return conclude(plan, [answer(op) for op in plan.ops], self.new_ids)

    def approved(self, request: Request) -> Conclusion:
        """The same, and then approved by another officer: what that approval concludes in."""
        waiting = self.run(request)
        (row,) = [effect.row for effect in waiting.settlement.effects if isinstance(effect, PutRow)]
        assert isinstance(row, Approval), row
        self.put(row)
        other = "ben" if request.key.client == "ann" else "ann"
        body = ApprovalApproveBody(tenant=row.tenant, approval=row.id, digest=digest(row))
        return self.run(self.request(Operation.APPROVAL_APPROVE, body, other, f"{request.key.id}-second"))

    def keep(self, done: Conclusion) -> None:
        """The ledger after this settled."""
        entry = done.settlement.ledger
        assert entry is not None
        self.ledger[entry.key] = entry


def blob_of(key: UUID, version: int, dek: UUID, fill: bytes = b"c") -> bytes:
    """A blob that parses."""
    return blob.header(key, version, dek) + NONCE + fill * (33 + SEALED_BYTES)


def key_ref(id_: UUID) -> RowRef:
    return RowRef(Key.TABLE, str(id_))


def version_ref(id_: UUID, number: int = 1) -> RowRef:
    return RowRef(Version.TABLE, f"{id_}/{number}")


def seen_of(world: World, *refs: RowRef) -> set[Seen]:
    """These rows at their present revisions."""
    return {Seen(ref, world.rows[ref].revision) for ref in refs}


def chain_refs(*keys: UUID, tenant: str = "acme", version: Mapping[UUID, int] | None = None) -> Sequence[RowRef]:
    """The rows that a use of the last of these keys rests on."""
    versions = [version_ref(key, (version or {}).get(key, 1)) for key in keys]
    return [RowRef(Tenant.TABLE, tenant), *[key_ref(key) for key in keys], *versions]
