"""Is a tenant's log what was signed? Record by record in bounded memory; each flaw is named by its place (S16).

1. Every record fits the hash under which it was appended, at its own place. Nobody needs a key to see that.
2. No place is empty or taken twice.
3. At the size of every checkpoint, stored, published or accepted before, the tree has the root that was signed.
4. The log is not shorter than the longest of them, and its head and its index are those of its records.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from uuid import UUID

from worker.chain import tiles
from worker.chain.audit import follows, hash_of
from worker.chain.merkle import Frontier, root
from worker.model.audit import Checkpoint, Fault, Flaw, Head, LogRow, Node

WINDOW = 64
"""How far around its place a record is looked for, to tell a moved one from an altered one."""
MOST = 1000
"""Flaws told one by one; neighbours of one kind count once."""


@dataclass(slots=True)
class LogCheck:
    """Feed it a tenant's rows in order with `take`, and the stored checkpoints of that stretch; `finish` once.

    `told`: checkpoints from elsewhere, their signatures checked, that this log must agree with.
    """

    tenant: str
    told: Sequence[Checkpoint] = ()
    size: int = 0
    frontier: Frontier = ()
    confirmed: Checkpoint | None = None
    """The longest checkpoint that the log was seen to agree with."""
    flaws: list[Flaw] = field(default_factory=list)
    more: int = 0
    """Flaws beyond the most that are told."""
    _last: Checkpoint | None = None
    _shift: int = 0
    _torn: bool = False
    _split: Flaw | None = None
    _sure: int = 0
    """So many records agreed with what was told elsewhere."""

    def __post_init__(self) -> None:
        self.told = sorted(self.told, key=lambda said: said.size)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found."""
        return not self.flaws

    def take(self, rows: Sequence[LogRow], stored: Sequence[Checkpoint] = ()) -> list[Node]:
        """The next rows, and the stored checkpoints up to their end; the index nodes that they complete."""
        for said in stored:
            self._chained(said)
        told = self._due(rows[-1].entry.index + 1)
        nodes: list[Node] = []
        rest = iter(rows)
        for size in sorted({said.size for said in (*told, *stored)}):
            nodes += self._append(list(islice(rest, max(0, size - self.size))))
            if size == self.size and not self._torn:
                self._compare([one for one in told if one.size == size], [one for one in stored if one.size == size])
        return nodes + self._append(list(rest))

    def indexed(self, nodes: Iterable[Node], stored: Mapping[tiles.Place, bytes]) -> None:
        """Compare what `take` completed with what is stored for proofs."""
        for node in nodes:
            if stored.get((node.level, node.index)) != node.hash and not self._torn:
                first, last = node.index << node.level, (node.index + 1 << node.level) - 1
                self._found(Fault.INDEX, first, last, None, "the stored root of these records is another one")

    def finish(self, head: Head | None, stored: Iterable[Checkpoint] = ()) -> None:
        """The log has no more rows; `stored` are checkpoints beyond its end."""
        beyond = [*self.told, *stored]
        if self._split is not None:
            self._keep(self._split)
        if beyond:
            longest = max(said.size for said in beyond)
            text = f"the fleet signed {longest} records, the log has {self.size}"
            self._found(Fault.SHRUNK, self.size, longest - 1, None, text)
        if head is None or (head.size, head.frontier) != (self.size, self.frontier):
            size = 0 if head is None else head.size
            if size > self.size:
                self._found(Fault.REMOVED, self.size, size - 1, None, "the log's head counts more records")
            elif not self._torn and self._split is None:
                text = "the log's head is not that of its records"
                self._found(Fault.INDEX, size, max(size, self.size - 1), None, text)

    def bad_checkpoint(self, said: Checkpoint, why: str) -> None:
        """A stored one that the fleet never signed."""
        self._found(Fault.CHECKPOINT, said.previous_size, max(said.size - 1, 0), None, why)

    def _due(self, end: int) -> list[Checkpoint]:
        due = [said for said in self.told if said.size <= end]
        self.told = self.told[len(due) :]
        return due

    def _append(self, rows: Sequence[LogRow]) -> list[Node]:
        hashes: list[bytes] = []
        start = self.size
        for row in rows:
            if self._stands(row):
                hashes.append(row.entry.hash)
                self.size += 1
        if self._torn:
            return []
        self.frontier, nodes = tiles.append(start, self.frontier, hashes)
        return nodes

    def _stands(self, row: LogRow) -> bool:
        """Look at one row; False if it stands in another's place."""
        index, leaf, name = row.entry.index, row.leaf, row.entry.leaf
        if index < self.size:
            self._found(Fault.INSERTED, index, index, name, "a second record at this place")
            return False
        if index > self.size:
            self._found(Fault.REMOVED, self.size, index - 1, None, "these places of the log are empty")
            self.size, self._torn = index, True
        if leaf is None:
            self._found(Fault.REMOVED, index, index, name, "the record is gone, its place in the log is there")
        elif leaf.id != name or hash_of(leaf, index) != row.entry.hash:
            self._unfit(row, index)
        return True

    def _unfit(self, row: LogRow, index: int) -> None:
        leaf = row.leaf
        for shift in (self._shift, *range(-WINDOW, WINDOW + 1)):
            if shift and leaf is not None and index >= shift and hash_of(leaf, index - shift) == row.entry.hash:
                self._shift = shift
                text = f"appended {abs(shift)} places {'before' if shift > 0 else 'after'} the place where it stands"
                self._found(Fault.MOVED, index, index, row.entry.leaf, text)
                return
        self._found(Fault.ALTERED, index, index, row.entry.leaf, "the record is not what was appended")

    def _chained(self, said: Checkpoint) -> None:
        """Stored checkpoints follow each other without a gap, and prove it."""
        last, self._last = self._last, said
        size = 0 if last is None else last.size
        if said.previous_size != size:
            text = f"the checkpoint of {said.previous_size} records, which this one continues, is not stored"
            self._found(Fault.CHECKPOINT, size, said.size - 1, None, text)
        elif last is not None and not follows(last, said):
            text = "its consistency proof is not the one"
            self._found(Fault.CHECKPOINT, size, said.size - 1, None, text)

    def _compare(self, told: Sequence[Checkpoint], stored: Sequence[Checkpoint]) -> None:
        """Both with the tree as it is now. Who wrote the store may have stored what fits: that confirms only itself."""
        found = root(self.frontier)
        agreeing = [said for said in (*told, *stored) if said.root == found]
        if len(agreeing) < len(told) + len(stored) and self._split is None:
            honest = all(said.root == found for said in told)
            first = self._sure if not honest or self.confirmed is None else self.confirmed.size
            text = "the records fit their hashes, but not the root that the fleet signed"
            self._split = Flaw(self.tenant, Fault.REWRITTEN, first, self.size - 1, None, text)
        if agreeing:
            self.confirmed = agreeing[0]
            self._sure = self.size if told and agreeing[0] is told[0] else self._sure
            if self._split is not None:
                text = "the fleet signed two logs: this one, and one that was published or accepted before"
                self._split = replace(self._split, fault=Fault.FORKED, text=text)

    def _found(self, fault: Fault, first: int, last: int, leaf: UUID | None, text: str) -> None:
        self._keep(Flaw(self.tenant, fault, first, last, leaf, text))

    def _keep(self, flaw: Flaw) -> None:
        """Neighbours that suffered the same become one."""
        before = self.flaws[-1] if self.flaws else None
        if (
            before is not None
            and (before.fault, before.text) == (flaw.fault, flaw.text)
            and flaw.first == before.last + 1
        ):
            self.flaws[-1] = Flaw(self.tenant, flaw.fault, before.first, flaw.last, before.leaf, flaw.text)
        elif len(self.flaws) < MOST:
            self.flaws.append(flaw)
        else:
            self.more += 1
