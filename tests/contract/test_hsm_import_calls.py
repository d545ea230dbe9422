"""S12 at the level of calls: whatever is wrong with a blob, the token is asked the same things in the same order.

Also: the combined mechanism where a token has it, the attributes of what is made on the way, and what is left behind.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.contract.hsm_rig import AnyToken, Shim, count, faults, opened, shimmed
from tests.contract.test_hsm_imports import BITS, SPOILT, Offer, made
from worker.edges.hsm import Token, templates
from worker.edges.hsm.binding import Library
from worker.edges.hsm.ck import (
    CKA_DECRYPT,
    CKA_DERIVE,
    CKA_ENCRYPT,
    CKA_EXTRACTABLE,
    CKA_MODIFIABLE,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_WRAP,
    CKM_RSA_AES_KEY_WRAP,
    CKM_RSA_PKCS_OAEP,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
    CkError,
)
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.session import Session
from worker.local import Token as LocalToken
from worker.model.hsm import Fault, HsmFault
from worker.model.import_ops import CreateImportPair, ImportMaster, ImportPair
from worker.model.imports import ImportAlgorithm

OF_TOKEN = {
    "SOFTHSM2_CONF": (ImportAlgorithm.RSAES_OAEP_SHA_1, ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_1),
    "KRYOPTIC_CONF": tuple(ImportAlgorithm),
}


async def offered(token: AnyToken, algorithm: ImportAlgorithm) -> Offer:
    op = CreateImportPair(uuid4(), algorithm, BITS)
    pair = await made(token, op)
    assert isinstance(pair, ImportPair), pair
    return Offer(token, algorithm, op, pair)


@pytest.fixture(scope="module")
async def hsm_token(token: LocalToken) -> AsyncIterator[Token]:
    opened_token = await opened(token, sessions=1)  # one thread, whose session is open
    yield opened_token
    await opened_token.close()


@contextmanager
def calls() -> Iterator[list[str]]:
    """Every PKCS#11 call of this process from here on, by name."""
    seen: list[str] = []
    call, raw = Library.call, Library.raw

    def noted(self: Library, function: str, *arguments: object) -> None:
        seen.append(function)
        call(self, function, *arguments)

    def fetched(self: Library, function: str) -> Callable[..., int]:
        found = raw(self, function)

        def called(*arguments: object) -> int:
            seen.append(function)
            return found(*arguments)

        return called

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Library, "call", noted)
        patch.setattr(Library, "raw", fetched)
        yield seen


@pytest.mark.parametrize("reimport", [False, True])
async def test_no_call_tells_which_step_it_was(hsm_token: Token, token: LocalToken, *, reimport: bool) -> None:
    for algorithm in next(ways for name, ways in OF_TOKEN.items() if name in token.env):
        offer = await offered(hsm_token, algorithm)
        canary = b""
        if reimport:
            first = offer.ordered(os.urandom(32))
            canary = await offer.imported(first)
            assert await offer.destroyed(first) == 1
        sequences: dict[str, tuple[str, ...]] = {}
        for how, spoil in SPOILT.items():
            if how == "another's pair":
                continue  # the same as flipped bits, and its key is made elsewhere
            op = spoil(offer, replace(offer.ordered(os.urandom(32)), canary=canary))
            with calls() as seen:
                assert faults([await offer.run(op)]) == {0: Fault.BAD_CIPHERTEXT}
            sequences[how] = tuple(seen)
        if reimport:  # a key that is right in itself, and another than it was
            with calls() as seen:
                other = replace(offer.ordered(os.urandom(32)), canary=canary)
                assert faults([await offer.run(other)]) == {0: Fault.BAD_CIPHERTEXT}
            sequences["another key"] = tuple(seen)
        assert len(set(sequences.values())) == 1, {how: len(one) for how, one in sequences.items()}
        (every,) = set(sequences.values())
        assert every.count("C_Encrypt") >= 2 * (1 + reimport)
        unwraps = 2 + algorithm.has_transport_key + reimport
        assert every.count("C_UnwrapKey") == 2 * unwraps, "each attempt is made twice"


async def test_pairs_only_unwrap_and_nothing_of_an_import_stays(hsm_token: Token, token: LocalToken) -> None:
    """S5, S12."""
    algorithm = next(ways for name, ways in OF_TOKEN.items() if name in token.env)[1]
    offer = await offered(hsm_token, algorithm)
    before = await count(hsm_token)
    op = offer.ordered(os.urandom(32))
    await offer.imported(op)
    await offer.run(replace(offer.ordered(os.urandom(32)), check_value=b"\0\0\0"))
    assert await count(hsm_token) == before + 1

    def look(crew: Crew) -> None:
        assert crew.session.find(templates.by_label(CKO_PUBLIC_KEY, offer.op.material.hex)) == []
        (pair,) = crew.session.find(templates.by_label(CKO_PRIVATE_KEY, offer.op.material.hex))
        (kept,) = crew.session.find(templates.by_label(CKO_SECRET_KEY, op.material.hex))
        assert _flags(crew, pair) == {CKA_TOKEN, CKA_PRIVATE, CKA_SENSITIVE, CKA_UNWRAP}
        assert _flags(crew, kept) == {CKA_TOKEN, CKA_PRIVATE, CKA_SENSITIVE, CKA_WRAP, CKA_UNWRAP}

    await hsm_token.hsm.call(look, 10)
    assert await offer.destroyed(op) == 1


def _flags(crew: Crew, handle: int) -> set[int]:
    asked = (CKA_TOKEN, CKA_PRIVATE, CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_MODIFIABLE)
    uses = (CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE)
    found = set()
    for number in (*asked, *uses):
        try:
            if crew.session.attribute(handle, number) == b"\1":
                found.add(number)
        except CkError:
            continue  # its class has no such attribute
    return found


@pytest.fixture
def combined(token: LocalToken, tmp_path: Path) -> Iterator[Shim]:
    """The token, behind a shim that makes one mechanism of its two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIM_COMBINED", "0x210A" if "SOFTHSM2_CONF" in token.env else "0x210B")
        with shimmed(token, tmp_path) as shim:
            yield shim


async def test_where_the_token_has_the_combined_mechanism_it_is_used(
    token: LocalToken, combined: Shim, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = next(ways for name, ways in OF_TOKEN.items() if name in token.env)[1]
    behind = await opened(token, combined.module)
    used: list[int] = []
    unwrap = Session.unwrap

    def noted(self: Session, mechanism: int, *arguments: object) -> int:
        used.append(mechanism)
        return unwrap(self, mechanism, *arguments)  # type: ignore[arg-type]

    try:
        offer = await offered(behind, algorithm)
        key = os.urandom(32)
        op = offer.ordered(key)
        monkeypatch.setattr(Session, "unwrap", noted)
        canary = await offer.imported(op)
        assert CKM_RSA_AES_KEY_WRAP in used
        assert CKM_RSA_PKCS_OAEP not in used
        assert await offer.destroyed(op) == 1
        for wrong in (op.blob[:-1] + bytes([op.blob[-1] ^ 1]), bytes([op.blob[0] ^ 1]) + op.blob[1:]):
            assert faults([await offer.run(replace(op, blob=wrong, canary=canary))]) == {0: Fault.BAD_CIPHERTEXT}
        again = replace(op, blob=offer.wrapped(key), canary=canary)
        assert await offer.imported(again) == canary
        assert await offer.destroyed(again) == 1
    finally:
        await behind.close()


async def test_a_token_that_goes_away_burns_nothing(token: LocalToken, tmp_path: Path) -> None:
    """S9: the device's own trouble is not the customer's."""
    algorithm = next(ways for name, ways in OF_TOKEN.items() if name in token.env)[0]
    with shimmed(token, tmp_path) as shim:
        behind = await opened(token, shim.module)
        try:
            offer = await offered(behind, algorithm)
            op = offer.ordered(os.urandom(32))
            shim.down_file.touch()
            (away,) = await behind.hsm.run([op], 0.5)
            assert isinstance(away, HsmFault)
            assert away.fault is Fault.UNAVAILABLE
            shim.down_file.unlink()
            (back,) = await behind.hsm.run([op], 30)
            assert not isinstance(back, HsmFault), back
            shim.fail("UnwrapKey", 0x30, every=1, times=1)  # once, as a device error
            assert isinstance((await behind.hsm.run([_fresh(offer)], 30))[0], type(back))
        finally:
            await behind.close()


def _fresh(offer: Offer) -> ImportMaster:
    return offer.ordered(os.urandom(32))
