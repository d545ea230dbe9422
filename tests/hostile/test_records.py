"""A hostile record set among good traffic: the fleet goes on, the good is answered, and every record has its fate."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

from tests.fleet import Fleet, House
from tests.hostile.docket import Docket, rows
from tests.hostile.forging import added, anew, header, structured
from tests.scribe import SIGNATURE, Draft, Scribe
from worker.client.results import Unwrapped, WrappedDek
from worker.model.bodies import DekItem, RewrapBody, RewrapItem, UnwrapBody, WrapBody, WrapItem
from worker.model.fields import MAX_INT
from worker.model.operations import Operation
from worker.model.records import Outgoing
from worker.model.topics import REQUEST_LIMIT_BYTES, TOPIC_LIMIT_BYTES

MUTE, DEAD = "UNREADABLE", "UNAUTHENTICATED"
CHANCE = random.Random(20261124)  # noqa: S311 - the same rubbish in every run
MEGABYTE = 1024 * 1024
Buried = tuple[str, str, Outgoing]
Refused = tuple[str, str, Draft]


@dataclass
class Traffic:
    """What honest clients do meanwhile."""

    rounds: int = 0


@asynccontextmanager
async def good_traffic(house: House) -> AsyncIterator[Traffic]:
    """A client that generates and reads back without a pause; all of it must succeed, before, amid and after."""
    traffic, stop = Traffic(), asyncio.Event()

    async def work() -> None:
        while not stop.is_set():
            made = await house.client.generate(house.key, 3)
            ids = [one.id for one in made if isinstance(one, WrappedDek)]
            back = await house.client.unwrap([DekItem(id=one) for one in ids])
            assert [one.dek for one in back if isinstance(one, Unwrapped)] == [
                one.dek for one in made if isinstance(one, WrappedDek)
            ]
            assert len(back) == 3
            traffic.rounds += 1

    task = asyncio.create_task(work())
    try:
        yield traffic
        seen = traffic.rounds
        async with asyncio.timeout(60):
            while traffic.rounds < seen + 2 and not task.done():
                await asyncio.sleep(0.01)
    finally:
        stop.set()
    await task


async def test_the_fleet_goes_on_and_every_record_has_its_fate(
    docket: Docket, fleet: Fleet, house: House, scribe: Scribe
) -> None:
    before = await rows(fleet)
    async with good_traffic(house) as traffic:
        for what, code, record in unsigned(fleet, scribe, house):
            await docket.bury(what, code, record)
        for what, code, draft in signed(scribe, house):
            await docket.refuse(what, code, draft)
    await docket.closed()
    after = await rows(fleet)
    assert after["deks"] - before["deks"] == 3 * traffic.rounds
    assert {name: after[name] for name in ("keys", "versions", "aliases", "clients", "tenants")} == {
        name: before[name] for name in ("keys", "versions", "aliases", "clients", "tenants")
    }


def unsigned(fleet: Fleet, scribe: Scribe, house: House) -> Iterator[Buried]:
    """Records that no honest client sends."""
    topics = fleet.topics
    for topic in (topics.wrap, topics.unwrap, topics.rotate, topics.keys, topics.control, topics.rewrap):
        for size in (0, 1, 100, 100_000):
            yield f"{size} random bytes on {topic}", MUTE, Outgoing(topic, b"", CHANCE.randbytes(size), _noise())
        yield f"no value on {topic}", MUTE, Outgoing(topic, b"", None, ())
        yield f"5 MB on {topic}", MUTE, Outgoing(topic, b"k", CHANCE.randbytes(5 * MEGABYTE), ())
    yield "all that fits", MUTE, Outgoing(topics.wrap, None, b"x" * (TOPIC_LIMIT_BYTES - 4096), ())
    yield "a key of 5 MB", MUTE, Outgoing(topics.wrap, b"k" * 5 * MEGABYTE, b"", (), 0)
    yield "1,000 headers", MUTE, Outgoing(topics.wrap, None, b"", (("x", b""),) * 1000)
    yield "200,000 headers", MUTE, Outgoing(topics.wrap, None, b"", (("x", b""),) * 200_000)
    honest = _wrap(scribe, house).record()
    for name, _ in honest.headers:
        if name.startswith("ce_") and name != "ce_deadline":
            yield f"without {name}", MUTE, header(name, None)(_wrap(scribe, house).record())
        yield (
            f"no UTF-8 in {name}",
            MUTE if name != "content-type" else DEAD,
            header(name, b"\xff\xfe")(_with_id(_wrap(scribe, house).record(), name)),
        )
    for name in ("ce_id", "ce_source", "ce_client", "ce_tenant", "ce_type"):
        yield f"NUL in {name}", MUTE, header(name, b"a\0b")(honest)
        yield f"a long {name}", MUTE, header(name, b"a" * 2000)(honest)
    for name in ("ce_correlationid", "kafka_correlationId", "correlation_id"):
        yield f"a long {name}", MUTE, added(name, b"c" * 257)(_wrap(scribe, house).record())
    yield (
        "a signature of another request",
        DEAD,
        header(SIGNATURE, dict(honest.headers)[SIGNATURE])(_wrap(scribe, house).record()),
    )
    yield "a signature of zeros", DEAD, header(SIGNATURE, b"AAAA.." + b"A" * 86)(_wrap(scribe, house).record())
    yield "a long signature", DEAD, header(SIGNATURE, b"A" * 2000)(_wrap(scribe, house).record())
    yield from _structured(scribe, house)


def _with_id(record: Outgoing, name: str) -> Outgoing:
    """An unreadable content type means binary mode: such a record must fail by its signature, not by luck."""
    return header(SIGNATURE, None)(record) if name == "content-type" else record


def _noise() -> tuple[tuple[str, bytes], ...]:
    names = ["ce_id", "ce_type", "ce_source", "content-type", SIGNATURE, "x", "ce_", ""]
    return tuple((name, CHANCE.randbytes(20)) for name in CHANCE.sample(names, 3))


def _structured(scribe: Scribe, house: House) -> Iterator[Buried]:
    mine = _wrap(scribe, house)
    base = structured(mine)
    values = {
        "no JSON": b"{",
        "10,000 levels": b'{"data":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        "two ids": b'{"id":"a","id":"b"}',
        "NaN": b'{"specversion":"1.0","id":NaN}',
        "a huge integer": b'{"specversion":"1.0","id":' + b"9" * 100_000 + b"}",
        "5 MB of brackets": b"[" * 5 * MEGABYTE,
        "no text": b"\xff\xfe\xfd",
        "UTF-16": (base.value or b"").decode().encode("utf-16"),
    }
    for what, value in values.items():
        yield f"structured: {what}", MUTE, replace(base, value=value)
    yield "structured: data and data_base64", MUTE, structured(anew(mine), data={})
    for name, text in (("id", "\ud800"), ("client", "a\0b"), ("correlationid", "\udfff"), ("source", "s" * 300)):
        event = json.loads(base.value or b"") | {name: text}
        yield f"structured: {name}", MUTE, replace(base, value=json.dumps(event).encode())


def signed(scribe: Scribe, house: House) -> Iterator[Refused]:
    """Requests of an honest signer with bodies that no honest program writes."""
    key = f'"key":"{house.key}"'.encode()
    bodies = {
        "no bytes": (b"", "MALFORMED"),
        "random bytes": (CHANCE.randbytes(1000), "MALFORMED"),
        "10,000 levels": (b"[" * 10_000 + b"]" * 10_000, "TOO_DEEP"),
        "10,000 objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "TOO_DEEP"),
        "levels in a string": (b'{"key":"' + b"[" * 10_000 + b'","items":[{}]}', "MALFORMED"),
        "2 MB of brackets": (b"[" * (2 * MEGABYTE - 1000), "TOO_DEEP"),
        "2 MB of escapes": (b'{"key":"' + b'\\"' * (MEGABYTE - 1000), "MALFORMED"),
        "two keys": (b"{" + key + b"," + key + b',"items":[{}]}', "MALFORMED"),
        "a huge integer": (b"{" + key + b',"items":[{"bits":' + b"9" * 10_000 + b"}]}", "MALFORMED"),
        "NaN": (b"{" + key + b',"items":[{"bits":NaN}]}', "MALFORMED"),
        "infinity": (b"{" + key + b',"items":[{"bits":1e999}]}', "MALFORMED"),
        "half a surrogate pair": (b"{" + key + b',"items":[{"context":{"a":"\\ud800"}}]}', "MALFORMED"),
        "NUL in a key": (b'{"key":"a\\u0000","items":[{}]}', "MALFORMED"),
        "an alias of a million": (b'{"key":"' + b"a" * 1_000_000 + b'","items":[{}]}', "ALIAS_TOO_LONG"),
        "1,001 items": (b"{" + key + b',"items":[' + b",".join([b"{}"] * 1001) + b"]}", "TOO_MANY_ITEMS"),
        "600,000 items": (b"{" + key + b',"items":[' + b",".join([b"{}"] * 600_000) + b"]}", "TOO_MANY_ITEMS"),
        "17 entries": (_bound(house, {str(number): "" for number in range(17)}), "CONTEXT_TOO_LARGE"),
        "3 KB of context": (_bound(house, {"a": "x" * 3000}), "CONTEXT_TOO_LARGE"),
        "5 MB": (b" " * 5 * MEGABYTE, "TOO_LARGE"),
        "sealed to nobody": (_sealed(house, MAX_INT, b"x"), "INTAKE_KEY_UNKNOWN"),
        "sealed to no number": (_sealed(house, 2**63, b"x"), "MALFORMED"),
        "sealed to a huge number": (_sealed(house, 10**100, b"x"), "MALFORMED"),
    }
    for what, (body, code) in bodies.items():
        yield what, code, scribe.draft(Operation.WRAP, body)
    for what, code, sizes in (("short", "DEK_LENGTH", (0, 1, 15)), ("long", "DEK_LENGTH", (65, 128, 255))):
        yield f"{what} DEKs", code, scribe.wrapping(house.key, [bytes(size) for size in sizes])
    good = scribe.wrapping(house.key, [bytes(32)])
    sealed = json.loads(good.body)["sealed"]
    yield "more slots than items", "SEALED_UNREADABLE", _resealed(scribe, house, good, sealed, items=2)
    yield "sealed for another request", "SEALED_UNREADABLE", anew(good)
    for cut in ("", sealed["ciphertext"][:4], sealed["ciphertext"][:44], sealed["ciphertext"][:-4]):
        torn = _resealed(scribe, house, good, sealed | {"ciphertext": cut}, items=1)
        yield f"a seal of {len(cut)} characters", "SEALED_UNREADABLE", torn
    for blob in (b"", b"KR", CHANCE.randbytes(134), b"KR\1\1" + CHANCE.randbytes(2000)):
        moving = RewrapBody(items=[RewrapItem(blob=blob)]).model_dump_json(exclude_none=True).encode()
        yield f"rewrap of {len(blob)} bytes", "UNWRAP_FAILED", scribe.draft(Operation.REWRAP, moving)
    yield "an id that is none", "NOT_FOUND", _unwrap(scribe, [DekItem(id=uuid4())])


def _resealed(scribe: Scribe, house: House, like: Draft, sealed: dict[str, object], items: int) -> Draft:
    body = WrapBody.model_validate_json(json.dumps({"key": house.key, "items": [{}] * items, "sealed": sealed}))
    same_id = like.id if items > 1 else ""
    return scribe.draft(Operation.WRAP, body.model_dump_json().encode(), request_id=same_id)


def _sealed(house: House, sequence: int, ciphertext: bytes) -> bytes:
    return json.dumps(
        {"key": house.key, "items": [{}], "sealed": {"sequence": sequence, "ciphertext": ciphertext.hex() * 2}}
    ).encode()


def _bound(house: House, context: dict[str, str]) -> bytes:
    return json.dumps({"key": house.key, "items": [{"context": context}]}).encode()


def _wrap(scribe: Scribe, house: House) -> Draft:
    body = WrapBody(key=house.key, items=[WrapItem()]).model_dump_json().encode()
    return scribe.draft(Operation.WRAP, body)


def _unwrap(scribe: Scribe, items: list[DekItem]) -> Draft:
    body = UnwrapBody(items=items).model_dump_json(exclude_none=True).encode()
    return scribe.draft(Operation.UNWRAP, body, plaintext=True)


async def test_a_blob_of_every_length_and_with_any_byte_changed(house: House, scribe: Scribe) -> None:
    (made,) = await house.client.generate(house.key, store=False)
    assert isinstance(made, WrappedDek)
    blob = made.blob or b""
    torn = [blob[:length] for length in range(len(blob))] + [blob + bytes(more) for more in (1, 16, 1200, 100_000)]
    answer = await scribe.ask(_unwrap(scribe, [DekItem(blob=each) for each in torn]))
    assert answer.codes == ["UNWRAP_FAILED"] * len(torn)
    flipped = [blob[:at] + bytes((blob[at] ^ bit,)) + blob[at + 1 :] for at in range(len(blob)) for bit in (1, 128)]
    answer = await scribe.ask(_unwrap(scribe, [DekItem(blob=each) for each in [*flipped, blob]]))
    place = set(range(2 * 4, 2 * 24))  # key id and version: another key, which is not there
    assert answer.codes == ["NOT_FOUND" if at in place else "UNWRAP_FAILED" for at in range(len(flipped))] + [""]
    assert answer.deks[-1] == made.dek
    assert not any(answer.deks[:-1])


async def test_a_flood_of_unsigned_records_stops_nobody(
    docket: Docket, fleet: Fleet, house: House, scribe: Scribe
) -> None:
    """1,000 in one partition: dead letters keep their rate, the rest is noted, requests behind them are answered."""
    flood = [_flooding(fleet, number) for number in range(1000)]
    async with good_traffic(house):
        for part in range(0, 1000, 100):
            sent = await asyncio.gather(*(fleet.send(record) for record in flood[part : part + 100]))
            for record, (partition, offset) in zip(flood[part:], sent, strict=False):
                docket._dead[record.topic, partition, offset] = (record.topic, MUTE, record)
            behind = _wrap(scribe, house)
            await scribe.send(behind, partition=0)
            assert (await scribe.answer(behind.id)).codes == [""]
    await docket.closed()
    async with fleet.tap(f"{fleet.topics.wrap}.dlq") as graves:
        mine = [letter for letter in await graves.to_end() if letter.key == b"flood"]
    seconds = (max(letter.appended_ms for letter in mine) - min(letter.appended_ms for letter in mine)) / 1000
    assert len(mine) <= 50 * (seconds + 1) + 2
    assert fleet.members[0].is_running


def _flooding(fleet: Fleet, number: int) -> Outgoing:
    size = REQUEST_LIMIT_BYTES if number % 250 == 0 else 100
    return Outgoing(fleet.topics.wrap, b"flood", CHANCE.randbytes(size), (("ce_id", str(number).encode()),), 0)
