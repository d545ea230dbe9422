"""The fake's `know`: the walk from what is asked to all that it rests on, as `sql/know.sql` does it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from worker.model.effects import LedgerEntry
from worker.model.facts import Answer, Below, Needs, Paging, Question, RowPage, StoredRow
from worker.model.fleet import FleetKind
from worker.model.hsm import Purpose
from worker.model.ids import NO_ID
from worker.model.quotas import quota_ref
from worker.model.requests import LedgerKey
from worker.model.rows import Alias, Client, Dek, Grant, IntakeKey, Key, RowRef, Rule, State, Table, Version

T = TypeVar("T")
Pair = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class FakeRows:
    """What is stored, at one moment."""

    rows: Mapping[RowRef, StoredRow]
    deks: Mapping[UUID, Dek]
    census: Mapping[Pair, tuple[int, int]]

    def answer(self, question: Question, ledger: Mapping[LedgerKey, LedgerEntry], now_ms: int) -> Answer:
        """As `Store.know`."""
        key_pages = {page: self._key_page(page) for page in question.key_pages}
        client_pages = {page: self._client_page(page) for page in question.client_pages}
        pages = {page: self._row_page(page) for page in question.pages}
        deks = {id_: self.deks[id_] for id_ in question.deks if id_ in self.deks}
        reached = self._reached(self._roots(question, deks.values(), key_pages.values()))
        refs = self._refs(question, reached, client_pages.values())
        refs |= question.refs.union(*pages.values(), self._licences(question.licences, now_ms))
        refs |= {quota_ref(id_) for id_ in question.quotas}
        return Answer(
            now_ms,
            {key: ledger[key] for key in question.ledger if key in ledger},
            tuple(self.rows[ref] for ref in refs if ref in self.rows),
            deks,
            key_pages,
            client_pages,
            pages,
            {key: tuple(self._below(key)) for key in question.below},
            {pair: self._needs(pair) for pair in question.needs},
            self._rests() if question.rests else {},
        )

    def _licences(self, clients: frozenset[str], now_ms: int) -> set[RowRef]:
        """The rules and grants in force of these clients."""
        rows: list[Rule | Grant] = [*self._all(Rule), *self._all(Grant)]
        rows = [row for row in rows if row.client in clients]
        return {row.ref for row in rows if not row.revoked and now_ms < row.not_after_ms}

    def _roots(self, question: Question, deks: Iterable[Dek], pages: Iterable[tuple[UUID, ...]]) -> set[Pair]:
        keys = set(question.keys.union(question.trees, *pages))
        keys |= {alias.key for alias in self._all(Alias) if alias.name in question.aliases}
        trees = {(version.key, version.number) for version in self._all(Version) if version.key in question.trees}
        return {(key, 0) for key in keys} | set(question.versions) | trees | {(dek.key, dek.version) for dek in deks}

    def _reached(self, roots: set[Pair]) -> set[Pair]:
        reached: set[Pair] = set()
        waiting = list(roots)
        while waiting:
            pair = waiting.pop()
            key = self._key(pair[0])
            if pair in reached:
                continue
            reached.add(pair)
            if key is None:
                continue
            waiting.append((key.id, key.active_version))
            version = self._version(pair)
            if key.parent is not None and version is not None:
                waiting.append((key.parent, version.parent_version))
        return reached

    def _refs(self, question: Question, reached: set[Pair], pages: Iterable[tuple[str, ...]]) -> set[RowRef]:
        keys = {key for key, _ in reached}
        return (
            {RowRef(Table.TENANTS, tenant) for tenant in question.tenants}
            | {RowRef(Table.CLIENTS, client) for client in question.clients.union(*pages)}
            | {
                RowRef(Table.LINKS, str(one.link))
                for one in map(self._version, reached)
                if one is not None and one.link
            }
            | {RowRef(Table.REGIONS, key.region) for key in map(self._key, keys) if key is not None}
            | {RowRef(Table.INTAKE_KEYS, str(sequence)) for sequence in question.intake_keys}
            | {RowRef(Table.KEYS, str(key)) for key in keys}
            | {RowRef(Table.VERSIONS, f"{key}/{number}") for key, number in reached}
            | {alias.ref for alias in self._all(Alias) if alias.key in keys}
        )

    def _key_page(self, page: Paging) -> tuple[UUID, ...]:
        try:
            after = UUID(page.after) if page.after else NO_ID
        except ValueError:
            return ()
        ids = (key.id for key in self._all(Key) if key.tenant == page.tenant and key.id > after)
        return tuple(sorted(ids)[: page.limit])

    def _client_page(self, page: Paging) -> tuple[str, ...]:
        ids = (client.id for client in self._all(Client) if client.tenant == page.tenant and client.id > page.after)
        return tuple(sorted(ids)[: page.limit])

    def _row_page(self, page: RowPage) -> tuple[RowRef, ...]:
        rows = [stored.row for ref, stored in self.rows.items() if ref.table is page.table]
        refs = [row.ref for row in rows if page.tenant in ("", getattr(row, "tenant", ""))]
        return tuple(sorted(ref for ref in refs if ref.key > page.after)[: page.limit])

    def _below(self, id_: UUID) -> Iterator[Below]:
        key = self._key(id_)
        if key is None:
            return
        names = [alias.name for alias in self._all(Alias) if alias.key == id_]
        versions = sum(version.key == id_ for version in self._all(Version))
        counts = [count for (owner, _), count in self.census.items() if owner == id_]
        stored, outside = sum(one for one, _ in counts), sum(one for _, one in counts)
        wraps_deks = key.purpose is Purpose.WRAPS_DEKS
        yield Below(id_, min(names, default=""), key.layer, key.region, wraps_deks, versions, stored, outside)
        for child in [child.id for child in self._all(Key) if child.parent == id_]:
            yield from self._below(child)

    def _rests(self) -> dict[tuple[FleetKind, int], int]:
        made = [(FleetKind.ROW_MAC, stored.mac_version) for stored in self.rows.values()]
        halves = [key.wrapped_private for key in self._all(IntakeKey) if key.wrapped_private]
        made += [(FleetKind.INTAKE_WRAP, int.from_bytes(half[:4], "big")) for half in halves]
        return dict(Counter(made))

    def _needs(self, pair: Pair) -> Needs:
        stored, outside = self.census.get(pair, (0, 0))
        children = {key.id for key in self._all(Key) if key.parent == pair[0]}
        living = [v for v in self._all(Version) if v.key in children and v.state is not State.DESTROYED]
        return Needs(stored, outside, sum(version.parent_version == pair[1] for version in living))

    def _key(self, id_: UUID) -> Key | None:
        stored = self.rows.get(RowRef(Table.KEYS, str(id_)))
        return stored.row if stored is not None and isinstance(stored.row, Key) else None

    def _version(self, pair: Pair) -> Version | None:
        stored = self.rows.get(RowRef(Table.VERSIONS, f"{pair[0]}/{pair[1]}"))
        return stored.row if stored is not None and isinstance(stored.row, Version) else None

    def _all(self, kind: type[T]) -> Iterable[T]:
        return (stored.row for stored in self.rows.values() if isinstance(stored.row, kind))
