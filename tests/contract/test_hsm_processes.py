"""Several processes on one token: one L1 for all of them."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.contract.hsm_rig import (
    AAD,
    DIGEST,
    child,
    faults,
    generated,
    master,
    opened,
)
from worker.edges.hsm import Token, templates
from worker.edges.hsm.ck import (
    CKO_SECRET_KEY,
)
from worker.edges.hsm.crew import Crew
from worker.local import Token as LocalToken
from worker.model.hsm import CreateKey, CreateMaster, Fault, Kek, Purpose, WrapDek, Wrapping


@pytest.fixture(scope="module")
async def hsm_token(token: LocalToken) -> AsyncIterator[Token]:
    made = await opened(token)
    yield made
    await made.close()


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
