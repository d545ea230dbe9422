"""After a whole run, with a crash in it, no key and no PIN stands in a log, a topic, or the database (invariant 1).

Searched for: every DEK, the private keys of officers, clients, workers and intake, the PINs, and the L2 and L3 keys,
exported for the purpose with the PIN.
"""

import io
import logging
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.exporting import exported
from tests.fleet import Fleet, House
from tests.scribe import Scribe
from tests.searching import found
from tests.stack import Services
from worker.client.results import WrappedDek
from worker.local import softhsm
from worker.model.bodies import DekItem, KeyRotateBody, RewrapItem
from worker.model.operations import Operation
from worker.model.records import Outgoing
from worker.model.rows import Algorithm
from worker.model.topics import specs
from worker.seal.identity import Identity

CRASH = "decided=error@3"


@pytest.fixture
async def fleet(stack: Services, tmp_path: Path) -> AsyncIterator[Fleet]:
    module = Path(shutil.copy2(softhsm.module(), tmp_path / "module.so"))
    token = softhsm.token(tmp_path / "token", module_file=module)
    async with Fleet.founded(stack, tmp_path, token, log_level="debug", test_told=tmp_path / "told") as founded:
        yield founded


async def test_no_secret_is_found_and_a_planted_one_is(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    # Given a whole run: keys, DEKs of both kinds, every operation, refusals, an error in the river, a crash
    caplog.set_level(logging.DEBUG)
    secrets = await _run(fleet)
    secrets |= {f"L2 or L3 {number}": key for number, key in enumerate(await exported(fleet.pool, fleet.token))}
    secrets |= {f"of a worker {number}": key for number, key in enumerate(_told(fleet))}
    assert len(secrets) > 30

    # When all that was written is searched, Then none of them is found
    assert found(secrets, [*await _written(fleet), ("the client's log", caplog.text.encode())]) == set()

    # And one that is planted in each kind of place is found there, and nowhere else
    dek, upper = secrets["DEK 0"], secrets["L2 or L3 0"]
    topic = fleet.topics.events
    await fleet.send(Outgoing(topic, None, b'{"oops":"' + upper.hex().encode() + b'"}', (("h", b"x" + dek),)))
    await fleet.pool.execute("INSERT INTO keyriver.leaves (id, tenant, body) VALUES (gen_random_uuid(), 't', $1)", dek)
    with (fleet.folder / "worker-1.log").open("a") as log:
        log.write(f"PIN={fleet.token.pin_file.read_text()}")
    assert found(secrets, await _written(fleet)) == {
        ("L2 or L3 0", topic),
        ("DEK 0", topic),
        ("DEK 0", "keyriver.leaves"),
        ("PIN", "worker-1.log"),
    }


async def _run(fleet: Fleet) -> dict[str, bytes]:
    fleet.start(failpoints=CRASH)
    house = await fleet.tenant()
    deks = [os.urandom(32) for _ in range(5)]
    made = [*await house.client.generate(house.key, 10), *await house.client.generate(house.key, 5, store=False)]
    generated = [one for one in made if isinstance(one, WrappedDek)]
    await house.client.wrap(house.key, deks, return_blob=True)
    officer = await fleet.officer()
    await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    await house.client.rewrap([RewrapItem(id=one.id) for one in generated[:10]])
    await house.client.unwrap([DekItem(id=one.id) for one in generated[:10]])
    await _refusals(fleet, house)
    signing = await fleet.service(house.tenant, algorithm=Algorithm.ES256)
    await (await fleet.client(signing)).unwrap([DekItem(blob=one.blob) for one in generated[10:]])
    (worker,) = fleet.members
    assert "FailpointError" in worker.log
    worker.signal(signal.SIGABRT)  # a crash inside a library ends like this
    assert await worker.ended() == -signal.SIGABRT
    assert "Fatal Python error" in worker.log
    successor = fleet.start()
    await house.client.generate(house.key)
    assert await successor.terminated() == 0

    secrets = {f"DEK {number}": dek for number, dek in enumerate([*[one.dek or b"" for one in generated], *deks])}
    for identity in (*fleet.officers, house.identity, signing):
        secrets |= _private(identity)
    secrets["PIN"] = fleet.token.pin_file.read_bytes().strip()
    secrets["SO-PIN"] = (fleet.token.folder / "so-pin").read_bytes().strip()
    return secrets


async def _refusals(fleet: Fleet, house: House) -> None:
    """What is refused is logged and dead-lettered, and must not say more for it."""
    async with Scribe(fleet, house.identity) as scribe:
        good = scribe.wrapping(house.key, [b"k" * 32])
        await scribe.ask(scribe.draft(Operation.WRAP, good.body[:-9]))
        await scribe.ask(scribe.wrapping(house.key, [b"short"]))
        record = good.record()
        await fleet.send(Outgoing(record.topic, record.key, record.value, record.headers[:-1]))
        await fleet.caught_up()


def _private(identity: Identity) -> dict[str, bytes]:
    """The private numbers, and the PEM's body as it would be pasted."""
    key = load_pem_private_key(identity.private_key.encode(), None)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    raw = der[-32:] if identity.algorithm is Algorithm.ED25519 else der[36:68]
    return {f"{identity.client}'s signing key": raw, f"{identity.client}'s recipient key": identity.recipient.private}


def _told(fleet: Fleet) -> list[bytes]:
    """Private keys that the workers made for themselves: they told them to a file for this test."""
    keys = [bytes.fromhex(line) for line in (fleet.folder / "told").read_text().split()]
    assert len(keys) >= 3  # one intake key, and a signing key of each worker
    return keys


async def _written(fleet: Fleet) -> list[tuple[str, bytes]]:
    """Every place and all that stands there."""
    places = [(file.name, file.read_bytes()) for file in fleet.folder.glob("*.log")]
    names = [spec.name for spec in specs(fleet.topics)]
    async with fleet.tap(*names) as tap:
        for entry in await tap.to_end():
            content = (entry.key or b"", entry.value or b"", *[part for _, part in entry.headers])
            places += [(entry.partition.topic, part) for part in content]
    tables = await fleet.pool.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'keyriver'::regnamespace AND relkind = 'r'"
    )
    async with fleet.pool.acquire() as connection:
        for table in [row["relname"] for row in tables]:
            out = io.BytesIO()
            await connection.copy_from_table(table, schema_name="keyriver", output=out, format="binary")
            places.append((f"keyriver.{table}", out.getvalue()))
    return places
