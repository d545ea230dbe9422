"""Bringing a key (S12) on every token: what opens, what is refused with one word, and what it leaves in the token."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest

from tests.contract.hsm_rig import AnyToken, child, faults, generated, opened, unwrap
from worker.edges.hsm.fake import FakeToken
from worker.model.hsm import (
    DestroyedMaster,
    DestroyMaster,
    Fault,
    HsmFault,
    HsmResult,
    Kek,
    Purpose,
    Wrapping,
)
from worker.model.import_ops import (
    CreateImportPair,
    DestroyImportPair,
    ImportedMaster,
    ImportMaster,
    ImportPair,
)
from worker.model.imports import ImportAlgorithm
from worker.seal.importing import check_value, wrap_key

BITS = 3072
SHA_1 = (ImportAlgorithm.RSAES_OAEP_SHA_1, ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_1)
CASES = [
    *(("kryoptic", algorithm) for algorithm in ImportAlgorithm),
    *(("softhsm", algorithm) for algorithm in SHA_1),
    *(("fake", algorithm) for algorithm in ImportAlgorithm),
]


@dataclass(frozen=True)
class Offer:
    """A token, an algorithm, and a pair for it."""

    token: AnyToken
    algorithm: ImportAlgorithm
    op: CreateImportPair
    pair: ImportPair

    def wrapped(self, key: bytes) -> bytes:
        return wrap_key(self.pair.public_key, self.algorithm, key, os.urandom(32))

    def ordered(self, key: bytes) -> ImportMaster:
        """The import of this key, as a key of its own."""
        blob, pair = self.wrapped(key), self.op.material
        of, public, serial = self.algorithm, self.pair.public_key, self.token.serial
        return ImportMaster(uuid4(), 1, uuid4(), pair, public, of, blob, check_value(key), serial)

    async def run(self, op: ImportMaster) -> HsmResult:
        (result,) = await self.token.hsm.run([op], 30)
        return result

    async def destroyed(self, op: ImportMaster) -> int:
        """How many objects its deletion found."""
        (result,) = await self.token.hsm.run([DestroyMaster(op.key, 1, op.material, self.token.serial)], 30)
        assert isinstance(result, DestroyedMaster), result
        return result.objects

    async def imported(self, op: ImportMaster) -> bytes:
        """The canary of an import that goes well."""
        result = await self.run(op)
        assert isinstance(result, ImportedMaster), result
        assert result.serial == self.token.serial
        return result.canary


def kek(offer: Offer, op: ImportMaster, revision: int = 1) -> Kek:
    serial = offer.token.serial
    return Kek(op.key, 1, revision, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=op.material, serial=serial)


async def made(token: AnyToken, op: CreateImportPair) -> HsmResult:
    """Making one takes a while: it is asked for until it is there."""
    async with asyncio.timeout(120):
        while True:
            (result,) = await token.hsm.run([op], 30)
            if not (isinstance(result, HsmFault) and result.fault is Fault.UNAVAILABLE):
                return result
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def kryoptic_token(kryoptic: object) -> AsyncIterator[AnyToken]:
    token = await opened(kryoptic)  # type: ignore[arg-type]
    yield token
    await token.close()


@pytest.fixture(scope="module")
async def softhsm_token(softhsm: object) -> AsyncIterator[AnyToken]:
    token = await opened(softhsm)  # type: ignore[arg-type]
    yield token
    await token.close()


@pytest.fixture(scope="module")
async def fake_token() -> AnyToken:
    return FakeToken()


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
async def offer(
    request: pytest.FixtureRequest, kryoptic_token: AnyToken, softhsm_token: AnyToken, fake_token: AnyToken
) -> Offer:
    name, algorithm = request.param
    token = {"kryoptic": kryoptic_token, "softhsm": softhsm_token, "fake": fake_token}[name]
    op = CreateImportPair(uuid4(), algorithm, BITS)
    pair = await made(token, op)
    assert isinstance(pair, ImportPair), pair
    return Offer(token, algorithm, op, pair)


async def test_an_imported_key_wraps_keys_and_its_child_wraps_deks(offer: Offer) -> None:
    op = offer.ordered(os.urandom(32))
    await offer.imported(op)
    leaf = await child(offer.token.hsm, kek(offer, op), Purpose.WRAPS_DEKS)
    (dek,) = await generated(offer.token.hsm, leaf, 1)
    offer.token.hsm.drop([op.key])
    assert faults(await offer.token.hsm.run([unwrap(leaf, dek)], 30)) == {}


async def test_a_pair_is_found_again(offer: Offer) -> None:
    assert await made(offer.token, offer.op) == offer.pair


async def test_done_again_it_is_the_same_object(offer: Offer) -> None:
    """As after a crash before the settle: nothing is left over, and what hangs on the first is opened by the second."""
    op = offer.ordered(os.urandom(32))
    canary = await offer.imported(op)
    leaf = await child(offer.token.hsm, kek(offer, op), Purpose.WRAPS_DEKS)
    (dek,) = await generated(offer.token.hsm, leaf, 1)
    assert len(canary) == len(await offer.imported(op))
    offer.token.hsm.drop([op.key])
    assert faults(await offer.token.hsm.run([unwrap(leaf, dek)], 30)) == {}
    assert await offer.token.hsm.run([DestroyMaster(op.key, 1, op.material, offer.token.serial)], 30) == [
        DestroyedMaster(1)
    ]


async def test_after_its_deletion_the_same_key_comes_back_and_no_other(offer: Offer) -> None:
    key = os.urandom(32)
    op = offer.ordered(key)
    canary = await offer.imported(op)
    leaf = await child(offer.token.hsm, kek(offer, op), Purpose.WRAPS_DEKS)
    (dek,) = await generated(offer.token.hsm, leaf, 1)
    offer.token.hsm.drop([op.key])
    assert await offer.token.hsm.run([DestroyMaster(op.key, 1, op.material, offer.token.serial)], 30) == [
        DestroyedMaster(1)
    ]
    # Another one, with its own check value, is refused
    other = os.urandom(32)
    wrong = replace(op, material=uuid4(), blob=offer.wrapped(other), check_value=check_value(other), canary=canary)
    assert faults([await offer.run(wrong)]) == {0: Fault.BAD_CIPHERTEXT}
    # The same one, wrapped anew, is the key that it was
    again = replace(op, material=uuid4(), blob=offer.wrapped(key), canary=canary)
    assert await offer.imported(again) == canary
    upper = kek(offer, again, revision=2)
    assert faults(await offer.token.hsm.run([unwrap(replace(leaf, parent=upper, revision=2), dek)], 30)) == {}


async def test_what_lost_a_race_goes_with_its_key(offer: Offer) -> None:
    """Two imports of different keys as one version: two objects, and none is left when the version is deleted."""
    op = offer.ordered(os.urandom(32))
    other = offer.ordered(os.urandom(32))
    await offer.imported(op)
    await offer.imported(replace(other, key=op.key))
    assert await offer.token.hsm.run([DestroyMaster(op.key, 1, op.material, offer.token.serial)], 30) == [
        DestroyedMaster(2)
    ]


Spoil = Callable[[Offer, ImportMaster], ImportMaster]


def _flip(op: ImportMaster, at: int) -> ImportMaster:
    at %= len(op.blob)
    return replace(op, blob=op.blob[:at] + bytes([op.blob[at] ^ 1]) + op.blob[at + 1 :])


SPOILT: dict[str, Spoil] = {
    "check value": lambda _, op: replace(op, check_value=bytes(a ^ 255 for a in op.check_value)),
    "first byte": lambda _, op: _flip(op, 0),
    "middle of the RSA part": lambda _, op: _flip(op, BITS // 16),
    "end of the RSA part": lambda _, op: _flip(op, BITS // 8 - 1),
    "begin of the last part": lambda _, op: _flip(op, -40),
    "last byte": lambda _, op: _flip(op, -1),
    "zeros": lambda _, op: replace(op, blob=bytes(len(op.blob))),
    "a shorter key": lambda offer, op: replace(op, blob=offer.wrapped(bytes(16)), check_value=check_value(bytes(16))),
    "a key of 24 bytes": lambda offer, op: replace(
        op, blob=offer.wrapped(bytes(24)), check_value=check_value(bytes(24))
    ),
    "no AES key's length": lambda offer, op: replace(op, blob=offer.wrapped(bytes(31))),
    "a longer key": lambda offer, op: replace(op, blob=offer.wrapped(bytes(64))),
    "truncated": lambda _, op: replace(op, blob=op.blob[:-8]),
    "empty": lambda _, op: replace(op, blob=b""),
    "another's pair": lambda offer, op: replace(
        op,
        blob=wrap_key(_OTHER[offer.algorithm], offer.algorithm, bytes(32), bytes(32)),
        check_value=check_value(bytes(32)),
    ),
}
_OTHER: dict[ImportAlgorithm, bytes] = {}


@pytest.fixture(autouse=True)
async def _another_pair(offer: Offer) -> None:
    if offer.algorithm not in _OTHER:
        pair = await made(FakeToken(), CreateImportPair(uuid4(), offer.algorithm, BITS))
        assert isinstance(pair, ImportPair)
        _OTHER[offer.algorithm] = pair.public_key


@pytest.mark.parametrize("how", SPOILT)
async def test_whatever_is_wrong_has_one_name_and_leaves_nothing(offer: Offer, how: str) -> None:
    op = SPOILT[how](offer, offer.ordered(os.urandom(32)))
    assert faults([await offer.run(op)]) == {0: Fault.BAD_CIPHERTEXT}
    assert await offer.token.hsm.run([DestroyMaster(op.key, 1, op.material, offer.token.serial)], 30) == [
        DestroyedMaster(0)
    ]


async def test_the_wrong_algorithm_does_not_open_it(offer: Offer) -> None:
    for other in set(ImportAlgorithm) - {offer.algorithm}:
        op = replace(offer.ordered(os.urandom(32)), algorithm=other)
        assert faults([await offer.run(op)]) == {0: Fault.BAD_CIPHERTEXT}


async def test_a_pair_that_is_gone_or_another_opens_nothing(offer: Offer) -> None:
    op = offer.ordered(os.urandom(32))
    for wrong in (replace(op, pair=uuid4()), replace(op, public_key=_OTHER[offer.algorithm])):
        assert faults([await offer.run(wrong)]) == {0: Fault.INTEGRITY}


async def test_another_tokens_pair_is_its_own_affair(offer: Offer) -> None:
    """S19. Its requester sends it again, and a worker of that token takes it: nothing is wrong with it."""
    assert faults([await offer.run(replace(offer.ordered(os.urandom(32)), serial="elsewhere"))]) == {0: Fault.ELSEWHERE}


async def test_a_destroyed_pair_is_gone(offer: Offer) -> None:
    op = CreateImportPair(uuid4(), offer.algorithm, BITS)
    pair = await made(offer.token, op)
    assert isinstance(pair, ImportPair)
    order = replace(offer.ordered(os.urandom(32)), pair=op.material, public_key=pair.public_key)
    gone = [DestroyImportPair(op.material)] * 2
    assert await offer.token.hsm.run(gone, 30) == [DestroyedMaster(1), DestroyedMaster(0)]
    assert faults([await offer.run(order)]) == {0: Fault.INTEGRITY}


async def test_softhsm_does_not_give_out_what_it_can_not_open(softhsm_token: AnyToken) -> None:
    """It knows OAEP with SHA-1 only; the rehearsal finds that out before a customer does."""
    op = CreateImportPair(uuid4(), ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_256, BITS)
    assert faults([await made(softhsm_token, op)]) == {0: Fault.UNSUPPORTED}
    assert await softhsm_token.hsm.run([DestroyImportPair(op.material)], 30) == [DestroyedMaster(0)]
