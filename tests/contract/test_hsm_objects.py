"""What lies in the token: attributes as they were asked for, and nothing left behind."""

import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pkcs11
import pytest

from tests.contract.hsm_rig import AAD, DIGEST, Chain, chain, count, faults, generated, keeper_of, opened, unwrap
from worker.edges.hsm import Token, templates
from worker.edges.hsm.ck import (
    CKA_ALLOWED_MECHANISMS,
    CKA_DECRYPT,
    CKA_DERIVE,
    CKA_ENCRYPT,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_MODIFIABLE,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_VALUE,
    CKA_VERIFY,
    CKA_WRAP,
    CKM_AES_GCM,
    CKM_ECDSA,
    CKM_SHA256_HMAC,
    CKO_PRIVATE_KEY,
    CKO_SECRET_KEY,
    CkError,
)
from worker.edges.hsm.crew import Crew
from worker.local import Token as LocalToken
from worker.model.hsm import CreateKey, Fault, Kek, Purpose, RewrapDek, WrapDek

USES = {
    CKA_ENCRYPT: "encrypt",
    CKA_DECRYPT: "decrypt",
    CKA_SIGN: "sign",
    CKA_VERIFY: "verify",
    CKA_WRAP: "wrap",
    CKA_UNWRAP: "unwrap",
    CKA_DERIVE: "derive",
}
KEPT = {CKA_PRIVATE: True, CKA_SENSITIVE: True, CKA_EXTRACTABLE: False, CKA_MODIFIABLE: False}


@pytest.fixture(scope="module")
async def hsm_token(token: LocalToken) -> AsyncIterator[Token]:
    made = await opened(token)
    yield made
    await made.close()


@pytest.fixture(scope="module")
async def tenant(hsm_token: Token) -> Chain:
    return await chain(hsm_token)


def flags(handle: int, wanted: list[int], crew: Crew) -> dict[int, bool]:
    """Boolean attributes, read back from the token."""
    return {number: crew.session.attribute(handle, number) == b"\1" for number in wanted}


def uses(handle: int, crew: Crew) -> set[str]:
    """What a private or secret key may be used for; attributes that its class has not are left out."""
    found = set()
    for number, name in USES.items():
        try:
            if crew.session.attribute(handle, number) == b"\1":
                found.add(name)
        except CkError:
            continue
    return found


def mechanisms(handle: int, crew: Crew) -> set[int]:
    """CKA_ALLOWED_MECHANISMS."""
    raw = crew.session.attribute(handle, CKA_ALLOWED_MECHANISMS)
    return {int.from_bytes(raw[i : i + 8], sys.byteorder) for i in range(0, len(raw), 8)}


@pytest.mark.parametrize(
    ("layer", "use", "token_object"),
    [("l1", {"wrap", "unwrap"}, True), ("l2", {"wrap", "unwrap"}, False), ("l3", {"encrypt", "decrypt"}, False)],
)
async def test_a_kek_has_one_purpose_and_never_leaves(
    hsm_token: Token, tenant: Chain, layer: str, use: set[str], token_object: bool
) -> None:
    """S5, S6."""
    kek: Kek = getattr(tenant, layer)

    def look(crew: Crew) -> None:
        entry = keeper_of(hsm_token).hold(kek, crew)
        try:
            handle, allowed = entry.handle, crew.device.abilities
            wanted = KEPT | {CKA_TOKEN: token_object}
            assert flags(handle, list(wanted), crew) == wanted
            assert uses(handle, crew) == use
            only_gcm = {CKM_AES_GCM}
            assert mechanisms(handle, crew) == (only_gcm if layer == "l3" else set(allowed.wrapping.values()))
            assert crew.session.attribute(handle, CKA_ID) == kek.key.bytes + bytes([0, 0, 0, 1])
            with pytest.raises(CkError):
                crew.session.attribute(handle, CKA_VALUE)
        finally:
            keeper_of(hsm_token).release(entry, crew)

    await hsm_token.hsm.call(look, 10)


@pytest.mark.parametrize(
    ("kind", "object_class", "use", "mechanism"),
    [
        ("row-mac", CKO_SECRET_KEY, {"sign", "verify"}, CKM_SHA256_HMAC),
        ("intake-wrap", CKO_SECRET_KEY, {"encrypt", "decrypt"}, CKM_AES_GCM),
        ("signing", CKO_PRIVATE_KEY, {"sign"}, CKM_ECDSA),
    ],
)
async def test_a_fleet_key_has_one_purpose_and_never_leaves(
    hsm_token: Token, kind: str, object_class: int, use: set[str], mechanism: int
) -> None:
    """S5."""
    label = f"keyriver/dev-test/{kind}/1"

    def look(crew: Crew) -> None:
        [handle] = crew.session.find(templates.by_label(object_class, label))
        wanted = KEPT | {CKA_TOKEN: True}
        assert flags(handle, list(wanted), crew) == wanted
        assert uses(handle, crew) == use
        assert mechanisms(handle, crew) == {mechanism}

    await hsm_token.hsm.call(look, 10)


async def test_an_l1_looks_the_same_to_another_reader(hsm_token: Token, tenant: Chain, token: LocalToken) -> None:
    """python-pkcs11 on a module of its own reads the same attributes."""
    session = _plain(token, Path(token.module.parent / f"reader-{uuid4().hex}.so"))
    a = pkcs11.Attribute
    assert tenant.l1.material
    [found] = session.get_objects({a.LABEL: tenant.l1.material.hex, a.CLASS: pkcs11.ObjectClass.SECRET_KEY})
    wanted = {a.SENSITIVE: True, a.EXTRACTABLE: False, a.WRAP: True, a.UNWRAP: True, a.ENCRYPT: False, a.DECRYPT: False}
    assert {name: found[name] for name in wanted} == wanted
    assert (found[a.SIGN], found[a.VERIFY], found[a.DERIVE], found[a.TOKEN]) == (False, False, False, True)


def _plain(token: LocalToken, copy: Path) -> Any:  # noqa: ANN401 - python-pkcs11 types its sessions loosely
    copy.write_bytes(token.module.read_bytes())
    found = pkcs11.lib(str(copy)).get_token(token_label=token.label)
    return found.open(user_pin=token.pin_file.read_text().strip())


async def test_nothing_is_left_behind(hsm_token: Token, tenant: Chain) -> None:
    """A leaked object is for ever: nothing is destroyed by garbage collection."""
    hsm = hsm_token.hsm
    await generated(hsm, tenant.l3, 1)
    before = await count(hsm_token)
    broken = replace(tenant.l3, wrapped=bytes(40), revision=77)
    for _ in range(5):
        wrapped = await generated(hsm, tenant.l3, 50)
        await hsm.run([unwrap(tenant.l3, one) for one in wrapped], 20)
        await hsm.run([RewrapDek(tenant.l3, AAD, w.nonce, w.ciphertext, tenant.l3, AAD) for w in wrapped], 20)
        await hsm.run([CreateKey(tenant.l2, uuid4(), 1, Purpose.WRAPS_DEKS)] * 5, 20)
        assert faults(await hsm.run([WrapDek(broken, AAD, DIGEST, 32)], 20)) == {0: Fault.INTEGRITY}
        assert faults(await hsm.run([CreateKey(tenant.l3, uuid4(), 1, Purpose.WRAPS_DEKS)], 20)) == {
            0: Fault.UNSUPPORTED
        }
    assert await count(hsm_token) == before
