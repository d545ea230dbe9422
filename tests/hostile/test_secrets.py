"""No secret is in a log, a topic, a table, a file or a crash: a run is searched for them all (invariants 1, 2)."""

import io
import json
import logging
import os
import re
import signal
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fleet import Fleet, House
from tests.hostile.forging import added
from tests.hostile.keyrack import are_true, identity_secrets, token_secrets
from tests.hostile.searching import everything, forms, search
from tests.hostile.talkative import MARK, VOICES, leaking, plain, redacting
from tests.scribe import Scribe
from tests.stack import Services
from worker.client import Envelope
from worker.client.results import Rewrapped, Unwrapped, WrappedDek
from worker.local import Token
from worker.model.bodies import (
    ClientListBody,
    ClientRevokeBody,
    ClientRotateBody,
    CommandBody,
    DekItem,
    KeyCreateBody,
    KeyListBody,
    KeyRotateBody,
    KeyShowBody,
    RewrapItem,
    WrapBody,
    WrapItem,
)
from worker.model.control import (
    ApprovalListBody,
    KeyDisableBody,
    KeyEnableBody,
    KeyResumeBody,
    KeySuspendBody,
)
from worker.model.operations import Operation
from worker.model.replies import DisableResult
from worker.model.rows import Algorithm
from worker.seal.identity import Identity

BOUND = {"table": "customers"}


@pytest.fixture(scope="module")
async def fleet(stack: Services, softhsm: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet of its own, everything about which is searched."""
    async with Fleet.founded(stack, tmp_path_factory.mktemp("secrets"), softhsm) as founded:
        yield founded


def test_the_search_knows_every_form() -> None:
    secret = os.urandom(32)
    for before in (b"", b"a", b"ab", b"abc"):
        for after in (b"", b"z", b"zz"):
            whole = before + secret + after
            texts = (
                whole,
                whole.hex().encode(),
                b64encode(whole),
                repr(whole).encode(),
                json.dumps(whole.hex()).encode(),
            )
            for text in texts:
                assert search({"here": b"x" + text + b"y"}, {"it": secret}) == {("here", "it")}
    assert not search({"here": os.urandom(100_000)}, {"it": secret})
    assert all(len(form) >= 16 for form in forms(os.urandom(16)))


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What the client library and its Kafka edge say at debug; not by `caplog`, whose report would have megabytes."""
    text, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


async def test_no_secret_is_anywhere(fleet: Fleet, said: io.StringIO) -> None:
    # Given a worker that logs all it can, without redaction, and one that takes over after it crashed
    voices = fleet.folder / "voices"
    vars(fleet)["env"] = {**fleet.env, VOICES: str(voices)}
    talker = fleet.start(born=plain)
    house = await fleet.tenant()

    # When every operation is done, and a worker crashes with plaintext in its hands
    secrets, people = await _every_operation(fleet, house)
    secrets |= await _crash(fleet, house)
    assert "Traceback" in talker.log
    assert "Crash: ('Plan(" in talker.log
    assert "Fatal Python error: Aborted" in talker.log
    assert "settling" in talker.log
    for member in fleet.members[1:]:
        assert await member.terminated() == 0

    # Then none of the secrets is in any medium
    for person in people:
        secrets |= identity_secrets(person)
    secrets |= await token_secrets(fleet)
    await are_true(fleet, secrets, {dek for name, dek in secrets.items() if name.startswith("dek of the crash")})
    secrets |= {f"voice {at}": voices.read_bytes()[at : at + 32] for at in range(0, voices.stat().st_size, 32)}
    secrets |= {path.name: path.read_bytes() for path in (fleet.token.pin_file, fleet.token.folder / "so-pin")}
    kinds = {name.split()[0] for name in secrets}
    assert kinds >= {"dek", "L2", "L3", "intake", "voice", "signing", "recipient", "pin", "so-pin"}
    assert search(await everything(fleet, said.getvalue()), secrets) == set()

    # And the search finds a planted one in each
    await _plant(fleet)
    found = search(await everything(fleet, f"{PLANTED.hex()}"), {"planted": PLANTED})
    assert found == {(medium, "planted") for medium in ("logs", "files", "topics", "tables")}
    for place, planted in SECRETS_BY_PLACE.items():
        assert search(await everything(fleet), {place: planted}), place


async def _every_operation(fleet: Fleet, house: House) -> tuple[dict[str, bytes], list[Identity]]:
    """Everything once; the DEKs in it, and the identities."""
    client, officer = house.client, await fleet.officer()
    other = f"{house.upper}/other"
    body = KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=other)
    await officer.command(Operation.KEY_CREATE, body)
    own = [os.urandom(size) for size in (16, 32, 64)]
    made = [
        *await client.generate(house.key, 3, contexts=[BOUND] * 3),
        *await client.generate(house.key, 2, contexts=[BOUND] * 2, store=False),
        *await client.wrap(house.key, own, contexts=[BOUND] * 3, return_blob=True),
    ]
    wrapped = [one for one in made if isinstance(one, WrappedDek)]
    assert len(wrapped) == 8
    for key in (house.tenant, house.upper, house.key):
        await officer.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=key))
    moved = await client.rewrap([RewrapItem(id=one.id) for one in wrapped[:3]])
    carried = await client.rewrap([RewrapItem(blob=one.blob) for one in wrapped[3:5]], to=other)
    assert all(isinstance(one, Rewrapped) for one in [*moved, *carried])
    blobs = [one.blob for one in carried if isinstance(one, Rewrapped)]
    items = [DekItem(id=one.id, context=BOUND) for one in wrapped if one.id] + [
        DekItem(blob=blob, context=BOUND) for blob in blobs
    ]
    back = [one.dek for one in await client.unwrap(items) if isinstance(one, Unwrapped)]
    assert sorted(back) == sorted([*(one.dek for one in wrapped[:5] if one.dek), *own])
    wrong = await client.unwrap([DekItem(id=wrapped[0].id, context={"table": "another"})])
    assert not isinstance(wrong[0], Unwrapped)
    envelope = Envelope(client, house.key)
    sealed = await envelope.encrypt(b"a customer's record", BOUND)
    assert await envelope.decrypt(sealed, BOUND) == b"a customer's record"
    people = await _people(fleet, house)
    await _control(fleet, house, other)
    reading: dict[Operation, CommandBody] = {
        Operation.APPROVAL_LIST: ApprovalListBody(),
        Operation.KEY_SHOW: KeyShowBody(tenant=house.tenant, key=house.key),
        Operation.KEY_LIST: KeyListBody(tenant=house.tenant),
        Operation.CLIENT_LIST: ClientListBody(tenant=house.tenant),
    }
    for operation, ask in reading.items():
        await officer.command(operation, ask)
    return {f"dek {number}": dek for number, dek in enumerate(back)}, people


async def _control(fleet: Fleet, house: House, key: str) -> None:
    """A version is suspended and resumed, a key stopped and started."""
    tenant = house.tenant
    await fleet.command(Operation.KEY_SUSPEND, KeySuspendBody(tenant=tenant, key=key))
    await fleet.command(Operation.KEY_RESUME, KeyResumeBody(tenant=tenant, key=key))
    stopped = await fleet.command(Operation.KEY_DISABLE, KeyDisableBody(tenant=tenant, key=key))
    assert isinstance(stopped, DisableResult)
    revision = stopped.key.disabled_revision or 0
    await fleet.command(Operation.KEY_ENABLE, KeyEnableBody(tenant=tenant, key=key, revision=revision))


async def _people(fleet: Fleet, house: House) -> list[Identity]:
    officer = await fleet.officer()
    new = [await fleet.service(house.tenant, algorithm=algorithm) for algorithm in Algorithm]
    key = new[0].signer().public_key
    rotation = ClientRotateBody(tenant=house.tenant, client=new[1].client, public_key=key)
    await fleet.command(Operation.CLIENT_ROTATE, rotation)
    await officer.command(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant=house.tenant, client=new[0].client))
    return [*fleet.officers, house.identity, *new]


async def _crash(fleet: Fleet, house: House) -> dict[str, bytes]:
    """Crash a worker while it answers; the DEKs that it had in its hands, as another one answers them."""
    async with Scribe(fleet, house.identity) as scribe:
        body = WrapBody(key=house.key, items=[WrapItem()] * 4, return_dek=True)
        draft = scribe.draft(Operation.WRAP, body.model_dump_json().encode(), plaintext=True)
        scribe.expect(draft)
        await fleet.send(added(*MARK)(draft.record()))
        talker = fleet.members[0]
        assert await talker.ended() == -signal.SIGABRT
        fleet.start(born=redacting)
        answer = await scribe.answer(draft.id)
        assert answer.codes == [""] * 4
        await fleet.caught_up()
        limits = Path(f"/proc/{fleet.members[-1].pid}/limits")
        if limits.exists():
            assert re.search(r"Max core file size +0 +0 ", limits.read_text()), "a crash would leave a core"
        return {f"dek of the crash {number}": dek for number, dek in enumerate(answer.deks)}


PLANTED = os.urandom(32)
SECRETS_BY_PLACE = {
    name: os.urandom(32)
    for name in ("value", "key", "header", "bytes", "text", "array", "log", "crash", "file", "base64 in bytes")
}


async def _plant(fleet: Fleet) -> None:
    """One secret in every medium, and one of its own in each place of every medium."""
    each = SECRETS_BY_PLACE
    for planted in (dict.fromkeys(each, PLANTED), each):
        value, key = b"{" + b64encode(b"ab" + planted["value"]) + b"}", b"k" + planted["key"]
        headers = [("x", planted["header"].hex().encode())]
        await fleet.producer.send_and_wait(fleet.topics.hints, value=value, key=key, headers=headers)
        await fleet.pool.execute(
            "INSERT INTO keyriver.outbox (id, type, tenant, body) VALUES (gen_random_uuid(), $1, 't', $2)",
            planted["text"].hex(),
            b"a" + planted["bytes"],
        )
        await fleet.pool.execute(
            """INSERT INTO keyriver.ledger (tenant, client, source, id, operation, digest, outcomes)
               VALUES ('t', 'c', 's', $1, 'wrap', '', $2)""",
            os.urandom(8).hex(),
            [None, b"\2" + planted["array"], b"{" + b64encode(b"a" + planted["base64 in bytes"])],
        )
        with fleet.members[-1].log_file.open("ab") as log:
            log.write(b"said " + repr(b"x" + planted["log"]).encode())
        (fleet.folder / f"core.{os.urandom(4).hex()}").write_bytes(os.urandom(100) + planted["file"])
        vars(fleet)["env"] = {**fleet.env, "HOSTILE_SECRET": planted["crash"].hex()}
        await fleet.start(born=leaking).ended()
