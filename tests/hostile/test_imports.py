"""Attacks on imports (SECURITY S12): each refusal by its name, five burn, and nothing is won by coming again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.hostile.searching import everything, search
from tests.stack import Services
from tests.stories.bank import SAFE, Bank
from worker.chain.import_room import OPEN_AT_ONCE
from worker.client import RequestRefused
from worker.local import Token
from worker.model.importing import KeyImportBody
from worker.model.imports import ATTEMPTS
from worker.model.operations import Operation
from worker.model.records import Outgoing

WAIT_S = 60.0
RSA_BYTES = 3072 // 8


@pytest.fixture(scope="module")
async def bank(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bank]:
    folder = tmp_path_factory.mktemp("imports")
    async with Fleet.founded(stack, folder, kryoptic, import_life_s=600) as fleet:
        fleet.start()
        await fleet.at_work(1)
        yield Bank(fleet, tmp_path_factory.mktemp("desk"), SAFE)


async def row(bank: Bank, tenant: str) -> tuple[str, int]:
    """State and failures of the tenant's newest parameters."""
    found = await bank.fleet.pool.fetchrow(
        "SELECT state, failures FROM keyriver.imports WHERE tenant = $1 ORDER BY id DESC LIMIT 1", tenant
    )
    assert found is not None
    return found["state"], found["failures"]


def flipped(at: int) -> Callable[[KeyImportBody], KeyImportBody]:
    def spoil(order: KeyImportBody) -> KeyImportBody:
        place = at % len(order.blob)
        blob = order.blob[:place] + bytes([order.blob[place] ^ 0x80]) + order.blob[place + 1 :]
        return order.model_copy(update={"blob": blob})

    return spoil


REGIONS = (0, RSA_BYTES // 2, RSA_BYTES - 1, RSA_BYTES, -1)
"""The begin, the middle and the end of the RSA part, then the begin and the end of the other."""


async def test_every_region_counts_and_five_refusals_burn_the_parameters(bank: Bank) -> None:
    tenant = await bank.tenant()
    order = await bank.wrapped(await bank.parameters(tenant), bank.key_file())
    assert len(REGIONS) == ATTEMPTS
    for count, at in enumerate(REGIONS, start=1):
        assert await row(bank, tenant) == ("open", count - 1)
        assert await bank.refused(flipped(at)(order)) == "IMPORT_REFUSED"
    assert await row(bank, tenant) == ("burned", ATTEMPTS)
    # Now even the right blob comes too late, and the pair goes from the token
    assert await bank.refused(order) == "IMPORT_BURNED"
    await bank.until_told(tenant, "import.ended")
    assert await bank.pairs(tenant) == 0
    assert (await bank.told(tenant)).count("import.refused") == ATTEMPTS
    # The trail has each of them
    bodies = await bank.fleet.pool.fetch("SELECT body FROM keyriver.leaves WHERE tenant = $1", tenant)
    leaves = [json.loads(one["body"]) for one in bodies]
    counts = [leaf["told"]["failures"] for leaf in leaves if leaf["counts"] == {"IMPORT_REFUSED": 1}]
    assert sorted(counts) == [1, 2, 3, 4, 5]


async def test_a_wrong_check_value_costs_one_and_the_right_one_still_works(bank: Bank) -> None:
    tenant = await bank.tenant()
    order = await bank.wrapped(await bank.parameters(tenant), bank.key_file())
    wrong = f"{int(order.check_value, 16) ^ 1:06x}"
    assert await bank.refused(order.model_copy(update={"check_value": wrong})) == "IMPORT_REFUSED"
    assert await row(bank, tenant) == ("open", 1)
    await bank.imports(order)
    assert await row(bank, tenant) == ("used", 1)
    assert await bank.refused(order) == "IMPORT_USED"


async def test_what_is_refused_before_decryption_costs_nothing(bank: Bank) -> None:
    tenant, other = await bank.tenant(), await bank.tenant()
    parameters = await bank.parameters(tenant)
    order = await bank.wrapped(parameters, bank.key_file())
    for changes, expected in (
        ({"blob": order.blob[:-1]}, "IMPORT_LENGTH"),
        ({"blob": order.blob[:RSA_BYTES]}, "IMPORT_LENGTH"),
        ({"blob": b""}, "IMPORT_LENGTH"),
        ({"algorithm": SAFE[1]}, "IMPORT_ALGORITHM"),
        ({"tenant": other, "key": other}, "NOT_FOUND"),  # another tenant's parameters
        ({"tenant": other}, "NOT_FOUND"),
        ({"version": 7}, "NOT_FOUND"),
    ):
        assert await bank.refused(order.model_copy(update=changes)) == expected, changes
    assert await row(bank, tenant) == ("open", 0)
    await bank.imports(order)


async def test_one_record_twice_is_one_import_and_one_failure(bank: Bank) -> None:
    tenant = await bank.tenant()
    order = await bank.wrapped(await bank.parameters(tenant), bank.key_file())
    async with bank.fleet.tap(bank.fleet.topics.keys) as tap:
        assert await bank.refused(order.model_copy(update={"check_value": "000000"})) == "IMPORT_REFUSED"
        await bank.imports(order)
        records = [one for one in await tap.to_end() if dict(one.headers).get("ce_type") == b"keyriver.key.import.v1"]
    for record in records[-2:]:
        await bank.fleet.send(Outgoing(bank.fleet.topics.keys, record.key or b"", record.value or b"", record.headers))
    await bank.fleet.caught_up()
    assert await row(bank, tenant) == ("used", 1)
    events = await bank.told(tenant)
    assert (events.count("import.refused"), events.count("key.imported")) == (1, 1)


async def test_many_at_once_are_counted_one_by_one(bank: Bank) -> None:
    """A burst against one set of parameters is no way around the count: what was not counted was not answered."""
    tenant = await bank.tenant()
    order = await bank.wrapped(await bank.parameters(tenant), bank.key_file())
    officer = await bank.fleet.officer()

    async def attempt(number: int) -> str:
        try:
            body = order.model_copy(update={"check_value": f"{number:06x}"})
            await officer.command(Operation.KEY_IMPORT, body)
        except RequestRefused as refusal:
            return refusal.code
        return "OK"

    codes = await asyncio.gather(*map(attempt, range(12)))
    assert sorted(codes) == ["IMPORT_BURNED"] * 7 + ["IMPORT_REFUSED"] * 5
    assert await row(bank, tenant) == ("burned", ATTEMPTS)


async def test_a_row_that_somebody_mended_is_believed_by_nobody(bank: Bank) -> None:
    """S7: who can write the database can't open parameters again, nor put a key of his own under them."""
    tenant = await bank.tenant()
    order = await bank.wrapped(await bank.parameters(tenant), bank.key_file())
    for change in ("failures = -9", "expires_ms = expires_ms + 1", "public_key = '\\x00'", "state = 'used'"):
        (kept,) = await bank.fleet.pool.fetch("SELECT * FROM keyriver.imports WHERE id = $1", order.parameters)
        await bank.fleet.pool.execute(f"UPDATE keyriver.imports SET {change} WHERE id = $1", order.parameters)  # noqa: S608
        assert await bank.refused(order) == "INTEGRITY", change
        columns = ", ".join(f"{name} = r.{name}" for name in kept.keys())  # noqa: SIM118 - a Record iterates values
        await bank.fleet.pool.execute(
            f"UPDATE keyriver.imports AS t SET {columns} "  # noqa: S608
            "FROM jsonb_populate_record(NULL::keyriver.imports, $1::jsonb) AS r WHERE t.id = r.id",
            json.dumps({name: _plain(value) for name, value in kept.items()}),
        )
    await bank.imports(order)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value if isinstance(value, int | str | None) else str(value)


async def test_the_customers_key_is_nowhere(bank: Bank) -> None:
    tenant, key = await bank.tenant(), bank.key_file()
    await bank.brought(tenant, key)
    name, client = await bank.service(tenant)
    await client.generate(name)
    media = await everything(bank.fleet)
    assert search(media, {"the customer's key": Path(key).read_bytes()}) == set()
    assert search(media, {"his tenant's name": tenant.encode()}), "the search finds what is there"


async def test_parameters_end_by_themselves(
    stack: Services, tmp_path_factory: pytest.TempPathFactory, softhsm: Token
) -> None:
    """On SoftHSM2, which does SHA-1 only: what it can't do, or no setting names, is refused when it is asked for."""
    folder = tmp_path_factory.mktemp("short")
    async with Fleet.founded(
        stack, folder, softhsm, import_life_s=2, import_algorithms='["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]'
    ) as fleet:
        fleet.start()
        await fleet.at_work(1)
        bank = Bank(fleet, tmp_path_factory.mktemp("desk"), ())
        tenant = await bank.tenant()
        for algorithm, expected in ((SAFE[0], "IMPORT_ALGORITHM"), (SAFE[1], "UNSUPPORTED")):
            with pytest.raises(RequestRefused) as refusal:
                await bank.parameters(tenant, algorithm)
            assert refusal.value.code == expected
        parameters = await bank.parameters(tenant, _SHA_1)
        order = KeyImportBody(
            tenant=tenant,
            key=tenant,
            parameters=parameters.parameters,
            algorithm=_SHA_1,
            blob=bytes(RSA_BYTES),
            check_value="000000",
        )
        deadline = time.monotonic() + WAIT_S
        while await row(bank, tenant) != ("expired", 0):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert await bank.refused(order) == "IMPORT_EXPIRED"
        await bank.until_told(tenant, "import.ended")
        assert await bank.pairs(tenant) == 0


_SHA_1 = next(way for way in type(SAFE[0]) if way.value == "RSAES_OAEP_SHA_1")


async def test_a_key_has_room_for_a_few_open_parameters(bank: Bank) -> None:
    tenant = await bank.tenant()
    for _ in range(OPEN_AT_ONCE):
        await bank.parameters(tenant)
    with pytest.raises(RequestRefused, match="TOO_MANY"):
        await bank.parameters(tenant)
