"""The token away, keys used up, suites too weak, requests too late: each has its answer."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from tests.unit.flow_river.parts import NOW, Sent
from tests.unit.flow_river.rig import CARDS, PAYMENTS, TOPICS, Rig
from worker.client.answers import Unwrap, Wrap
from worker.edges.store.leases import ROTATION_STARTS
from worker.flow.uses import CHUNK, LIMIT
from worker.model.bodies import (
    ClientAddBody,
    DekItem,
    KeyRotateBody,
    RewrapBody,
    RewrapItem,
    TenantCreateBody,
    UnwrapBody,
    WrapBody,
    WrapItem,
)
from worker.model.hsm import HsmOp, HsmResult
from worker.model.operations import Operation
from worker.model.records import Verdict
from worker.model.requests import Recipient
from worker.model.rows import Suite
from worker.ports import TokenUnavailable
from worker.seal import hpke

WRAP = WrapBody(key=PAYMENTS, items=[WrapItem(), WrapItem()])


def wrap(rig: Rig, body: WrapBody = WRAP) -> Sent:
    return rig.draft(Operation.WRAP, body)


# The token is away.


async def test_without_the_token_items_are_deferred_and_done_when_it_is_back() -> None:
    rig = await Rig.made()
    await rig.ask(Operation.WRAP, WRAP)
    sent = wrap(rig)
    rig.token.away = True
    assert await rig.run(sent) == [Verdict.DONE]
    assert rig.told(sent)[0].codes == ["DEFERRED"] * 2
    rig.token.away = False
    rig.clock.ms += 1000
    again = rig.again(sent)
    await rig.run(again)
    assert rig.told(again)[0].codes == ["", ""]
    assert len(rig.memory.deks) == 4


async def test_without_the_token_nothing_that_is_not_verified_is_decided() -> None:
    """The client's row is remembered, the keys' rows are not."""
    rig = await Rig.made()
    await rig.ask(Operation.WRAP, WRAP)
    rig.memory.rows = {
        ref: replace(stored, mac=stored.mac[:-1]) if ref.table == "keys" else stored
        for ref, stored in rig.memory.rows.items()
    }
    rig.token.away = True
    sent = wrap(rig)
    await rig.run(sent)
    assert rig.told(sent)[0].code == "DEFERRED"
    rig.token.away = False
    again = rig.again(sent)
    await rig.run(again)
    assert rig.told(again)[-1].codes == ["INTEGRITY"] * 2


async def test_without_the_token_nobody_who_is_not_known_is_judged() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    rig.river = rig.worker()
    rig.token.away = True
    with pytest.raises(TokenUnavailable):
        await rig.run(sent)
    with pytest.raises(TokenUnavailable):
        await rig.river.bury(sent.record)
    assert rig.bus.entries(f"{TOPICS.wrap}.dlq") == []
    rig.token.away = False
    assert await rig.run(sent) == [Verdict.DONE]


def away_after(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token vanishes between the HSM's work and the rows' MACs."""
    run: Callable[..., Awaitable[list[HsmResult]]] = rig.token.hsm.run

    async def last(ops: list[HsmOp], timeout_s: float) -> list[HsmResult]:
        results = await run(ops, timeout_s)
        rig.token.away = True
        return results

    monkeypatch.setattr(rig.token.hsm, "run", last)


async def test_a_row_without_its_mac_is_not_written_and_its_neighbours_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig.made()
    await rig.ask(Operation.WRAP, WRAP)
    command = rig.draft(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key="acme"), rig.ann)
    neighbour = wrap(rig)
    rows = dict(rig.memory.rows)
    with monkeypatch.context() as patch:
        away_after(rig, patch)
        await rig.run(command, neighbour)
    assert rig.told(command)[0].codes == ["DEFERRED"]
    assert rig.told(neighbour)[0].codes == ["", ""]
    assert rig.memory.rows == rows
    rig.token.away = False
    rig.clock.ms += 1
    again = rig.again(command)
    await rig.run(again)
    assert rig.told(again)[0].codes == [""]
    assert len(rig.token.masters) == 2, "the object that was made is the one that is used"


async def test_sealed_deks_wait_for_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig.made()
    await rig.ask(Operation.WRAP, WRAP)
    mine = [b"a" * 32]
    sent = rig.draft(Operation.WRAP, rig.sealed(mine, "mine"), id_="mine")

    async def refuse(wrapped: bytes, aad: bytes) -> bytes:
        del wrapped, aad
        raise TokenUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(rig.token.fleet_keys, "unwrap_secret", refuse)
        await rig.run(sent)
    assert rig.told(sent)[0].code == "DEFERRED"
    rig.clock.ms += 1
    again = rig.again(sent)
    await rig.run(again)
    (made,) = rig.told(again)[0].results
    assert isinstance(made, Wrap)
    assert (await rig.ask(Operation.UNWRAP, UnwrapBody(items=[DekItem(id=made.id)]))).deks == mine


async def test_a_private_half_that_does_not_unwrap_is_an_integrity_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig.made()

    async def refuse(wrapped: bytes, aad: bytes) -> bytes:
        del wrapped, aad
        raise ValueError

    monkeypatch.setattr(rig.token.fleet_keys, "unwrap_secret", refuse)
    sent = rig.draft(Operation.WRAP, rig.sealed([b"a" * 32], "mine"), id_="mine")
    await rig.run(sent)
    assert rig.told(sent)[0].code == "INTEGRITY"


# What is sealed wrongly.


@pytest.mark.parametrize("wrong", ["id", "count", "bytes", "sequence"])
async def test_deks_that_were_sealed_for_something_else(wrong: str) -> None:
    rig = await Rig.made()
    body = rig.sealed([b"a" * 32, b"b" * 32], "other" if wrong == "id" else "mine")
    sealed = body.sealed
    assert sealed is not None
    if wrong == "count":
        body = body.model_copy(update={"items": body.items[:1]})
    if wrong == "bytes":
        body = body.model_copy(update={"sealed": sealed.model_copy(update={"ciphertext": b"x" * 80})})
    if wrong == "sequence":
        body = body.model_copy(update={"sealed": sealed.model_copy(update={"sequence": 7})})
    told = await rig.ask(Operation.WRAP, body, id_="mine")
    assert told.code == ("INTAKE_KEY_UNKNOWN" if wrong == "sequence" else "SEALED_UNREADABLE")
    assert rig.memory.deks == {}


async def test_a_dek_of_a_wrong_length_fails_alone() -> None:
    rig = await Rig.made()
    told = await rig.ask(Operation.WRAP, rig.sealed([b"a" * 32, b"b" * 15, b"c" * 64], "mine"), id_="mine")
    assert told.codes == ["", "DEK_LENGTH", ""]


async def test_an_intake_key_that_is_weaker_than_the_tenants_minimum() -> None:
    rig = await Rig.made()
    await rig.command(Operation.TENANT_CREATE, TenantCreateBody(tenant="strict", minimum_suite=Suite.MLKEM768_X25519))
    pair = hpke.generate_keypair(Suite.X25519)
    identity = replace(rig.billing, client="strict", tenant="strict", recipient=pair)
    body = ClientAddBody.model_validate(
        {
            "tenant": "strict",
            "client": "strict",
            "public_key": identity.signer().public_key,
            "permissions": ["wrap"],
            "reply_topics": [TOPICS.replies],
            "not_after_ms": NOW * 2,
        }
    )
    await rig.command(Operation.CLIENT_ADD, body)
    told = await rig.ask(Operation.WRAP, rig.sealed([b"a" * 32], "mine"), identity, "mine")
    assert told.code == "SUITE_TOO_WEAK"
    plain = WrapBody(key="strict", items=[WrapItem()], return_dek=True)
    assert (await rig.ask(Operation.WRAP, plain, identity)).code == "SUITE_TOO_WEAK"
    strong = hpke.generate_keypair(Suite.MLKEM768_X25519)
    allowed = replace(identity, recipient=strong)
    assert (await rig.ask(Operation.WRAP, plain, allowed)).codes == ["WRONG_PURPOSE"]


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31)])
async def test_nothing_is_sealed_to_a_point_of_small_order(public: bytes) -> None:
    rig = await Rig.made()
    body = WrapBody(key=PAYMENTS, items=[WrapItem()], return_dek=True)
    prepared = replace(wrap(rig, body).request, recipient=Recipient(Suite.X25519, public))
    sent = rig.signed(prepared, rig.billing)
    await rig.run(sent)
    assert rig.told(sent)[0].code == "MALFORMED"
    assert rig.memory.deks == {}


# Use counts (S10).


async def only_key(rig: Rig) -> tuple[object, int]:
    await rig.ask(Operation.WRAP, WRAP)
    return next(iter(rig.rows()))


async def test_a_version_that_is_used_up_wraps_no_more_and_the_next_one_does() -> None:
    rig = await Rig.made()
    place = await only_key(rig)
    rig.memory.uses[place] = LIMIT - CHUNK  # type: ignore[index]
    rig.river = rig.worker()
    told = await rig.ask(Operation.WRAP, WRAP)
    assert told.codes == ["", ""], "the last lease ends exactly at the limit"
    rig.river = rig.worker()
    both = WrapBody(key=CARDS, items=[WrapItem()])
    worn, fresh = wrap(rig), wrap(rig, both)
    await rig.run(worn, fresh)
    assert rig.told(worn)[0].codes == ["KEY_EXHAUSTED"] * 2
    assert rig.told(fresh)[0].codes == [""]
    made = [result for result in told.results if isinstance(result, Wrap)]
    unwrap = await rig.ask(Operation.UNWRAP, UnwrapBody(items=[DekItem(id=one.id) for one in made]))
    assert unwrap.codes == ["", ""], "unwrapping needs no nonce"
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS))
    assert (await rig.ask(Operation.WRAP, WRAP)).codes == ["", ""]


async def test_a_rewrap_uses_the_target_up() -> None:
    rig = await Rig.made()
    await only_key(rig)
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS))
    ((key, _),) = rig.rows()
    rig.memory.uses[key, 2] = LIMIT
    body = RewrapBody(items=[RewrapItem(id=dek) for dek in rig.memory.deks])
    assert (await rig.ask(Operation.REWRAP, body)).codes == ["KEY_EXHAUSTED"] * 2
    assert rig.rows() == rig.census() == {(key, 1): 2}


async def test_a_lazy_rewrap_leases_too_and_without_a_lease_the_dek_still_comes() -> None:
    rig = await Rig.made()
    (kept,) = (await rig.ask(Operation.WRAP, WrapBody(key=PAYMENTS, items=[WrapItem()], store=False))).results
    assert isinstance(kept, Wrap)
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS))
    body = UnwrapBody(items=[DekItem(blob=kept.blob)], rewrap=True)
    (told,) = (await rig.ask(Operation.UNWRAP, body)).results
    assert isinstance(told, Unwrap)
    assert (told.version, told.blob_version, rig.memory.uses[kept.key, 2]) == (1, 2, CHUNK)
    rig.memory.uses[kept.key, 2] = LIMIT
    rig.river = rig.worker()
    worn = await rig.ask(Operation.UNWRAP, body)
    (told,) = worn.results
    assert isinstance(told, Unwrap)
    assert (worn.codes, len(worn.deks[0]), told.blob) == ([""], 32, None)


async def test_the_lease_that_crosses_half_of_it_is_an_event_once() -> None:
    rig = await Rig.made()
    place = await only_key(rig)
    for uses in (ROTATION_STARTS - CHUNK - 1, ROTATION_STARTS - 1, ROTATION_STARTS):
        rig.memory.uses[place] = uses  # type: ignore[index]
        rig.river = rig.worker()
        await rig.ask(Operation.WRAP, WRAP)
    due = [event for event in rig.memory.outbox.values() if event.type == "keyriver.key.rotation-due.v1"]
    assert [(event.tenant, json.loads(event.body)["key"]) for event in due] == [("acme", str(place[0]))]


# Late requests.


async def test_a_deadline_that_passed_while_it_waited() -> None:
    rig = await Rig.made()
    sent = wrap(rig)
    rig.clock.ms += 60_001
    await rig.run(sent)
    assert rig.told(sent)[0].code == "DEADLINE_EXCEEDED"
    assert rig.memory.deks == {}


async def test_who_is_in_a_hurry_is_run_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await Rig.made()
    patience: list[float] = []
    run: Callable[..., Awaitable[list[HsmResult]]] = rig.token.hsm.run

    async def noted(ops: list[HsmOp], timeout_s: float) -> list[HsmResult]:
        patience.append(timeout_s)
        return await run(ops, timeout_s)

    monkeypatch.setattr(rig.token.hsm, "run", noted)
    calm = wrap(rig)
    hurried = rig.signed(replace(wrap(rig).request, deadline_ms=rig.clock.ms + 500), rig.billing)
    await rig.run(calm, hurried)
    assert sorted(patience) == [0.25, 1.0]
    assert rig.told(calm)[0].codes == rig.told(hurried)[0].codes == ["", ""]
