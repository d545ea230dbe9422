"""`know`: one question for the whole batch, then the rows' MACs.

Some requests need a second question: a replay that gives plaintext again (only the ledger knows under which versions
its blobs stand), a command on a key that is named by its alias, and one that waits in an approval.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from uuid import UUID

from worker.chain import approvals, blob, fleet, outcomes, quotas, rules
from worker.chain.approvals import approval_paging, approval_ref
from worker.chain.clients import ALL_OFFICERS, client_paging
from worker.chain.import_room import import_paging
from worker.chain.importing import import_ref
from worker.chain.keys import key_paging
from worker.chain.links import link_paging
from worker.chain.regions import region_paging, region_ref
from worker.flow import campaign_knowing, trigger_knowing
from worker.flow.trust import Trust
from worker.model.bodies import (
    AnyBody,
    ClientListBody,
    ClientRevokeBody,
    DekItem,
    KeyListBody,
    KeyRotateBody,
    KeyShowBody,
    RewrapBody,
    RewrapItem,
    TenantCreateBody,
    UnwrapBody,
    WrapBody,
)
from worker.model.campaign_bodies import AnyCampaignBody, CampaignOfKeyBody
from worker.model.control import (
    ApprovalApproveBody,
    ApprovalListBody,
    ApprovalRejectBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeyEnableBody,
    VersionBody,
)
from worker.model.effects import LedgerEntry
from worker.model.facts import Answer, Facts, Paging, Question, RowPage
from worker.model.fleet import FleetKind, FleetRetireBody, FleetRotateBody, FleetShowBody
from worker.model.importing import KeyImportBody, KeyImportParametersBody
from worker.model.linking import LinkBody, LinkCreateBody, LinkListBody, TenantMoveBody
from worker.model.operations import SERVICE_OPERATIONS
from worker.model.outcomes import Wrapped
from worker.model.policies import (
    GrantGiveBody,
    GrantListBody,
    GrantRevokeBody,
    PolicyAllowBody,
    PolicyCheckBody,
    PolicyListBody,
    PolicyRevokeBody,
    TenantQuotaBody,
    TenantQuotasBody,
)
from worker.model.regional import RegionListBody
from worker.model.requests import LedgerKey, Request
from worker.model.rows import FLEET_TENANT, Alias, Approval, Row, RowRef, Version
from worker.model.triggering import AnyTriggerBody, TriggerBody, TriggerCheckBody
from worker.ports import Store

_KEYED = (
    KeyShowBody
    | KeyRotateBody
    | VersionBody
    | KeyDisableBody
    | KeyEnableBody
    | LinkBody
    | TenantMoveBody
    | KeyImportParametersBody
    | KeyImportBody
    | CampaignOfKeyBody
    | PolicyCheckBody
    | TriggerBody
    | TriggerCheckBody
)
"""Commands on one key, by its alias or id, that see all its versions."""


@dataclass(frozen=True, slots=True)
class Knowing:
    """The `know` stage."""

    store: Store
    trust: Trust

    async def know(self, requests: Sequence[Request]) -> Facts:
        """Everything that these requests touch, as of now."""
        question = ask(requests)
        answer = await self.store.know(question)
        while (wider := _widened(question, requests, answer)) != question:
            question = wider
            answer = await self.store.know(question)
        return await self.trust.verified(answer)


def ask(requests: Sequence[Request]) -> Question:
    """The question of a batch."""
    wanted = _Wanted()
    for request in requests:
        wanted.ledger.add(request.key)
        wanted.clients.add(request.key.client)
        wanted.tenants.add(request.key.tenant)
        if request.operation in SERVICE_OPERATIONS:
            wanted.licences.add(request.key.client)
            wanted.quotas.update(quotas.asked_of(request))
        wanted.add(request.body)
    question = wanted.question()
    for body in (request.body for request in requests if isinstance(request.body, AnyCampaignBody)):
        question = _union(question, campaign_knowing.first(body))
    for request in requests:
        if isinstance(request.body, KeyImportParametersBody):
            page = import_paging(request.body.tenant, request.record.appended_ms)
            question = replace(question, pages=question.pages | {page})
        if isinstance(request.body, AnyTriggerBody):
            question = _union(question, trigger_knowing.first(request.key.tenant, request.body))
    return question


def _widened(question: Question, requests: Iterable[Request], answer: Answer) -> Question:
    """The question, and what the answer shows to be missing from it. What it adds is bounded, so it comes to an end."""
    replayed = frozenset(_replayed(requests, answer.ledger))
    if replayed:
        question = replace(question, versions=question.versions | replayed)
    bodies: list[AnyBody] = [
        request.body for request in requests if isinstance(request.body, _KEYED | ApprovalApproveBody)
    ]
    campaigns = [request.body for request in requests if isinstance(request.body, AnyCampaignBody)]
    if not (bodies or campaigns):
        return question
    rows = [stored.row for stored in answer.rows]
    wanted, waiting = _Wanted(), {row.id: row for row in rows if isinstance(row, Approval)}
    for body in list(bodies):
        if isinstance(body, ApprovalApproveBody) and body.approval in waiting:
            wanted.clients.add(waiting[body.approval].asked_by)
            command = approvals.command_of(waiting[body.approval])
            if command is not None:
                wanted.add(command[1])
                bodies.append(command[1])
    for asked in (one for one in (*campaigns, *bodies) if isinstance(one, AnyCampaignBody)):
        question = _union(question, campaign_knowing.wider(asked, rows))
    named = {row.name: row.key for row in rows if isinstance(row, Alias)}
    for body in bodies:
        if isinstance(body, _KEYED) and body.key in named:
            wanted.about(body, named[body.key])
        if isinstance(body, LinkBody | TenantMoveBody):
            wanted.weigh(named.get(body.key) or _uuid(body.key), rows)
    return _with_triggers(_union(question, wanted.question()), bodies, rows)


def _with_triggers(question: Question, bodies: Iterable[AnyBody], rows: Sequence[Row]) -> Question:
    """What reports and dry runs lead to, and what an approved rule has to know at first."""
    for body in bodies:
        if isinstance(body, TriggerBody | TriggerCheckBody):
            question = _union(question, trigger_knowing.wider(body, rows))
        elif isinstance(body, AnyTriggerBody):
            question = _union(question, trigger_knowing.first("", body))
    return question


def _union(one: Question, other: Question) -> Question:
    return Question(*[getattr(one, each.name) | getattr(other, each.name) for each in fields(Question)])


@dataclass(slots=True)
class _Wanted:
    """A question while it is being put together."""

    ledger: set[LedgerKey] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)
    tenants: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    keys: set[UUID] = field(default_factory=set)
    versions: set[tuple[UUID, int]] = field(default_factory=set)
    deks: set[UUID] = field(default_factory=set)
    intake_keys: set[int] = field(default_factory=set)
    trees: set[UUID] = field(default_factory=set)
    key_pages: set[Paging] = field(default_factory=set)
    client_pages: set[Paging] = field(default_factory=set)
    refs: set[RowRef] = field(default_factory=set)
    pages: set[RowPage] = field(default_factory=set)
    licences: set[str] = field(default_factory=set)
    quotas: set[str] = field(default_factory=set)
    below: set[UUID] = field(default_factory=set)
    needs: set[tuple[UUID, int]] = field(default_factory=set)
    rests: set[FleetKind] = field(default_factory=set)

    def question(self) -> Question:
        return Question(**{each.name: frozenset(getattr(self, each.name)) for each in fields(self)})

    def add(self, body: AnyBody) -> None:
        match body:
            case WrapBody():
                self._name(body.key)
                if body.sealed is not None:
                    self.intake_keys.add(body.sealed.sequence)
            case UnwrapBody():
                self._items(body.items)
            case RewrapBody():
                self._items(body.items)
                if body.to is not None:
                    self._name(body.to)
            case TenantCreateBody() | LinkCreateBody():
                self.tenants.add(body.tenant)
                self.aliases.add(body.tenant)
            case KeyListBody():
                self.tenants.add(body.tenant)
                self.key_pages.add(key_paging(body))
            case ClientListBody():
                self.tenants.add(body.tenant)
                self.client_pages.add(client_paging(body))
            case ClientRevokeBody() if body.tenant == FLEET_TENANT:
                self.client_pages.add(ALL_OFFICERS)
                self._command(body)
            case _:
                self._command(body)

    def about(self, body: AnyBody, key: UUID) -> None:
        """What a command on this key has to know besides its row."""
        self.trees.add(key)
        if isinstance(body, KeyDisableBody):
            self.below.add(key)
        if isinstance(body, KeyDestroyBody):
            self.needs.add((key, body.version))

    def weigh(self, key: UUID | None, rows: Iterable[Row]) -> None:
        """What still stands under each version of an L1."""
        self.needs |= {(row.key, row.number) for row in rows if isinstance(row, Version) and row.key == key}

    def _command(self, body: AnyBody) -> None:  # noqa: C901 - one table of all commands
        if isinstance(body, ApprovalListBody):
            self.pages.add(approval_paging(body))
            return
        if isinstance(body, FleetRotateBody | FleetRetireBody | FleetShowBody):
            self.pages.add(fleet.ROWS)
            self.rests |= set() if isinstance(body, FleetRotateBody) else set(FleetKind)
            return
        if isinstance(body, LinkListBody):
            self.pages.add(link_paging(body))
            return
        if isinstance(body, RegionListBody):
            self.pages.add(region_paging(body))
            return
        if isinstance(body, ApprovalApproveBody | ApprovalRejectBody):
            self.refs.add(approval_ref(body.approval))
        region = getattr(body, "region", "")
        if region:
            self.refs.add(region_ref(region))
        self._rows(body)
        self.tenants.add(getattr(body, "tenant", ""))
        client = getattr(body, "client", None)
        if client is not None:
            self.clients.add(client)
        for field_name in ("key", "parent", "alias"):
            name = getattr(body, field_name, None)
            if name is not None:
                self._name(name)
        if isinstance(body, _KEYED):
            with suppress(ValueError):
                self.about(body, UUID(body.key))

    def _rows(self, body: AnyBody) -> None:
        match body:
            case KeyImportBody():
                self.refs.add(import_ref(body.parameters))
            case PolicyAllowBody() | GrantGiveBody() | PolicyCheckBody():
                self.licences.add(body.client)
            case PolicyRevokeBody() | GrantRevokeBody():
                self.refs.add(rules.licence_ref(body))
            case PolicyListBody() | GrantListBody():
                self.pages.add(rules.licence_paging(body))
            case TenantQuotaBody():
                self.quotas.add(quotas.quota_id(body))
            case TenantQuotasBody():
                self.pages.add(quotas.quota_paging(body))
            case _:
                pass

    def _name(self, name: str) -> None:
        self.aliases.add(name)
        with suppress(ValueError):
            self.keys.add(UUID(name))

    def _items(self, items: Sequence[DekItem | RewrapItem]) -> None:
        """A blob's key by its current version too, for a rewrap goes there. Blobs of one version are read once."""
        whose: set[bytes] = set()
        for item in items:
            if item.id is not None:
                self.deks.add(item.id)
            elif item.blob is not None and item.blob[: blob.WHOSE_BYTES] not in whose:
                with suppress(blob.BadBlob):
                    parsed = blob.parse(item.blob)
                    whose.add(item.blob[: blob.WHOSE_BYTES])
                    self.keys.add(parsed.key)
                    self.versions.add((parsed.key, parsed.version))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _replayed(requests: Iterable[Request], ledger: Mapping[LedgerKey, LedgerEntry]) -> Iterator[tuple[UUID, int]]:
    """The versions of wrapped DEKs whose plaintext goes out once more."""
    for request in requests:
        entry = ledger.get(request.key)
        if entry is not None and isinstance(request.body, WrapBody) and request.body.return_dek:
            with suppress(outcomes.BadOutcome):  # `decide` says so to its requester
                kept = [outcomes.decode(raw) for raw in entry.outcomes if raw is not None]
                yield from {(outcome.key, outcome.version) for outcome in kept if isinstance(outcome, Wrapped)}
