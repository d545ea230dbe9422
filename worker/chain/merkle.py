"""Merkle trees as Certificate Transparency builds them (RFC 9162, section 2.1), over hashes of leaves.

    leaf hash  = SHA-256(0x00 ‖ leaf)
    node hash  = SHA-256(0x01 ‖ left ‖ right)     ; left holds the largest power of two of leaves below the size

A log that only grows needs no more than its frontier: the roots of its full subtrees, largest first, one for each bit
that is set in its size. Proofs are lists of hashes, in the order in which they are used.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
Frontier = tuple[bytes, ...]


class BadProof(ValueError):
    """A proof does not prove what it claims."""


def leaf_hash(leaf: bytes) -> bytes:
    """The hash under which a leaf stands in its tree."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def grown(size: int, frontier: Frontier, leaves: Iterable[bytes]) -> tuple[int, Frontier]:
    """Size and frontier after more leaf hashes, in time proportional to their number."""
    roots = list(frontier)
    for leaf in leaves:
        roots.append(leaf)
        full = size
        while full & 1:  # as many full subtrees merge as the size has trailing ones
            right = roots.pop()
            roots[-1] = node_hash(roots[-1], right)
            full >>= 1
        size += 1
    return size, tuple(roots)


def root(frontier: Frontier) -> bytes:
    """The root of the tree with this frontier."""
    if not frontier:
        return EMPTY_ROOT
    found = frontier[-1]
    for left in reversed(frontier[:-1]):
        found = node_hash(left, found)
    return found


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes."""
    return root(grown(0, (), leaves)[1])


def inclusion_proof(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """The path from the leaf at `index` to the root over all these leaf hashes (RFC 9162, section 2.1.3.1)."""
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    if len(leaves) == 1:
        return []
    half = _split(len(leaves))
    if index < half:
        return [*inclusion_proof(index, leaves[:half]), root_of(leaves[half:])]
    return [*inclusion_proof(index - half, leaves[half:]), root_of(leaves[:half])]


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> None:
    """Raise BadProof unless the leaf hash stands at `index` in the tree of `size` with this root (section 2.1.3.2)."""
    if not 0 <= index < size:
        raise BadProof("the index is outside the tree")
    node, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise BadProof("the proof is too long")
        if node & 1 or node == last:
            found = node_hash(step, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, step)
        node, last = node >> 1, last >> 1
    if last != 0 or found != expected:
        raise BadProof("the proof does not lead to the root")


def consistency_proof(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """That the tree over the first `old` leaf hashes is the beginning of the tree over all (section 2.1.4.1)."""
    if not 0 < old <= len(leaves):
        raise IndexError(old)
    return _subproof(old, leaves, whole=True)


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raise BadProof unless the old tree is the beginning of the new one (section 2.1.4.2)."""
    if old == new:
        if proof or old_root != new_root:
            raise BadProof("two roots of one size differ")
        return
    if not 0 < old < new or not proof:
        raise BadProof("the sizes or the proof are out of range")
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    was = found = path[0]
    for step in path[1:]:
        if last == 0:
            raise BadProof("the proof is too long")
        if node & 1 or node == last:
            was, found = node_hash(step, was), node_hash(step, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, step)
        node, last = node >> 1, last >> 1
    if last != 0 or was != old_root or found != new_root:
        raise BadProof("the proof does not lead from the old root to the new one")


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _subproof(old: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if whole else [root_of(leaves)]
    half = _split(len(leaves))
    if old <= half:
        return [*_subproof(old, leaves[:half], whole=whole), root_of(leaves[half:])]
    return [*_subproof(old - half, leaves[half:], whole=False), root_of(leaves[:half])]
