"""A Merkle log that is kept in tiles: of a log of any size, proofs need a few hundred hashes and never all of them.

Besides the leaf hashes only the roots of full subtrees of 256, 65,536, 16,777,216 … leaves are kept. They are a tree
over trees: the roots of one level are the leaves of the next, so `merkle.grown` serves every level.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from worker.chain.merkle import Frontier, grown, root, root_of
from worker.model.audit import Node

TILE_BITS = 8
TILE = 1 << TILE_BITS
Range = tuple[int, int]
"""Leaves from the first to before the second: one subtree of the tree that a proof is about."""
Place = tuple[int, int]
"""Level and index of a node."""


def append(size: int, frontier: Frontier, hashes: Sequence[bytes], level: int = 0) -> tuple[Frontier, list[Node]]:
    """The frontier after more leaf hashes, and the nodes to be kept that they complete."""
    split = (size >> TILE_BITS).bit_count()
    upper, lower = frontier[:split], frontier[split:]
    nodes: list[Node] = []
    starts = [0, *range(TILE - size % TILE, len(hashes), TILE), len(hashes)]
    for start, stop in pairwise(starts):
        filled, lower = grown((size + start) % TILE, lower, hashes[start:stop])
        if filled == TILE:
            nodes.append(Node(level + TILE_BITS, (size + start) >> TILE_BITS, lower[0]))
            lower = ()
    if not nodes:
        return upper + lower, nodes
    upper, above = append(size >> TILE_BITS, upper, [node.hash for node in nodes], level + TILE_BITS)
    return upper + lower, nodes + above


def inclusion_path(index: int, size: int) -> list[Range]:
    """The subtrees whose roots prove the leaf at `index` in a tree of `size` (RFC 9162, section 2.1.3.1)."""
    if not 0 <= index < size:
        raise IndexError(index)
    low, high, path = 0, size, list[Range]()
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append((middle, high))
            high = middle
        else:
            path.append((low, middle))
            low = middle
    return path[::-1]


def consistency_path(old: int, new: int) -> list[Range]:
    """The subtrees whose roots prove that the tree of `old` leaves begins that of `new` (section 2.1.4.1)."""
    if not 0 < old <= new:
        raise IndexError(old)
    low, high, path = 0, new, list[Range]()
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append((middle, high))
            high = middle
        else:
            path.append((low, middle))
            low = middle
    return [(low, high), *path[::-1]] if low else path[::-1]


def needed(paths: Sequence[Range]) -> list[tuple[int, int, int]]:
    """The kept nodes from which these subtrees' roots follow: level, first index, count."""
    return [_kept(place) for each in paths for place in _cover(each)]


def roots(paths: Sequence[Range], nodes: Mapping[Place, bytes]) -> list[bytes]:
    """The subtrees' roots. KeyError if a node is not there."""
    return [root(tuple(_full(place, nodes) for place in _cover(each))) for each in paths]


def _full(place: Place, nodes: Mapping[Place, bytes]) -> bytes:
    level, first, count = _kept(place)
    return root_of([nodes[level, index] for index in range(first, first + count)])


def _kept(place: Place) -> tuple[int, int, int]:
    level, index = place
    below = level % TILE_BITS
    return level - below, index << below, 1 << below


def _cover(span: Range) -> list[Place]:
    """The full subtrees that make up a subtree, largest first."""
    low, high = span
    places = []
    while low < high:
        level = (high - low).bit_length() - 1
        places.append((level, low >> level))
        low += 1 << level
    return places


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
