"""The client and a real fleet agree on every suite, both signature algorithms, and all that can be asked for."""

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fleet import Fleet, House
from tests.stack import Services
from worker.client import Envelope, ItemError, KeyriverClient, Limits, RequestRefused, Rewrapped, Unwrapped, WrappedDek
from worker.local import softhsm
from worker.model.bodies import DekItem, KeyRotateBody, KeyShowBody, RewrapItem
from worker.model.operations import Operation
from worker.model.rows import Algorithm, Suite
from worker.seal.hpke import generate_keypair

CONTEXT = {"table": "customers", "ü": "é"}


@pytest.fixture(scope="module")
async def fleet(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    module = Path(shutil.copy2(softhsm.module(), folder / "module.so"))
    async with Fleet.founded(stack, folder, softhsm.token(folder / "token", module_file=module)) as founded:
        founded.start()
        await founded.at_work(1)
        yield founded


@pytest.fixture(scope="module")
async def house(fleet: Fleet) -> House:
    return await fleet.tenant()


@pytest.fixture(
    scope="module",
    params=[
        (Suite.X25519, Algorithm.ED25519),
        (Suite.P256, Algorithm.ES256),
        (Suite.MLKEM768_X25519, Algorithm.ED25519),
    ],
    ids=str,
)
async def keys(request: pytest.FixtureRequest, fleet: Fleet, house: House) -> KeyriverClient:
    """A client that signs with this algorithm, and whose DEKs travel under this suite both ways."""
    suite, algorithm = request.param
    identity = await fleet.service(house.tenant, algorithm=algorithm)
    return await fleet.client(dataclasses.replace(identity, recipient=generate_keypair(suite)))


def values(results: list[WrappedDek | ItemError]) -> list[WrappedDek]:
    assert not [one for one in results if isinstance(one, ItemError)]
    return [one for one in results if isinstance(one, WrappedDek)]


@pytest.mark.parametrize("store", [True, False])
async def test_generated_and_own_deks_come_back(keys: KeyriverClient, house: House, store: bool) -> None:
    own = [bytes((number,)) * (16 + number) for number in range(49)]
    made = values(await keys.generate(house.key, 5, bits=192, store=store, contexts=[CONTEXT] * 5))
    assert all(len(one.dek or b"") == 24 for one in made)
    wrapped = values(await keys.wrap(house.key, own, store=store, contexts=[CONTEXT] * len(own)))
    items = [DekItem(id=one.id, blob=None if store else one.blob, context=CONTEXT) for one in [*made, *wrapped]]
    back = await keys.unwrap(items)
    assert [one.dek for one in back if isinstance(one, Unwrapped)] == [*[one.dek for one in made], *own]
    assert not any(name in keys.refused for name in ("signature", "seal", "body", "unsigned", "type"))


async def test_partial_failures_stand_in_their_places(keys: KeyriverClient, house: House) -> None:
    (made,) = values(await keys.generate(house.key, contexts=[CONTEXT], store=False))
    assert made.blob is not None
    flipped = made.blob[:-1] + bytes((made.blob[-1] ^ 1,))
    tried = [(made.blob, CONTEXT), (flipped, CONTEXT), (made.blob, {}), (b"junk", CONTEXT), (made.blob, CONTEXT)]
    back = await keys.unwrap([DekItem(blob=blob, context=context) for blob, context in tried])
    assert [getattr(one, "code", "") for one in back] == ["", "UNWRAP_FAILED", "UNWRAP_FAILED", "UNWRAP_FAILED", ""]


async def test_concurrent_calls_share_requests_and_none_is_mixed_up(keys: KeyriverClient, house: House) -> None:
    contexts = [{"n": str(number)} for number in range(300)]
    made = [
        values(one)[0]
        for one in await asyncio.gather(*[keys.generate(house.key, contexts=[each]) for each in contexts])
    ]
    back = await asyncio.gather(
        *[keys.unwrap([DekItem(id=one.id, context=each)]) for one, each in zip(made, contexts, strict=True)]
    )
    assert [one.dek for (one,) in back if isinstance(one, Unwrapped)] == [one.dek for one in made]


async def test_envelopes_outlive_a_rotation(fleet: Fleet, keys: KeyriverClient, house: House) -> None:
    for store in (True, False):
        one = Envelope(keys, house.key, store=store, limits=Limits(uses=7))
        rows = [b"row %d" % number for number in range(20)]
        sealed = await asyncio.gather(*[one.encrypt(row, CONTEXT, aad=b"id") for row in rows])
        officer = await fleet.officer()
        await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
        moved = [await one.rewrap(each) for each in sealed]
        assert (moved == list(sealed)) == store
        assert [await one.decrypt(each, CONTEXT, aad=b"id") for each in moved] == rows


async def test_a_rewrap_says_what_it_did(keys: KeyriverClient, house: House, fleet: Fleet) -> None:
    (kept,) = values(await keys.generate(house.key, store=False))
    (stored,) = values(await keys.generate(house.key))
    items = [RewrapItem(blob=kept.blob), RewrapItem(id=stored.id)]
    same = await keys.rewrap(items, return_blob=True)
    assert [isinstance(one, Rewrapped) and one.unchanged for one in same] == [True, True]
    assert getattr(same[0], "blob", None) == kept.blob
    officer = await fleet.officer()
    await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    moved = await keys.rewrap(items)
    assert [isinstance(one, Rewrapped) and not one.unchanged and one.version > kept.version for one in moved] == [
        True
    ] * 2
    assert getattr(moved[1], "id", None) == stored.id


async def test_a_service_is_no_officer(keys: KeyriverClient, house: House) -> None:
    with pytest.raises(RequestRefused) as refused:
        await keys.command(Operation.KEY_SHOW, KeyShowBody(tenant=house.tenant, key=house.key))
    assert refused.value.code == "NOT_FOUND"
