"""`know`: one question for the whole batch, then the rows' MACs.

Two rare requests need a second question: a replay that gives plaintext again (only the ledger knows under which
versions its blobs stand), and showing all versions of a key that is named by its alias.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

from worker.chain import blob, outcomes
from worker.chain.clients import client_paging
from worker.chain.keys import key_paging
from worker.flow.trust import Trust
from worker.model.bodies import (
    AnyBody,
    ClientListBody,
    DekItem,
    KeyListBody,
    KeyShowBody,
    RewrapBody,
    RewrapItem,
    TenantCreateBody,
    UnwrapBody,
    WrapBody,
)
from worker.model.effects import LedgerEntry
from worker.model.facts import Facts, Paging, Question
from worker.model.outcomes import Wrapped
from worker.model.requests import LedgerKey, Request
from worker.model.rows import Alias
from worker.ports import Store


@dataclass(frozen=True, slots=True)
class Knowing:
    """The `know` stage."""

    store: Store
    trust: Trust

    async def know(self, requests: Sequence[Request]) -> Facts:
        """Everything that these requests touch, as of now."""
        question = ask(requests)
        answer = await self.store.know(question)
        replayed = frozenset(_replayed(requests, answer.ledger))
        shown = {request.body.key for request in requests if isinstance(request.body, KeyShowBody)}
        trees = frozenset(row.row.key for row in answer.rows if isinstance(row.row, Alias) and row.row.name in shown)
        if replayed or trees:
            wider = replace(question, versions=question.versions | replayed, trees=question.trees | trees)
            answer = await self.store.know(wider)
        return await self.trust.verified(answer)


def ask(requests: Iterable[Request]) -> Question:
    """The question of a batch."""
    wanted = _Wanted()
    for request in requests:
        wanted.ledger.add(request.key)
        wanted.clients.add(request.key.client)
        wanted.tenants.add(request.key.tenant)
        wanted.add(request.body)
    return Question(
        ledger=frozenset(wanted.ledger),
        clients=frozenset(wanted.clients),
        tenants=frozenset(wanted.tenants),
        aliases=frozenset(wanted.aliases),
        keys=frozenset(wanted.keys),
        versions=frozenset(wanted.versions),
        deks=frozenset(wanted.deks),
        intake_keys=frozenset(wanted.intake_keys),
        trees=frozenset(wanted.trees),
        key_pages=frozenset(wanted.key_pages),
        client_pages=frozenset(wanted.client_pages),
    )


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
            case TenantCreateBody():
                self.tenants.add(body.tenant)
                self.aliases.add(body.tenant)
            case KeyListBody():
                self.tenants.add(body.tenant)
                self.key_pages.add(key_paging(body))
            case ClientListBody():
                self.tenants.add(body.tenant)
                self.client_pages.add(client_paging(body))
            case _:
                self._command(body)

    def _command(self, body: AnyBody) -> None:
        self.tenants.add(getattr(body, "tenant", ""))
        client = getattr(body, "client", None)
        if client is not None:
            self.clients.add(client)
        for field_name in ("key", "parent", "alias"):
            name = getattr(body, field_name, None)
            if name is not None:
                self._name(name, tree=isinstance(body, KeyShowBody))

    def _name(self, name: str, *, tree: bool = False) -> None:
        self.aliases.add(name)
        with suppress(ValueError):
            key = UUID(name)
            self.keys.add(key)
            if tree:
                self.trees.add(key)

    def _items(self, items: Sequence[DekItem | RewrapItem]) -> None:
        """A blob's key by its current version too, for a rewrap goes there."""
        for item in items:
            if item.id is not None:
                self.deks.add(item.id)
            elif item.blob is not None:
                with suppress(blob.BadBlob):
                    parsed = blob.parse(item.blob)
                    self.keys.add(parsed.key)
                    self.versions.add((parsed.key, parsed.version))


def _replayed(requests: Iterable[Request], ledger: Mapping[LedgerKey, LedgerEntry]) -> Iterator[tuple[UUID, int]]:
    """The versions of wrapped DEKs whose plaintext goes out once more."""
    for request in requests:
        entry = ledger.get(request.key)
        if entry is not None and isinstance(request.body, WrapBody) and request.body.return_dek:
            with suppress(outcomes.BadOutcome):  # `decide` says so to its requester
                kept = [outcomes.decode(raw) for raw in entry.outcomes if raw is not None]
                yield from {(outcome.key, outcome.version) for outcome in kept if isinstance(outcome, Wrapped)}
