"""Grouping by KEK, and what return codes blame."""

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from worker.edges.hsm.batch import OPERATIONS, grouped
from worker.edges.hsm.ck import BLAME, CODE_NAMES, Blame, CkError
from worker.edges.hsm.locks import module_lock
from worker.model.fleet import FleetKind
from worker.model.hsm import (
    CreateFleetKey,
    CreateKey,
    CreateLink,
    CreateMaster,
    CreateOutside,
    DestroyMaster,
    HsmOp,
    Kek,
    OpenKey,
    Outside,
    Purpose,
    RewrapDek,
    RewrapKey,
    UnwrapDek,
    WrapDek,
    Wrapping,
    keks_of,
)
from worker.model.import_ops import (
    CreateImportPair,
    DestroyImportPair,
    ImportMaster,
)
from worker.model.imports import ImportAlgorithm
from worker.model.keystores import KeystoreAddress, Provider

A = Kek(uuid4(), 1, 1, Purpose.WRAPS_DEKS, Wrapping.AES_KWP)
B = replace(A, version=2)
OUTSIDE = Outside(uuid4(), KeystoreAddress(Provider.XKS, "https://keys.example", "k1", "acme"), b"")

WAY = ImportAlgorithm.RSAES_OAEP_SHA_256


def test_equal_keks_are_one_group_whatever_objects_they_are() -> None:
    ops: list[HsmOp] = [
        WrapDek(A, b"", b"", 32),
        UnwrapDek(A, b"", b"", b""),
        WrapDek(replace(A), b"", b"", 32),
        WrapDek(B, b"", b"", 32),
        RewrapDek(A, b"", b"", b"", B, b""),
        RewrapDek(replace(A), b"", b"", b"", replace(B), b""),
        RewrapDek(B, b"", b"", b"", A, b""),
        WrapDek(A, b"", b"", 16),
        CreateKey(A, uuid4(), 1, Purpose.WRAPS_DEKS),
        CreateFleetKey(FleetKind.ROW_MAC, 2, 1),
        CreateMaster(uuid4(), 1, uuid4()),
        CreateMaster(uuid4(), 1, uuid4()),
        DestroyMaster(uuid4(), 1, uuid4(), "t"),
        OpenKey(A, b""),
        OpenKey(B, b""),
        CreateOutside(A, uuid4(), 1, Purpose.WRAPS_KEYS, OUTSIDE),
        CreateLink(OUTSIDE.address, uuid4(), 1, uuid4()),
        CreateImportPair(uuid4(), WAY, 3072),
        CreateImportPair(uuid4(), WAY, 4096),
        ImportMaster(uuid4(), 1, uuid4(), uuid4(), b"", WAY, b"", b"", "t"),
        DestroyImportPair(uuid4()),
        RewrapKey(A, uuid4(), 1, Purpose.WRAPS_DEKS, Wrapping.AES_KW, b"", B),
    ]
    grouping = [
        [0, 2, 7],
        [1],
        [3],
        [4, 5],
        [6],
        [8],
        [9],
        [10, 11],
        [12],
        [13, 14],
        [15],
        [16],
        [17, 18],
        [19],
        [20],
        [21],
    ]
    assert grouped(ops, range(len(ops))) == grouping
    assert grouped(ops, [2, 3]) == [[2], [3]]
    assert keks_of(ops[4]) == (A, B)
    assert {type(op) for op in ops} == set(OPERATIONS)


@pytest.mark.parametrize("revision", [1, 2])
def test_a_revision_makes_a_group_of_its_own(revision: int) -> None:
    ops: list[HsmOp] = [WrapDek(A, b"", b"", 32), WrapDek(replace(A, revision=revision), b"", b"", 32)]
    assert len(grouped(ops, range(2))) == revision


def test_codes_that_may_lie_are_unsure() -> None:
    """A tampered AES-KW blob is CKR_GENERAL_ERROR on SoftHSM2 and CKR_DEVICE_ERROR on kryoptic."""
    for code in (0x5, 0x6, 0x30, 0x31, 0x32, 0xB3, 0xE0, 0x101, 0x190, 0x80000001):
        assert CkError("C_Decrypt", code).blame is Blame.UNSURE


def test_every_judged_code_has_a_name() -> None:
    assert set(BLAME) <= set(CODE_NAMES)
    assert str(CkError("C_Decrypt", 0x40)) == "C_Decrypt: CKR_ENCRYPTED_DATA_INVALID"
    assert str(CkError("C_Decrypt", 0x12345)) == "C_Decrypt: 0x12345"


def test_a_module_is_locked_by_one_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "module.so"
    file.touch()
    with module_lock(file) as first, module_lock(file, 0.0) as second:
        assert (first, second) == (True, False)
    with module_lock(file, 0.0) as third:
        assert third
