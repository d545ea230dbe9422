"""Whoever can write the ledger, which carries no MAC, gets no plaintext out of it and holds nobody back (S7)."""

import os
from collections.abc import Callable

import pytest

from tests.fleet import Fleet, House
from tests.scribe import Draft, Scribe
from worker.chain import blob
from worker.client.answers import Wrap
from worker.client.results import WrappedDek
from worker.model.bodies import WrapBody, WrapItem
from worker.model.operations import Operation, Permission

Outcomes = list[bytes | None]


def _asking(scribe: Scribe, house: House, items: int = 2, *, store: bool = True) -> Draft:
    body = WrapBody(key=house.key, items=[WrapItem()] * items, return_dek=True, store=store)
    return scribe.draft(Operation.WRAP, body.model_dump_json().encode(), plaintext=True)


async def _outcomes(fleet: Fleet, request_id: str) -> Outcomes:
    found: Outcomes = await fleet.pool.fetchval("SELECT outcomes FROM keyriver.ledger WHERE id = $1", request_id)
    return list(found)


async def _rewrite(fleet: Fleet, request_id: str, outcomes: Outcomes) -> None:
    await fleet.pool.execute("UPDATE keyriver.ledger SET outcomes = $2 WHERE id = $1", request_id, outcomes)


@pytest.mark.parametrize("store", [True, False], ids=["stored", "loose"])
async def test_another_ones_dek_is_not_replayed(fleet: Fleet, house: House, store: bool) -> None:
    """A client that may wrap and not unwrap, with a friend who can write the database."""
    bound = [{"account": "4711"}]
    (secret,) = await house.client.generate(house.key, contexts=bound, store=store, return_blob=True)
    assert isinstance(secret, WrappedDek)
    parsed = blob.parse(secret.blob or b"")
    mallory = await fleet.service(house.tenant, permissions=[Permission.WRAP])
    async with Scribe(fleet, mallory) as scribe:
        mine = _asking(scribe, house, 1, store=store)
        (own,) = (await scribe.ask(mine)).deks
        (kept,) = await _outcomes(fleet, mine.id)
        place = parsed.dek.bytes + parsed.key.bytes + parsed.version.to_bytes(4, "big")
        own_place = (kept or b"")[1:37]
        forged = [b"\2" + head + (secret.blob or b"") for head in (place, own_place)]
        for number, outcome in enumerate(forged, 2):
            await _rewrite(fleet, mine.id, [outcome])
            await scribe.send(mine)
            answer = (await scribe.answers(mine.id, number))[-1]
            assert answer.codes[0] in {"INTEGRITY", "UNWRAP_FAILED"} or answer.code, number
            assert secret.dek not in answer.deks
        await _rewrite(fleet, mine.id, [kept])
        await scribe.send(mine)
        assert (await scribe.answers(mine.id, len(forged) + 2))[-1].deks == [own]


async def test_the_outcomes_of_two_requests_are_not_exchanged(fleet: Fleet, house: House, scribe: Scribe) -> None:
    first, second = _asking(scribe, house), _asking(scribe, house)
    deks = [(await scribe.ask(draft)).deks for draft in (first, second)]
    kept = [await _outcomes(fleet, draft.id) for draft in (first, second)]
    await _rewrite(fleet, first.id, kept[1])
    await _rewrite(fleet, second.id, list(reversed(kept[1])))
    for draft in (first, second):
        await scribe.send(draft)
        answer = (await scribe.answers(draft.id, 2))[-1]
        assert answer.codes == ["INTEGRITY"] * 2
        assert not any(answer.deks)
    await _rewrite(fleet, first.id, kept[0])
    await scribe.send(first)
    assert (await scribe.answers(first.id, 3))[-1].deks == deks[0]


BROKEN: dict[str, Callable[[Outcomes], Outcomes]] = {
    "no outcomes": lambda _: [],
    "one too few": lambda kept: kept[:1],
    "one too many": lambda kept: [*kept, kept[0]],
    "empty": lambda kept: [b"", kept[1]],
    "unknown form": lambda kept: [b"\x7f" + os.urandom(40), kept[1]],
    "random": lambda kept: [os.urandom(100), kept[1]],
    "cut short": lambda kept: [(kept[0] or b"")[:20], kept[1]],
    "cut blob": lambda kept: [(kept[0] or b"")[:60], kept[1]],
    "a code that is none": lambda kept: [b"\1NO_SUCH_CODE", kept[1]],
    "a command's result": lambda kept: [b'\4{"tenant":"acme"}', kept[1]],
    "a rewrap's result": lambda kept: [b"\3\0" + (kept[0] or b"")[1:], kept[1]],
}


async def test_a_broken_entry_is_refused_and_harms_no_neighbour(fleet: Fleet, house: House, scribe: Scribe) -> None:
    said, drafts = len(fleet.members[0].log), {what: _asking(scribe, house) for what in BROKEN}
    for what, draft in drafts.items():
        await scribe.ask(draft)
        await _rewrite(fleet, draft.id, BROKEN[what](await _outcomes(fleet, draft.id)))
    neighbour = _asking(scribe, house)
    for draft in (*drafts.values(), neighbour):
        await scribe.send(draft, partition=0)
    assert (await scribe.answer(neighbour.id)).codes == ["", ""]
    refused = {what: (await scribe.answers(draft.id, 2))[-1] for what, draft in drafts.items()}
    assert {what: answer.code or answer.codes[0] for what, answer in refused.items()} == dict.fromkeys(
        BROKEN, "INTEGRITY"
    )
    assert "comes again" not in fleet.members[0].log[said:]


@pytest.mark.parametrize(
    "column",
    [
        "operation = 'rewrap'",
        "digest = ''",
        "operation = 'none of ours'",
        "operation = ''",
        "outcomes = ARRAY[outcomes, outcomes]",
    ],
)
async def test_an_entry_of_something_else_is_refused(fleet: Fleet, house: House, scribe: Scribe, column: str) -> None:
    draft = _asking(scribe, house)
    await scribe.ask(draft)
    await fleet.pool.execute(f"UPDATE keyriver.ledger SET {column} WHERE id = $1", draft.id)  # noqa: S608
    neighbour, said = _asking(scribe, house), len(fleet.members[0].log)
    await scribe.send(draft, partition=0)
    await scribe.send(neighbour, partition=0)
    answer = await scribe.answer(neighbour.id)
    assert [isinstance(one, Wrap) for one in answer.results] == [True, True]
    assert (await scribe.answers(draft.id, 2))[-1].code in {"ID_REUSED", "INTEGRITY"}
    assert "comes again" not in fleet.members[0].log[said:]
