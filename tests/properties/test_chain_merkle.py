"""Merkle proofs of any tree: the right one holds, and no other does."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.chain.merkle import (
    BadProof,
    check_consistency,
    check_inclusion,
    consistency_proof,
    grown,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    root_of,
)

SIZES = st.integers(1, 70)


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(size)]


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node_hash(by_definition(leaves[:half]), by_definition(leaves[half:]))


def mutations(proof: list[bytes]) -> list[list[bytes]]:
    """A step flipped, left out, doubled, swapped with its neighbour, or one too many."""
    found = [[*proof, b"\x00" * 32], [b"\x00" * 32, *proof]]
    for place, step in enumerate(proof):
        flipped = bytes((step[0] ^ 1,)) + step[1:]
        found += [
            [*proof[:place], flipped, *proof[place + 1 :]],
            [*proof[:place], *proof[place + 1 :]],
            [*proof[: place + 1], *proof[place:]],
        ]
        if place:
            found.append([*proof[: place - 1], step, proof[place - 1], *proof[place + 1 :]])
    return found


@given(st.integers(0, 130), st.lists(st.integers(0, 40), max_size=5))
def test_the_root_is_the_definitions_however_the_leaves_come(size: int, cuts: list[int]) -> None:
    leaves = leaves_of(size)
    expected = by_definition(leaves)
    assert root_of(leaves) == expected
    done, frontier = grown(0, (), [])
    for cut in [*cuts, size]:
        done, frontier = grown(done, frontier, leaves[done : min(size, done + cut)])
    assert (done, root(frontier)) == (size, expected)


@given(SIZES, st.data())
def test_an_inclusion_proof_proves_one_leaf_at_one_place_of_one_tree(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof, whole = inclusion_proof(index, leaves), root_of(leaves)
    check_inclusion(leaves[index], index, size, proof, whole)
    for wrong in mutations(proof):
        with pytest.raises(BadProof):
            check_inclusion(leaves[index], index, size, wrong, whole)
    for other in {data.draw(st.integers(0, size - 1)), index ^ 1, size} - {index}:
        with pytest.raises(BadProof):
            check_inclusion(leaves[index], other, size, proof, whole)
    with pytest.raises(BadProof):
        check_inclusion(leaf_hash(b"another"), index, size, proof, whole)
    with pytest.raises(BadProof):
        check_inclusion(leaves[index], index, size, proof, root_of([*leaves, b"x" * 32]))


@given(SIZES, st.data())
def test_a_consistency_proof_proves_one_beginning(new: int, data: st.DataObject) -> None:
    leaves = leaves_of(new)
    old = data.draw(st.integers(1, new))
    before, after = root_of(leaves[:old]), root_of(leaves)
    proof = consistency_proof(old, leaves)
    check_consistency(old, before, new, after, proof)
    for wrong in mutations(proof):
        with pytest.raises(BadProof):
            check_consistency(old, before, new, after, wrong)
    fork = [*leaves[: old - 1], leaf_hash(b"fork"), *leaves[old:]]
    with pytest.raises(BadProof):
        check_consistency(old, root_of(fork[:old]), new, after, proof)
    with pytest.raises(BadProof):
        check_consistency(old, before, new, root_of(fork), proof)
