"""Two officers rotate each of the fleet's own keys under load: nothing that was made before becomes unreadable (S5)."""

import asyncio
import json
import shutil
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from tests.fleet import Fleet, House
from tests.processes import POLL_S
from tests.scribe import Scribe, now_ms
from tests.stack import Services
from tests.stories.test_an_auditor_checks_the_log import Auditor, signed
from worker.client import RequestRefused
from worker.client.results import ItemError, Unwrapped, WrappedDek
from worker.flow.sequences import MOST_NAMED
from worker.local import softhsm
from worker.model.bodies import DekItem
from worker.model.fleet import (
    FleetKeyResult,
    FleetKeyView,
    FleetKind,
    FleetRetireBody,
    FleetRotateBody,
    FleetShowBody,
    FleetShowResult,
)
from worker.model.operations import Operation
from worker.model.records import Outgoing
from worker.seal.announcements import WorkerCertificate, kid_of
from worker.seal.errors import BadSignature
from worker.seal.lineage import Lineage, Succession
from worker.seal.signatures import ES256Signer

WAIT_S = 60.0


@pytest.fixture(scope="module")
async def fleet(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet of two workers; its keys are its own, for they change here."""
    folder = tmp_path_factory.mktemp("rotating")
    module = Path(shutil.copy2(softhsm.module(), folder / "module.so"))
    async with Fleet.founded(stack, folder, softhsm.token(folder / "token", module_file=module)) as founded:
        for count in (1, 2):
            founded.start()
            await founded.at_work(count)
        yield founded


@dataclass
class Load:
    """Makes DEKs and reads them back, all the time; what goes wrong is kept."""

    house: House
    done: int = 0
    wrong: list[str] = field(default_factory=list)

    async def go_on(self) -> None:
        while True:
            (made,) = await self.house.client.generate(self.house.key)
            if isinstance(made, ItemError):
                self.wrong += [] if made.retry else [made.code]
                continue
            assert made.id is not None
            (back,) = await self.house.client.unwrap([DekItem(id=made.id)])
            if not (isinstance(back, Unwrapped) and back.dek == made.dek) and not getattr(back, "retry", False):
                self.wrong.append(repr(back))
            self.done += 1

    async def more(self, count: int = 5) -> None:
        """Wait until so many more were served."""
        goal, deadline = self.done + count, time.monotonic() + WAIT_S
        while self.done < goal:
            assert time.monotonic() < deadline, "the load stands still"
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def under_load(house: House) -> AsyncIterator[Load]:
    """Nothing may go wrong meanwhile."""
    load = Load(house)
    task = asyncio.create_task(load.go_on())
    try:
        await load.more()
        yield load
        await load.more()
    finally:
        task.cancel()
    assert load.wrong == []


async def rotate(fleet: Fleet, kind: FleetKind) -> int:
    made = await fleet.command(Operation.FLEET_ROTATE, FleetRotateBody(kind=kind, why="a story"))
    assert isinstance(made, FleetKeyResult)
    assert (made.who, made.approved_by) == ("alice", "bob")
    return made.key.number


async def shown(fleet: Fleet) -> dict[tuple[FleetKind, int], FleetKeyView]:
    told = await fleet.command(Operation.FLEET_SHOW, FleetShowBody())
    assert isinstance(told, FleetShowResult)
    return {(one.kind, one.number): one for one in told.keys}


async def every_kind(fleet: Fleet, house: House) -> None:
    """All three in turn; each makes one version, whoever dies on the way. `tests/faults` tells it again under fire."""
    before = await shown(fleet)
    async with under_load(house) as load:
        for kind in FleetKind:
            assert await rotate(fleet, kind) == 1 + max(number for of, number in before if of is kind)
        deadline = time.monotonic() + 2 * WAIT_S
        while any(one.rests for one in await _old(fleet, FleetKind.ROW_MAC)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        await load.more()
    newest = max((await shown(fleet)).values(), key=lambda one: (one.kind is FleetKind.SIGNING, one.number))
    late = await fleet.client(await fleet.service(house.tenant))
    assert isinstance((await late.wrap(house.key, [b"k" * 32]))[0], WrappedDek)
    assert late.lineage.newest == newest.public_key


async def _old(fleet: Fleet, kind: FleetKind) -> list[FleetKeyView]:
    *old, _ = sorted([one for one in (await shown(fleet)).values() if one.kind is kind], key=lambda one: one.number)
    return old


async def test_row_mac(fleet: Fleet, house: House) -> None:
    # Given a fleet under load whose rows all have a MAC of version 1
    before = (await shown(fleet))[FleetKind.ROW_MAC, 1]
    assert (before.state, before.rests) == ("active", await _rows(fleet))
    async with under_load(house) as load:
        # When two officers rotate the row MAC key
        assert await rotate(fleet, FleetKind.ROW_MAC) == 2
        # Then every row gets a MAC of version 2 in the background, and every request is served meanwhile
        deadline = time.monotonic() + WAIT_S
        while (now := await shown(fleet))[FleetKind.ROW_MAC, 1].rests:
            assert time.monotonic() < deadline, now
            await asyncio.sleep(0.5)
        await load.more()
    assert now[FleetKind.ROW_MAC, 1].state == "verify-only"
    rests = now[FleetKind.ROW_MAC, 2].rests
    assert rests is not None
    assert rests >= (before.rests or 0)


async def test_a_leaked_row_mac_is_retired(fleet: Fleet, house: House) -> None:
    # Given a row MAC key that leaked and was rotated, a row that the leaked version made, and one that is gone
    assert await rotate(fleet, FleetKind.ROW_MAC) > 1
    old = max(number for kind, number in await shown(fleet) if kind is FleetKind.ROW_MAC) - 1
    body = FleetRetireBody(kind=FleetKind.ROW_MAC, number=old, why="it leaked")
    mallory = await fleet.service(house.tenant)
    kept = await fleet.pool.fetchrow("SELECT * FROM keyriver.clients WHERE id = $1", mallory.client)
    with pytest.raises(RequestRefused, match="STILL_NEEDED"):
        await fleet.command(Operation.FLEET_RETIRE, body)
    async with under_load(house) as load:
        deadline = time.monotonic() + 2 * WAIT_S
        while (await shown(fleet))[FleetKind.ROW_MAC, old].rests:
            assert time.monotonic() < deadline, (await shown(fleet))[FleetKind.ROW_MAC, old]
            await asyncio.sleep(0.5)
        # When two officers retire it
        gone = await fleet.command(Operation.FLEET_RETIRE, body)
        assert isinstance(gone, FleetKeyResult)
        assert (gone.key.state, gone.who, gone.approved_by) == ("retired", "alice", "bob")
        await load.more()
    assert kept is not None
    del mallory
    # Then no worker believes it, one that starts now neither, and all else is served
    deadline = time.monotonic() + WAIT_S
    while any(f"believed no more: [{old}" not in member.log for member in fleet.members):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    late = fleet.start()
    await fleet.at_work(len(fleet.members))
    assert isinstance((await house.client.generate(house.key))[0], WrappedDek)
    assert late.log.count("forged record of the sequences") <= MOST_NAMED, "what the retired version told is no news"
    for number in (old, old + 1):
        with pytest.raises(RequestRefused, match="CONFLICT"):
            await fleet.command(Operation.FLEET_RETIRE, body.model_copy(update={"number": number}))


async def test_intake_wrap(fleet: Fleet, house: House) -> None:
    # Given a DEK that a client sealed to an intake key whose private half is wrapped by version 1
    async with Scribe(fleet, house.identity) as scribe:
        sealed = scribe.wrapping(house.key, [b"k" * 32])
        # When two officers rotate the intake wrap key, and a worker starts that never had that half open
        async with under_load(house):
            await rotate(fleet, FleetKind.INTAKE_WRAP)
            fleet.start()
            await fleet.at_work(3)
            # Then the seal still opens, everywhere
            answer = await scribe.ask(sealed)
            assert not answer.code
            assert not any(answer.codes), answer
            made = [(await house.client.wrap(house.key, [b"k" * 32]))[0] for _ in range(12)]
    assert all(isinstance(one, WrappedDek) for one in made)
    now = await shown(fleet)
    assert now[FleetKind.INTAKE_WRAP, 1].rests
    assert now[FleetKind.INTAKE_WRAP, 2].state == "active"


async def test_signing(fleet: Fleet, house: House, tmp_path: Path) -> None:
    # Given an auditor, and clients that pinned the key that `init` told
    auditor = Auditor(fleet, house.tenant, tmp_path)
    await house.client.generate(house.key)
    count = await signed(fleet, house.tenant)
    old_proof = auditor.audit("prove", auditor.records()[-1]["metadata"]["uid"])
    assert auditor.verify()["whole"]
    pinned = house.identity.fleet_key
    async with under_load(house) as load:
        # When two officers rotate the signing key, twice
        assert await rotate(fleet, FleetKind.SIGNING) == 2
        assert await rotate(fleet, FleetKind.SIGNING) == 3
        newest = (await shown(fleet))[FleetKind.SIGNING, 3].public_key
        assert newest is not None
        await _every_run_is_certified_by(fleet, newest)
        await load.more()
    # Then a client with the old pin follows the chain, and so does one that pins the new key, both started now
    for pin in (pinned, newest):
        made = replace(await fleet.service(house.tenant), fleet_key=pin)
        client = await fleet.client(made)
        (dek,) = await client.wrap(house.key, [b"k" * 32])
        assert isinstance(dek, WrappedDek)
        assert client.lineage.newest == newest
    # And the log is whole under either pin: old checkpoints, new ones, and the proofs of both
    await house.client.generate(house.key)
    assert await signed(fleet, house.tenant) > count
    new_proof = auditor.audit("prove", auditor.records()[-1]["metadata"]["uid"])
    for key in (pinned, newest):
        told = f"{house.identity.fleet}:{_base64(key)}"
        assert auditor.verify("--fleet-key", told)["whole"]
        auditor.pinned = _base64(key)
        assert auditor.outsider(new_proof).returncode == 0
    auditor.pinned = _base64(pinned)
    assert auditor.outsider(old_proof).returncode == 0


async def test_a_forged_chain_is_refused(fleet: Fleet, house: House) -> None:
    # Given somebody who writes the topic, and has a key of his own but none of the fleet's
    his = ES256Signer("his", generate_private_key(SECP256R1()))
    trusted = house.client.lineage
    keys = trusted.keys
    forged = [
        Succession(house.identity.fleet, number, key, his.public_key, now_ms()) for number, key in enumerate(keys, 7)
    ]
    worker = WorkerCertificate(house.identity.fleet, kid_of(b"w" * 32), b"w" * 32, now_ms() - 1000, now_ms() + 60_000)
    records = [(said.record_key, said.to_json(his.sign(said.payload()), his.sign(said.payload()))) for said in forged]
    records.append((worker.record_key, worker.to_json(his.sign(worker.payload()))))
    # When he announces his key as the fleet's next
    for key, value in records:
        await fleet.send(Outgoing(fleet.topics.intake, key, value, ()))
    # Then clients refuse it, those that are there and those that start, and are served as before
    late = await fleet.client(await fleet.service(house.tenant))
    for client in (house.client, late):
        (made,) = await client.generate(house.key)
        assert isinstance(made, WrappedDek)
        deadline = time.monotonic() + WAIT_S
        while client.refused["the fleet key is refused: the old key and the new one did not both sign it"] < len(
            forged
        ):
            assert time.monotonic() < deadline, client.refused
            await asyncio.sleep(POLL_S)
        assert client.lineage.keys == keys


async def _every_run_is_certified_by(fleet: Fleet, newest: bytes) -> None:
    """Wait until each worker's newest certificate is signed by this key alone."""
    workers = len(fleet.members)
    found: set[bytes] = set()
    only = Lineage(f"dev-{fleet.prefix}", newest)
    async with fleet.tap(fleet.topics.intake) as tap:
        deadline = time.monotonic() + WAIT_S
        while len(found) < workers:
            assert time.monotonic() < deadline, f"{len(found)} of {workers} runs"
            await tap.read()
            for entry in tap.entries:
                if (entry.key or b"").startswith(b"certificate/"):
                    body = json.loads(entry.value or b"{}")
                    said = WorkerCertificate(
                        body["fleet"],
                        body["kid"],
                        _raw(body["public_key"]),
                        body["not_before_ms"],
                        body["not_after_ms"],
                    )
                    with suppress(BadSignature):  # an older key's
                        only.verify(_raw(body["signature"]), said.payload(), 0)
                        found.add(entry.key or b"")


async def _rows(fleet: Fleet) -> int:
    tables = await fleet.pool.fetch(
        "SELECT table_name AS name FROM information_schema.columns"
        " WHERE table_schema = 'keyriver' AND column_name = 'mac'"
    )
    counts = [await fleet.pool.fetchval(f"SELECT count(*) FROM keyriver.{row['name']}") for row in tables]  # noqa: S608
    return sum(counts)


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode()


def _raw(text: str) -> bytes:
    return b64decode(text)
