"""The audit log's decisions (S16): under which hash a leaf stands, how a log grows, what continues a checkpoint.

    leaf = framed("keyriver-leaf/1", tenant, index, id, time, body)

with index and time (the database's, in microseconds) as decimal text and the id's 16 bytes. The index is in it, so a
record betrays by itself that it was moved; the tree over these leaves is `chain.merkle`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.chain import tiles
from worker.chain.merkle import BadProof, check_consistency, leaf_hash, root
from worker.model.audit import AuditLeaf, Checkpoint, Due, Fault, Flaw, Growth, Head, LogEntry
from worker.seal.frames import framed

LEAF = b"keyriver-leaf/1"
KEPT = 128
"""Checkpoints of one chain that are remembered, the older the fewer: between two of them a fork is placed."""


def hash_of(leaf: AuditLeaf, index: int) -> bytes:
    """The hash of this leaf at this place of its tenant's log."""
    parts = (leaf.tenant.encode(), b"%d" % index, leaf.id.bytes, b"%d" % leaf.at_us, leaf.body)
    return leaf_hash(framed(LEAF, *parts))


def grow(head: Head, leaves: Sequence[AuditLeaf]) -> Growth:
    """Append these leaves, in this order, to their tenant's log."""
    entries = tuple(
        LogEntry(index, leaf.number, leaf.id, hash_of(leaf, index)) for index, leaf in enumerate(leaves, head.size)
    )
    frontier, nodes = tiles.append(head.size, head.frontier, [entry.hash for entry in entries])
    return Growth(head.size, Head(head.tenant, head.size + len(entries), frontier), entries, tuple(nodes))


def bridge(due: Due) -> list[tiles.Range]:
    """The subtrees whose roots prove that the new checkpoint continues the last one; none if it can't."""
    if due.last is None or not 0 < due.last.size <= due.head.size:
        return []
    return tiles.consistency_path(due.last.size, due.head.size)


def next_checkpoint(fleet: str, due: Due, proof: Sequence[bytes]) -> Checkpoint:
    """What is to be signed. BadProof if the log does not continue what was signed before: then nothing must be."""
    head, size = due.head, 0
    found = root(head.frontier)
    if due.last is not None:
        size = due.last.size
        check_consistency(size, due.last.root, head.size, found, proof)
    return Checkpoint(fleet, head.tenant, head.size, found, due.now_ms, size, tuple(proof))


@dataclass(slots=True)
class Told:
    """What was said of one tenant's log from checkpoint to checkpoint, in order; of a long chain only some are kept.

    Where one does not follow from the one before, both are kept: the log itself will show which of them is true.
    """

    chain: list[Checkpoint] = field(default_factory=list)
    apart: list[Checkpoint] = field(default_factory=list)

    def hear(self, said: Checkpoint) -> Flaw | None:
        """The next one; what it contradicts. One that was told before (at least once) is no news."""
        last = self.chain[-1] if self.chain else None
        if last is None or said.size > last.size:
            flaw = None
            if last is not None and not follows(last, said):
                self.apart, self.chain = self.all(), []
                flaw = _forked(last, said) if last.size == said.previous_size else None
            self.chain.append(said)
            if len(self.chain) > KEPT:
                del self.chain[1 : KEPT // 2 : 2]
            return flaw
        for one in self.all():
            if one.size == said.size:
                return None if one.root == said.root else _forked(one, said)
        self.apart.append(said)
        return None

    def all(self) -> list[Checkpoint]:
        """What the log must agree with."""
        return [*self.apart, *self.chain]


def follows(last: Checkpoint, said: Checkpoint) -> bool:
    """Whether `said` proves that it continues `last`."""
    try:
        check_consistency(last.size, last.root, said.size, said.root, said.consistency)
    except BadProof:
        return False
    return last.size == said.previous_size


def _forked(one: Checkpoint, other: Checkpoint) -> Flaw:
    text = f"two checkpoints that the fleet signed contradict each other (of {one.size} and {other.size} records)"
    return Flaw(one.tenant, Fault.FORKED, min(one.size, other.size) - 1, other.size - 1, None, text)
