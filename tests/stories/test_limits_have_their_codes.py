"""What a request may not be: each limit has a code of its own, and the requests beside it are served."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.fleet import Fleet, House
from tests.scribe import MINUTE_MS, Answer, Draft, Scribe, now_ms
from worker.client.answers import Wrap
from worker.model.bodies import KeyCreateBody, SealedDeks, TenantCreateBody, WrapBody, WrapItem
from worker.model.codes import MEANINGS, Code
from worker.model.fields import Body
from worker.model.operations import Operation
from worker.model.rows import Suite

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
async def house(fleet: Fleet) -> House:
    """One tenant for all: whatever is refused changes nothing."""
    return await fleet.tenant()


@pytest.fixture(scope="module")
async def scribe(fleet: Fleet, house: House) -> AsyncIterator[Scribe]:
    async with Scribe(fleet, house.identity) as opened:
        yield opened


def _nested(levels: int) -> bytes:
    return b'{"key":' + b"[" * levels + b"]" * levels + b"}"


def _wrap(key: str, items: list[WrapItem] | None = None, **more: object) -> bytes:
    body = {"key": key, "items": items or [WrapItem()], **more}
    return WrapBody.model_validate(body).model_dump_json().encode()


def _bound(context: dict[str, str]) -> bytes:
    return b'{"key":"KEY","items":[{"context":' + json.dumps(context).encode() + b"}]}"


BODIES = {
    "no JSON": (b"{", "MALFORMED"),
    "no object": (b"[]", "MALFORMED"),
    "an unknown field": (b'{"key":"KEY","items":[{}],"surprise":1}', "MALFORMED"),
    "a name twice": (b'{"key":"KEY","key":"KEY","items":[{}]}', "MALFORMED"),
    "no items": (b'{"key":"KEY","items":[]}', "MALFORMED"),
    "a DEK of 100 bits": (b'{"key":"KEY","items":[{"bits":100}]}', "MALFORMED"),
    "an alias with spaces": (b'{"key":"the key","items":[{}]}', "MALFORMED"),
    "17 levels": (_nested(17), "TOO_DEEP"),
    "100,000 levels": (_nested(100_000), "TOO_DEEP"),
    "1,001 items": (b'{"key":"KEY","items":[' + b",".join([b"{}"] * 1001) + b"]}", "TOO_MANY_ITEMS"),
    "2 MB and a byte": (b'{"key":"KEY","items":[{}]}'.ljust(2 * MEGABYTE + 1), "TOO_LARGE"),
    "5 MB": (b'{"key":"KEY","items":[{}]}'.ljust(5 * MEGABYTE), "TOO_LARGE"),
    "an alias of 257": (_wrap("a" * 257), "ALIAS_TOO_LONG"),
    "an alias of a million": (_wrap("a" * 1_000_000), "ALIAS_TOO_LONG"),
    "17 context entries": (
        _bound({str(n): "" for n in range(17)}),
        "CONTEXT_TOO_LARGE",
    ),
    "a context over 2 KB": (_bound({"a": "b" * 2048}), "CONTEXT_TOO_LARGE"),
}


@pytest.mark.parametrize("what", BODIES)
async def test_a_body_over_a_limit(scribe: Scribe, house: House, what: str) -> None:
    # Given a request with such a body, When it is asked, Then the code says what is wrong
    body, code = BODIES[what]
    answer = await scribe.ask(scribe.draft(Operation.WRAP, body.replace(b'"KEY"', f'"{house.key}"'.encode())))
    assert answer.code == code
    assert answer.error is not None
    assert (answer.error.message, answer.error.retry) == (MEANINGS[Code(code)].message, False)


async def test_a_request_at_its_limits_is_served(scribe: Scribe, house: House) -> None:
    # Given the most items, each with the most context that the size of a request leaves room for
    items = [WrapItem(context={f"{n:02}": "x" * 60 for n in range(16)}) for _ in range(1000)]
    # When they are asked, Then all are served
    answer = await scribe.ask(scribe.draft(Operation.WRAP, _wrap(house.key, items=items)))
    assert not answer.code
    assert not any(answer.codes)
    assert len(answer.results) == 1000


async def test_times(scribe: Scribe, house: House) -> None:
    # Given requests whose signed time or deadline is wrong, When they are asked, Then each is refused with its code
    def at(time_ms: int, deadline_ms: int | None) -> Draft:
        return replace(scribe.draft(Operation.WRAP, _wrap(house.key)), time_ms=time_ms, deadline_ms=deadline_ms)

    now = now_ms()
    wrong = {
        "DEADLINE_EXCEEDED": at(now, now - 1),
        "DEADLINE_TOO_FAR": at(now, now + 11 * MINUTE_MS),
        "STALE": at(now - 6 * MINUTE_MS, None),
    }
    for code, draft in wrong.items():
        assert (await scribe.ask(draft)).code == code
    assert (await scribe.ask(at(now + 6 * MINUTE_MS, None))).code == "STALE"
    # And four minutes of difference, or no deadline, are none of these
    assert not (await scribe.ask(at(now - 4 * MINUTE_MS, None))).code


async def test_what_is_sealed_must_open_and_fit(scribe: Scribe, house: House) -> None:
    # Given DEKs of the caller's that are too short, too long, and just right
    answer = await scribe.ask(scribe.wrapping(house.key, [b"s" * 15, b"l" * 65, b"a" * 16, b"b" * 64]))
    assert answer.codes == ["DEK_LENGTH", "DEK_LENGTH", "", ""]

    # And sealed parts that are not for this request, for no key, or of another number
    good = scribe.wrapping(house.key, [b"k" * 32])
    assert (await scribe.ask(replace(good, id=str(uuid4())))).code == "SEALED_UNREADABLE"
    unknown = SealedDeks(sequence=999_999, ciphertext=b"c" * 80)
    assert await _code(scribe, _wrap(house.key, sealed=unknown)) == "INTAKE_KEY_UNKNOWN"
    more = WrapBody.model_validate_json(good.body).model_copy(update={"items": [WrapItem(), WrapItem()]})
    assert (await scribe.ask(replace(good, body=more.model_dump_json().encode()))).code == "SEALED_UNREADABLE"


async def test_keys_that_do_not_serve(fleet: Fleet, scribe: Scribe, house: House) -> None:
    # Given keys of another purpose, of nobody, and beyond the chain
    async def item_code(key: str) -> str:
        (code,) = (await scribe.ask(scribe.draft(Operation.WRAP, _wrap(key)))).codes
        return code

    assert await item_code(house.upper) == "WRONG_PURPOSE"
    assert await item_code(f"{house.tenant}/none") == "NOT_FOUND"
    assert await item_code(str(uuid4())) == "NOT_FOUND"
    # When a service commands, Then it is not found; an officer learns why a command can't be
    creating = KeyCreateBody(tenant=house.tenant, parent=house.key, alias=f"{house.key}/below")
    assert await _code(scribe, creating.model_dump_json().encode(), Operation.KEY_CREATE) == "NOT_FOUND"
    async with Scribe(fleet, fleet.officers[0]) as officer:
        commands: dict[str, tuple[Operation, Body]] = {
            "WRONG_LAYER": (Operation.KEY_CREATE, creating),
            "EXISTS": (Operation.KEY_CREATE, creating.model_copy(update={"parent": house.tenant, "alias": house.key})),
            "MALFORMED": (Operation.KEY_CREATE, creating.model_copy(update={"alias": "elsewhere/key"})),
        }
        for code, (operation, body) in commands.items():
            answer = await officer.ask(officer.draft(operation, body.model_dump_json().encode()))
            assert _why(answer) == code
        again = TenantCreateBody(tenant=house.tenant).model_dump_json().encode()
        assert _why(await officer.ask(officer.draft(Operation.TENANT_CREATE, again))) == "EXISTS"
        assert _why(await officer.ask(officer.draft(Operation.WRAP, _wrap(house.key)))) == "NOT_FOUND"


async def test_a_tenant_that_demands_a_hybrid_suite(fleet: Fleet) -> None:
    # Given a tenant whose minimum is MLKEM768-X25519, and a client with an X25519 recipient key
    officer = await fleet.officer()
    name = f"t{uuid4().hex[:10]}"
    hybrid = TenantCreateBody(tenant=name, layers=2, minimum_suite=Suite.MLKEM768_X25519)
    await officer.command(Operation.TENANT_CREATE, hybrid)
    await officer.command(Operation.KEY_CREATE, KeyCreateBody(tenant=name, parent=name, alias=f"{name}/k"))
    async with Scribe(fleet, await fleet.service(name)) as scribe:
        # When plaintext is to travel under the weaker suite, either way, Then it is refused
        asking = scribe.draft(Operation.WRAP, _wrap(f"{name}/k", return_dek=True), plaintext=True)
        assert (await scribe.ask(asking)).code == "SUITE_TOO_WEAK"
        assert (await scribe.ask(scribe.wrapping(f"{name}/k", [b"k" * 32]))).code == "SUITE_TOO_WEAK"
        # And where none travels, it is not
        (made,) = (await scribe.ask(scribe.draft(Operation.WRAP, _wrap(f"{name}/k")))).results
        assert isinstance(made, Wrap)


async def _code(scribe: Scribe, body: bytes, operation: Operation = Operation.WRAP) -> str:
    return _why(await scribe.ask(scribe.draft(operation, body)))


def _why(answer: Answer) -> str:
    return answer.code or answer.codes[0]
