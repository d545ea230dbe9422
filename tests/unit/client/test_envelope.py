"""Envelopes: what goes in comes out, with its context and AAD only; DEKs are reused within bounds; golden bytes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from tests.unit.client.fleet import KEK, Fleet, MemoryTransport
from worker.chain.context import digest as chain_digest
from worker.client import BadEnvelope, ItemError, KeyriverClient, RequestRefused, Rewrapped, Unwrapped, WrappedDek
from worker.client.dek_cache import DekCache, Limits
from worker.client.envelope import Context, Envelope, context_digest, join, split
from worker.model.bodies import DekItem, RewrapItem

KEY = "acme/eu/payments"


@dataclass(slots=True)
class Keys:
    """DEKs from a table; each call is noted."""

    calls: list[str] = field(default_factory=list)
    deks: dict[bytes, tuple[bytes, Context]] = field(default_factory=dict)
    dek_bytes: int = 32
    failing: bool = False
    forgetful: bool = False

    async def generate(
        self, key: str, count: int = 1, *, contexts: Sequence[Context] | None = None, store: bool = True
    ) -> list[WrappedDek | ItemError]:
        assert (key, count) == (KEY, 1)
        assert contexts is not None
        self.calls.append("generate")
        number = len(self.calls)
        await asyncio.sleep(0)
        if self.failing:
            return [ItemError("KEY_DISABLED", "no", retry=False)]
        if self.forgetful:
            return [WrappedDek(KEK, 1, None, None)]
        dek = bytes((number,)) * self.dek_bytes
        wrapped = UUID(int=number).bytes if store else b"blob" + bytes((number,))
        self.deks[wrapped] = (dek, dict(contexts[0]))
        made = WrappedDek(KEK, 1, UUID(bytes=wrapped) if store else None, None if store else wrapped, dek)
        return [made]

    async def unwrap(self, items: Sequence[DekItem]) -> list[Unwrapped | ItemError]:
        (item,) = items
        self.calls.append("unwrap")
        wrapped = item.id.bytes if item.id is not None else item.blob or b""
        dek, context = self.deks.get(wrapped, (b"", {}))
        if not dek or context != item.context:
            return [ItemError("UNWRAP_FAILED", "no", retry=False)]
        return [Unwrapped(KEK, 1, dek)]

    async def rewrap(self, items: Sequence[RewrapItem]) -> list[Rewrapped | ItemError]:
        (item,) = items
        assert item.blob is not None
        if self.forgetful:
            return [Rewrapped(KEK, 1, None, None, unchanged=True)]
        self.deks[b"new" + item.blob] = self.deks[item.blob]
        return [Rewrapped(KEK, 2, None, b"new" + item.blob, unchanged=False)]


@pytest.mark.parametrize("store", [True, False])
async def test_what_goes_in_comes_out(store: bool) -> None:
    keys = Keys()
    one = Envelope(keys, KEY, store=store)
    for data in (b"", b"a record", bytes(100_000)):
        sealed = await one.encrypt(data, {"table": "customers"}, aad=b"row 7")
        assert len(data) < 8 or data not in sealed
        assert await one.decrypt(sealed, {"table": "customers"}, aad=b"row 7") == data
    assert keys.calls == ["generate", "unwrap"]


async def test_two_envelopes_of_the_same_data_differ() -> None:
    one = Envelope(Keys(), KEY)
    assert await one.encrypt(b"same") != await one.encrypt(b"same")


async def test_another_context_another_aad_or_a_changed_byte_is_refused() -> None:
    one = Envelope(Keys(), KEY)
    sealed = await one.encrypt(b"data", {"a": "1"}, aad=b"x")
    assert await one.decrypt(sealed, {"a": "1"}, aad=b"x") == b"data"
    with pytest.raises(RequestRefused, match="UNWRAP_FAILED"):
        await one.decrypt(sealed, {"a": "2"}, aad=b"x")
    with pytest.raises(BadEnvelope):
        await one.decrypt(sealed, {"a": "1"}, aad=b"y")
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes((sealed[place] ^ 1,)) + sealed[place + 1 :]
        with pytest.raises((BadEnvelope, RequestRefused)):
            await one.decrypt(changed, {"a": "1"}, aad=b"x")


@pytest.mark.parametrize("length", [0, 3, 7, 22, 50])
async def test_what_is_cut_short_is_refused(length: int) -> None:
    one = Envelope(Keys(), KEY)
    with pytest.raises(BadEnvelope):
        await one.decrypt((await one.encrypt(b""))[:length])


async def test_a_dek_that_is_no_aes_key_is_refused() -> None:
    with pytest.raises(BadEnvelope, match="AES"):
        await Envelope(Keys(dek_bytes=48), KEY).encrypt(b"data")


async def test_an_answer_that_lacks_what_was_asked_for_is_refused() -> None:
    with pytest.raises(BadEnvelope, match="no DEK"):
        await Envelope(Keys(forgetful=True), KEY).encrypt(b"data")
    sealed = await Envelope(Keys(), KEY, store=False).encrypt(b"data")
    with pytest.raises(BadEnvelope, match="no blob"):
        await Envelope(Keys(forgetful=True), KEY).rewrap(sealed)


async def test_a_rewrap_moves_the_blob_and_touches_no_data() -> None:
    keys = Keys()
    one = Envelope(keys, KEY, store=False)
    sealed = await one.encrypt(b"data", {"a": "1"})
    moved = await one.rewrap(sealed)
    assert split(moved).ciphertext == split(sealed).ciphertext
    assert split(moved).wrapped != split(sealed).wrapped
    assert await one.decrypt(moved, {"a": "1"}) == b"data"
    stored = await Envelope(keys, KEY).encrypt(b"data")
    assert await one.rewrap(stored) == stored


async def test_one_dek_serves_so_many_pieces_even_when_they_come_at_once() -> None:
    keys = Keys()
    one = Envelope(keys, KEY, limits=Limits(uses=10))
    sealed = await asyncio.gather(*[one.encrypt(b"data") for _ in range(25)])
    used = [split(each).wrapped for each in sealed]
    assert sorted(used.count(wrapped) for wrapped in set(used)) == [5, 10, 10]
    with pytest.raises(ValueError, match="uses"):
        Envelope(keys, KEY, limits=Limits(uses=0))


async def test_no_dek_is_used_beyond_its_age() -> None:
    now = [0.0]
    made: list[int] = []

    async def make() -> int:
        made.append(1)
        return len(made)

    cache: DekCache[str, int] = DekCache(Limits(uses=100, age_s=10, kept=2), lambda: now[0])
    assert [await cache.get("a", make), await cache.get("a", make)] == [1, 1]
    now[0] = 10.1
    assert await cache.get("a", make) == 2
    # The two that were used last are kept.
    await cache.get("b", make)
    await cache.get("a", make)
    await cache.get("c", make)
    assert await cache.get("a", make) == 2
    assert await cache.get("b", make) == 5
    with pytest.raises(TypeError):
        cache.__reduce__()


async def test_a_failure_is_not_kept_and_one_who_leaves_takes_nobody_along() -> None:
    keys = Keys(failing=True)
    one = Envelope(keys, KEY)
    with pytest.raises(RequestRefused, match="KEY_DISABLED"):
        await one.encrypt(b"data")
    keys.failing = False
    leaving, staying = [asyncio.create_task(one.encrypt(b"data")) for _ in range(2)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert split(await staying).wrapped
    assert keys.calls == ["generate", "generate"]


async def test_it_works_on_the_client_itself() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    async with KeyriverClient(fleet.identity, transport) as client:
        for store in (True, False):
            one = Envelope(client, KEY, store=store)
            rows = [b"row %d" % number for number in range(200)]
            sealed = await asyncio.gather(*[one.encrypt(row, {"t": "c"}, aad=row) for row in rows])
            assert await asyncio.gather(
                *[one.decrypt(each, {"t": "c"}, aad=row) for each, row in zip(sealed, rows, strict=True)]
            ) == list(rows)
    assert len(transport.sent) == 4
    assert "cipher" not in repr(vars(one))


async def test_golden_bytes() -> None:
    """Version 1, built by hand from the ABNF: it must be readable for ever."""
    golden = bytes.fromhex(
        "4b450101"  # prefix
        "02"  # kind: id
        "0010"
        "018f00000000700080000000000000ff"
        "000102030405060708090a0b"  # nonce
        "2676a27aa68ee27af961f3eac687c9e6a2b721ca987b9ba4c2179f216793"
    )
    stored = UUID("018f0000-0000-7000-8000-0000000000ff")
    context = {"b": "ü", "a": "1"}
    one = Envelope(Keys(deks={stored.bytes: (bytes(range(32)), context)}), KEY)
    assert await one.decrypt(golden, context, aad=b"row 1") == b"attack at dawn"
    assert join(split(golden)) == golden
    digest = "22a09f11fb420de64d1a60d73ef0e3ad2b8c8ec67963fd37ca84c5d3663e2723"
    assert context_digest(context).hex() == digest == chain_digest(context).hex()
    assert context_digest({}) == chain_digest({})
