"""What lies in the token: attributes as they were asked for, nothing left behind, one L1 for all processes."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pkcs11
import pytest

from tests.contract.hsm_rig import AAD, DIGEST, Chain, chain, child, deks, faults, generated, master, opened, unwrap
from worker.edges.hsm import Token, templates
from worker.edges.hsm.binding import Attribute
from worker.edges.hsm.ck import (
    CKA_ALLOWED_MECHANISMS,
    CKA_CLASS,
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
from worker.edges.hsm.keeper import Entry, Keeper
from worker.local import Token as LocalToken
from worker.model.hsm import CreateKey, CreateMaster, Fault, Kek, Purpose, RewrapDek, WrapDek, Wrapping

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


def keeper_of(token: Token) -> Keeper:
    """The cache of handles."""
    return token.hsm._keeper


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


async def count(token: Token) -> int:
    """Objects that the application sees, session keys included."""
    everything: list[Attribute] = [(CKA_CLASS, CKO_SECRET_KEY)]
    return await token.hsm.call(lambda crew: len(crew.session.find(everything, 4096)), 10)


async def counts(token: Token, wanted: int) -> None:
    """Wait until there are so many; what was dropped is gone within a second."""
    async with asyncio.timeout(1):
        while await count(token) != wanted:
            await asyncio.sleep(0.005)


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


async def test_dropped_handles_are_gone_within_a_second(hsm_token: Token, tenant: Chain) -> None:
    """Invariant 4."""
    await generated(hsm_token.hsm, tenant.l3, 1)
    before, open_now = await count(hsm_token), len(keeper_of(hsm_token))
    hsm_token.hsm.drop([tenant.l2.key, tenant.l3.key, uuid4()])
    assert len(keeper_of(hsm_token)) == open_now - 2
    await counts(hsm_token, before - 2)
    assert len(await generated(hsm_token.hsm, tenant.l3, 3)) == 3


async def test_dropping_a_key_drops_all_below_it(hsm_token: Token) -> None:
    """The red button on an L1 must leave no open handle under it."""
    tenant = await chain(hsm_token)
    await generated(hsm_token.hsm, tenant.l3, 1)
    before, open_now = await count(hsm_token), len(keeper_of(hsm_token))
    hsm_token.hsm.drop([tenant.l1.key])
    assert len(keeper_of(hsm_token)) == open_now - 3
    await counts(hsm_token, before - 2)  # the L1 itself is a token object


async def test_a_key_dropped_while_it_is_opened_is_not_kept(hsm_token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await count(hsm_token)
    tenant = await chain(hsm_token)
    keeper = keeper_of(hsm_token)
    hsm_token.hsm.drop([tenant.l1.key])
    await counts(hsm_token, before + 1)
    open_now = len(keeper)
    unwrap_key = keeper._unwrap

    def dropped_meanwhile(kek: Kek, parent: Entry, crew: Crew) -> Entry:
        keeper.drop([tenant.l3.key])
        return unwrap_key(kek, parent, crew)

    monkeypatch.setattr(keeper, "_unwrap", dropped_meanwhile)
    assert len(await generated(hsm_token.hsm, tenant.l3, 1)) == 1
    assert len(keeper) == open_now + 1, "the L1, which was found before"
    await counts(hsm_token, before + 1)


async def test_the_cache_is_bounded_and_what_it_evicts_is_destroyed(token: LocalToken, hsm_token: Token) -> None:
    tenant = await chain(hsm_token)
    keks = [await child(hsm_token.hsm, tenant.l2, Purpose.WRAPS_DEKS) for _ in range(40)]
    keeper = keeper_of(hsm_token)
    keeper._limit = 16
    try:
        wrapped = [(await generated(hsm_token.hsm, kek, 1))[0] for kek in keks]
        assert len(keeper) == 16
        # One batch may use more KEKs than the cache holds.
        pairs = list(zip(keks, wrapped, strict=True))
        assert deks(await hsm_token.hsm.run([unwrap(kek, one) for kek, one in pairs], 20)) == [w.dek for w in wrapped]
        assert len(keeper) == 16
    finally:
        keeper._limit = 4096


async def test_an_old_handle_is_opened_again(hsm_token: Token, tenant: Chain) -> None:
    await generated(hsm_token.hsm, tenant.l3, 1)
    keeper = keeper_of(hsm_token)
    name = (tenant.l3.key, 1, 1)
    first = keeper._entries[name]
    first.born -= 10_000
    [one] = await generated(hsm_token.hsm, tenant.l3, 1)
    assert keeper._entries[name] is not first
    assert deks(await hsm_token.hsm.run([unwrap(tenant.l3, one)], 20)) == [one.dek]


async def test_a_handle_that_is_another_object_is_an_integrity_fault_and_forgotten(
    hsm_token: Token, tenant: Chain
) -> None:
    """S8: a stale handle names another tenant's KEK; its CKA_ID gives it away."""
    other = await chain(hsm_token)
    await generated(hsm_token.hsm, other.l3, 1)
    await generated(hsm_token.hsm, tenant.l3, 1)
    keeper = keeper_of(hsm_token)
    mine, theirs = keeper._entries[tenant.l3.key, 1, 1], keeper._entries[other.l3.key, 1, 1]
    right, mine.handles = mine.handles, theirs.handles
    assert faults(await hsm_token.hsm.run([WrapDek(tenant.l3, AAD, DIGEST, 32)], 20)) == {0: Fault.INTEGRITY}
    assert keeper._entries[other.l3.key, 1, 1] is theirs
    assert len(await generated(hsm_token.hsm, tenant.l3, 1)) == len(await generated(hsm_token.hsm, other.l3, 1)) == 1
    assert keeper._entries[other.l3.key, 1, 1] is theirs, "its object was not destroyed"
    await hsm_token.hsm.call(lambda crew: crew.session.destroy(right[0]), 10)


async def test_a_handle_whose_object_vanished_is_opened_again(hsm_token: Token, tenant: Chain) -> None:
    await generated(hsm_token.hsm, tenant.l3, 1)
    gone = keeper_of(hsm_token)._entries[tenant.l3.key, 1, 1].handle
    await hsm_token.hsm.call(lambda crew: crew.session.destroy(gone), 10)
    assert len(await generated(hsm_token.hsm, tenant.l3, 3)) == 3


async def test_a_revision_is_a_key_of_the_cache(hsm_token: Token, tenant: Chain) -> None:
    await generated(hsm_token.hsm, tenant.l3, 1)
    changed = replace(tenant.l3, revision=50, wrapped=bytes(40))
    assert faults(await hsm_token.hsm.run([WrapDek(changed, AAD, DIGEST, 32)], 20)) == {0: Fault.INTEGRITY}


# Other processes.


async def other(token: LocalToken, do: str, material: UUID, key: UUID) -> Process:
    """A process that is logged in and waits for `go`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.hsm_other", stdin=PIPE, stdout=PIPE, cwd=Path(__file__).parents[2]
    )
    names = {"module": str(token.module), "label": token.label, "pin_file": str(token.pin_file)}
    request = names | {"do": do, "material": str(material), "key": str(key)}
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(request).encode() + b"\n")
    assert await process.stdout.readline() == b"ready\n"
    return process


async def go(process: Process) -> object:
    """Let it do what it was asked; its answer."""
    out, _ = await process.communicate(b"go\n")
    assert process.returncode == 0
    return json.loads(out)


async def test_an_l1_of_another_process_is_found_and_its_destruction_seen(hsm_token: Token, token: LocalToken) -> None:
    key, material = uuid4(), uuid4()
    assert await go(await other(token, "create", material, key)) is True
    l1 = Kek(key, 1, 1, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=material, serial=hsm_token.serial)
    leaf = await child(hsm_token.hsm, l1, Purpose.WRAPS_DEKS)
    assert len(await generated(hsm_token.hsm, leaf, 5)) == 5
    assert await go(await other(token, "destroy", material, key)) == 1
    refused = await hsm_token.hsm.run([CreateKey(l1, uuid4(), 1, Purpose.WRAPS_DEKS)], 20)
    assert faults(refused) == {0: Fault.INTEGRITY}
    hsm_token.hsm.drop([leaf.key])
    assert faults(await hsm_token.hsm.run([WrapDek(leaf, AAD, DIGEST, 32)], 20)) == {0: Fault.INTEGRITY}
    assert hsm_token.healthy


async def test_racing_creators_make_one_object(hsm_token: Token, token: LocalToken) -> None:
    key, material = uuid4(), uuid4()
    racers = [await other(token, "create", material, key) for _ in range(3)]
    ours = hsm_token.hsm.run([CreateMaster(key, 1, material)], 20)
    results = await asyncio.gather(ours, *(go(racer) for racer in racers))
    assert results[1:] == [True] * 3
    label = templates.by_label(CKO_SECRET_KEY, material.hex)
    assert await hsm_token.hsm.call(lambda crew: len(crew.session.find(label)), 10) == 1


async def test_many_processes_may_start_at_once(token: LocalToken) -> None:
    """Without the module's lock six starts at once fail on SoftHSM2 in a third of the cases."""
    key, material = uuid4(), uuid4()
    starting = await asyncio.gather(*(other(token, "create", material, key) for _ in range(6)))
    assert await asyncio.gather(*(go(process) for process in starting)) == [True] * 6


async def test_a_twin_is_no_loss(hsm_token: Token) -> None:
    """On a network HSM two machines may create at once; what either object wrapped stays readable."""
    l1 = await master(hsm_token.hsm, hsm_token.serial)
    before = await child(hsm_token.hsm, l1, Purpose.WRAPS_DEKS)
    assert l1.material
    label, identity = l1.material.hex, templates.key_id(l1.key, 1)

    def twin(crew: Crew) -> bytes:
        twin = crew.session.generate(0x1080, templates.master(label, identity, ()))
        fresh = crew.session.generate(0x1080, templates.kek(Purpose.WRAPS_DEKS, bytes(20), (), extractable=True))
        way = crew.device.abilities.wrapping[Wrapping.AES_KWP]
        try:
            return crew.session.wrap(way, twin, fresh)
        finally:
            crew.session.destroy(fresh)

    after = replace(before, key=uuid4(), wrapped=await hsm_token.hsm.call(twin, 10))
    hsm_token.hsm.drop([before.key])
    for kek in (before, after):
        assert len(await generated(hsm_token.hsm, kek, 2)) == 2
