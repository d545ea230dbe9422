"""Tiles against the plain Merkle tree: the same frontiers, the same proofs, from few hashes."""

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.chain import merkle, tiles


def hashes(count: int) -> list[bytes]:
    return [sha256(b"%d" % number).digest() for number in range(count)]


def kept(leaves: list[bytes], steps: list[int]) -> tuple[merkle.Frontier, dict[tiles.Place, bytes]]:
    """A log that grew in these steps (again and again), and all that is kept of it."""
    size, frontier = 0, merkle.Frontier()
    nodes = {(0, index): leaf for index, leaf in enumerate(leaves)}
    chance = random.Random(size)  # noqa: S311 - which step is next
    while size < len(leaves):
        more = leaves[size : size + chance.choice(steps)]
        frontier, made = tiles.append(size, frontier, more)
        for node in made:
            assert (node.level, node.index) not in nodes
            nodes[node.level, node.index] = node.hash
        size += len(more)
    return frontier, nodes


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1000, 66_000])
def test_a_log_in_tiles_is_the_same_tree(count: int) -> None:
    leaves = hashes(count)
    frontier, nodes = kept(leaves, [1, 2, 7, 256, 300, 5000])
    assert frontier == merkle.grown(0, (), leaves)[1]
    assert len(nodes) == count + count // tiles.TILE + count // tiles.TILE**2
    for (level, index), found in nodes.items():
        if level:
            assert found == merkle.root_of(leaves[index << level : (index + 1) << level])
    assert tiles.append(count, frontier, []) == (frontier, [])


LEAVES = hashes(1500)
NODES = kept(LEAVES, [1, 100, 700])[1]


@given(st.data(), st.integers(1, len(LEAVES)))
def test_proofs_are_those_of_the_plain_tree(data: st.DataObject, size: int) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path, bridge = tiles.inclusion_path(index, size), tiles.consistency_path(old, size)
    needed = {
        (level, first + step): NODES[level, first + step]
        for level, first, count in (*tiles.needed(path), *tiles.needed(bridge))
        for step in range(count)
    }
    assert tiles.roots(path, needed) == merkle.inclusion_proof(index, LEAVES[:size])
    assert tiles.roots(bridge, needed) == merkle.consistency_proof(old, LEAVES[:size])


def test_what_is_outside_the_tree_has_no_path() -> None:
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(IndexError):
            tiles.inclusion_path(index, size)
    for old, new in ((0, 5), (6, 5)):
        with pytest.raises(IndexError):
            tiles.consistency_path(old, new)


def test_a_missing_node_is_an_error() -> None:
    with pytest.raises(KeyError):
        tiles.roots([(0, 2)], {(0, 0): LEAVES[0]})


def test_a_proof_in_a_log_of_a_million_takes_few_hashes() -> None:
    million = 1_000_000
    for index in (0, 1, 499_999, million - 1):
        assert sum(count for _, _, count in tiles.needed(tiles.inclusion_path(index, million))) < 1500
    assert sum(count for _, _, count in tiles.needed(tiles.consistency_path(999_500, million))) < 1500
