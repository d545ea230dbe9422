"""Certificate Transparency's own roots and proofs (RFC 9162; the reference implementation's test tree)."""

import pytest

from worker.chain.merkle import (
    EMPTY_ROOT,
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

LEAVES = [
    leaf_hash(bytes.fromhex(text))
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
INCLUSION = {  # (index, size) as the RFC counts them, from 0
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
CONSISTENCY = {
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}


def test_no_leaves() -> None:
    assert root(()) == root_of([]) == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_the_roots_of_the_reference_tree(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_inclusion_proofs_of_the_reference_tree(index: int, size: int) -> None:
    proof = inclusion_proof(index, LEAVES[:size])
    assert [step.hex() for step in proof] == list(INCLUSION[index, size])
    check_inclusion(LEAVES[index], index, size, proof, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_the_consistency_proofs_of_the_reference_tree(old: int, new: int) -> None:
    proof = consistency_proof(old, LEAVES[:new])
    assert [step.hex() for step in proof] == list(CONSISTENCY[old, new])
    check_consistency(old, bytes.fromhex(ROOTS[old - 1]), new, bytes.fromhex(ROOTS[new - 1]), proof)


def test_leaves_and_nodes_never_share_a_hash() -> None:
    """Without the prefixes an inner node could be passed off as a leaf."""
    one, two = LEAVES[:2]
    assert leaf_hash(one + two) != node_hash(one, two)


def test_a_log_grows_by_its_frontier_alone() -> None:
    size, frontier = grown(0, (), [])
    for count, leaf in enumerate(LEAVES, start=1):
        size, frontier = grown(size, frontier, [leaf])
        assert (size, len(frontier)) == (count, count.bit_count())
        assert root(frontier).hex() == ROOTS[count - 1]
    assert grown(3, grown(0, (), LEAVES[:3])[1], LEAVES[3:]) == (size, frontier)
    assert grown(size, frontier, []) == (size, frontier)


@pytest.mark.parametrize("index", [-1, 3])
def test_what_is_not_in_the_tree_has_no_proof(index: int) -> None:
    with pytest.raises(IndexError):
        inclusion_proof(index, LEAVES[:3])
    with pytest.raises(BadProof, match="outside"):
        check_inclusion(LEAVES[0], index, 3, [], root_of(LEAVES[:3]))


@pytest.mark.parametrize("old", [-1, 0, 4])
def test_what_is_no_beginning_has_no_proof(old: int) -> None:
    with pytest.raises(IndexError):
        consistency_proof(old, LEAVES[:3])
    with pytest.raises(BadProof, match="out of range"):
        check_consistency(old, EMPTY_ROOT, 3, root_of(LEAVES[:3]), [LEAVES[0]])


def test_a_tree_of_one_size_has_one_root_and_needs_no_proof() -> None:
    whole = root_of(LEAVES)
    assert consistency_proof(8, LEAVES) == []
    check_consistency(8, whole, 8, whole, [])
    with pytest.raises(BadProof, match="differ"):
        check_consistency(8, whole, 8, EMPTY_ROOT, [])
    with pytest.raises(BadProof, match="differ"):
        check_consistency(8, whole, 8, whole, [LEAVES[0]])


def test_a_larger_tree_needs_a_proof() -> None:
    with pytest.raises(BadProof, match="out of range"):
        check_consistency(4, root_of(LEAVES[:4]), 8, root_of(LEAVES), [])
