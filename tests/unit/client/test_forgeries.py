"""S1 and S4: what the fleet did not say changes nothing; each forgery is counted, and the true answer still counts."""

import dataclasses
from collections.abc import Callable
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from tests.unit.client.fleet import FLEET, HOUR_MS, Asked, Fleet, MemoryTransport, a_worker, entry, now_ms
from tests.unit.client.test_client import KEY, the_dek
from worker.client import KeyriverClient, NoAnswer, NoIntakeKey, Options, WrappedDek
from worker.client.wire import SIGNATURE
from worker.model.bodies import WrapBody
from worker.model.codes import Code
from worker.model.records import Entry
from worker.model.replies import ERRORS, Reply, SealedReply
from worker.model.rows import Suite
from worker.seal import hpke
from worker.seal.claims import ReplyClaims
from worker.seal.signatures import ES256Signer, sign_jws

STRANGER = ES256Signer("fleet", generate_private_key(SECP256R1()))
PATIENCE = Options(patience_s=0.01)


def with_header(one: Entry, name: str, value: bytes | None) -> Entry:
    kept = tuple(pair for pair in one.headers if pair[0] != name)
    return dataclasses.replace(one, headers=kept if value is None else (*kept, (name, value)))


def good(fleet: Fleet, asked: Asked) -> Entry:
    return fleet.answer(asked)[0]


def unsigned(fleet: Fleet, asked: Asked) -> Entry:
    return with_header(good(fleet, asked), SIGNATURE, None)


def twice_signed(fleet: Fleet, asked: Asked) -> Entry:
    one = good(fleet, asked)
    return dataclasses.replace(one, headers=(*one.headers, (SIGNATURE, dict(one.headers)[SIGNATURE])))


def no_jws(fleet: Fleet, asked: Asked) -> Entry:
    return with_header(good(fleet, asked), SIGNATURE, b"\xff\xfe")


def no_header(fleet: Fleet, asked: Asked) -> Entry:
    return with_header(good(fleet, asked), SIGNATURE, b"nothing")


def uncertified(fleet: Fleet, asked: Asked) -> Entry:
    return fleet.reply(asked, *fleet.done.setdefault(asked.id, fleet._execute(asked)), worker=a_worker())


def changed_body(fleet: Fleet, asked: Asked) -> Entry:
    one = good(fleet, asked)
    return dataclasses.replace(one, value=(one.value or b"").replace(b'"version":1', b'"version":2'))


def another_type(fleet: Fleet, asked: Asked) -> Entry:
    return with_header(good(fleet, asked), "ce_type", b"keyriver.unwrap.v1.reply")


def of_another_request(fleet: Fleet, asked: Asked) -> Entry:
    other = dataclasses.replace(asked, digest=sha256(b"another").digest())
    return fleet.reply(other, *fleet._execute(asked))


def from_another_topic(fleet: Fleet, asked: Asked) -> Entry:
    other = dataclasses.replace(asked, headers={**asked.headers, "ce_replyto": "keyriver.replies.v2"})
    one = fleet.reply(other, *fleet._execute(asked))
    return dataclasses.replace(one, partition=dataclasses.replace(one.partition, topic="keyriver.replies.v1"))


def signed_value(fleet: Fleet, asked: Asked, value: bytes) -> Entry:
    claims = ReplyClaims(
        FLEET,
        asked.headers["ce_replyto"],
        asked.operation.reply_type,
        asked.id,
        asked.digest,
        sha256(value).digest(),
    )
    headers = {
        "ce_id": asked.id,
        "ce_type": asked.operation.reply_type,
        SIGNATURE: sign_jws(fleet.worker.signer, claims.payload()),
    }
    return entry(asked.headers["ce_replyto"], value, headers)


def no_body(fleet: Fleet, asked: Asked) -> Entry:
    return signed_value(fleet, asked, b"{}}")


def too_few(fleet: Fleet, asked: Asked) -> Entry:
    return fleet.reply(asked, [], [])


def deks_missing(fleet: Fleet, asked: Asked) -> Entry:
    return fleet.reply(asked, fleet._execute(asked)[0])


def deks_elsewhere(fleet: Fleet, asked: Asked) -> Entry:
    """A slot is full although its item failed, or the other way round."""
    results, _ = fleet._execute(asked)
    return fleet.reply(asked, results, [b""] * len(results))


def only_failures(fleet: Fleet, asked: Asked) -> Entry:
    """Genuine: nothing is sealed where nothing succeeded. It ends the call."""
    assert isinstance(asked.body, WrapBody)
    return fleet.reply(asked, [ERRORS[Code.NOT_FOUND]] * len(asked.body.items))


def another_suite(fleet: Fleet, asked: Asked) -> Entry:
    results, deks = fleet._execute(asked)
    other = hpke.generate_keypair(Suite.P256)
    sealed = hpke.seal(other.suite, other.public, b"", hpke.pack_slots(deks))
    body = Reply(results=results, sealed=SealedReply(suite=other.suite, ciphertext=sealed))
    return signed_value(fleet, asked, body.model_dump_json().encode())


def sealed_for_another_request(fleet: Fleet, asked: Asked) -> Entry:
    assert asked.recipient is not None
    results, deks = fleet._execute(asked)
    other = dataclasses.replace(asked, id="another")
    ciphertext = fleet._seal(other, asked.recipient, deks)
    body = Reply(results=results, sealed=SealedReply(suite=asked.recipient.suite, ciphertext=ciphertext))
    return signed_value(fleet, asked, body.model_dump_json().encode())


FORGERIES: list[tuple[Callable[[Fleet, Asked], Entry], str]] = [
    (unsigned, "unsigned"),
    (twice_signed, "unsigned"),
    (no_jws, "unsigned"),
    (no_header, "signature"),
    (changed_body, "signature"),
    (another_type, "type"),
    (of_another_request, "signature"),
    (from_another_topic, "signature"),
    (no_body, "body"),
    (too_few, "body"),
    (deks_missing, "seal"),
    (deks_elsewhere, "seal"),
    (another_suite, "seal"),
    (sealed_for_another_request, "seal"),
]


@pytest.mark.parametrize(("forge", "reason"), FORGERIES)
async def test_a_forged_answer_is_counted_and_the_true_one_still_counts(
    forge: Callable[[Fleet, Asked], Entry], reason: str
) -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet, lambda fleet, asked: [forge(fleet, asked), good(fleet, asked)])
    async with KeyriverClient(fleet.identity, transport) as keys:
        (made,) = await keys.generate(KEY)
        assert the_dek(made) == fleet.done[fleet.asked[0].id][1][0]
        assert keys.refused == {reason: 1}


async def test_where_nothing_succeeded_nothing_need_be_sealed() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet, lambda fleet, asked: [only_failures(fleet, asked)])
    async with KeyriverClient(fleet.identity, transport) as keys:
        assert [getattr(one, "code", "") for one in await keys.generate(KEY, 2)] == ["NOT_FOUND"] * 2


async def test_forgeries_alone_end_in_no_answer_that_counts_them() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet, lambda fleet, asked: [unsigned(fleet, asked), changed_body(fleet, asked)])
    async with KeyriverClient(fleet.identity, transport) as keys:
        with pytest.raises(NoAnswer) as none:
            await keys.generate(KEY, timeout_s=0.05)
    assert none.value.refused == {"unsigned": 1, "signature": 1}


async def test_a_replayed_answer_is_not_one_to_a_later_request() -> None:
    fleet = Fleet()

    def replay(fleet: Fleet, asked: Asked) -> list[Entry]:
        first = with_header(good(fleet, fleet.asked[0]), "ce_id", asked.id.encode())
        return [first, good(fleet, asked)]

    async with KeyriverClient(fleet.identity, MemoryTransport(fleet, replay)) as keys:
        (first,) = await keys.generate(KEY)
        (second,) = await keys.generate(KEY)
        assert the_dek(first) != the_dek(second)
        assert keys.refused == {"signature": 1}


async def test_an_answer_waits_for_its_certificate_but_not_for_ever() -> None:
    fleet = Fleet()
    newcomer = a_worker()

    def early(fleet: Fleet, asked: Asked) -> list[Entry]:
        fleet.done[asked.id] = fleet._execute(asked)
        transport.deliver(fleet.reply(asked, *fleet.done[asked.id], worker=newcomer))
        return []

    transport = MemoryTransport(fleet, early)
    async with KeyriverClient(fleet.identity, transport, PATIENCE) as keys:
        with pytest.raises(NoAnswer, match="unknown certificate"):
            await keys.generate(KEY, timeout_s=0.1)
        # Now the certificate comes after the answer, and before its patience ends.
        keys._sender._replies._patience_s = 3600
        transport.reaction = lambda fleet, asked: [*early(fleet, asked), *certify()]

        def certify() -> list[Entry]:
            transport.announce_soon(*fleet.certificate(newcomer))
            return []

        assert len(the_dek((await keys.generate(KEY))[0])) == 32


async def test_a_flood_of_unknown_names_is_bounded() -> None:
    fleet = Fleet()
    transport = MemoryTransport(
        fleet, lambda fleet, asked: [*[uncertified(fleet, asked) for _ in range(70)], good(fleet, asked)]
    )
    async with KeyriverClient(fleet.identity, transport) as keys:
        await keys.generate(KEY)
        assert keys.refused == {"unknown certificate": 6}


async def test_an_answer_under_an_expired_certificate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    async with KeyriverClient(fleet.identity, transport) as keys:
        await keys.generate(KEY)
        monkeypatch.setattr(keys._sender._replies, "_now_ms", lambda: now_ms() + 2 * HOUR_MS)
        with pytest.raises(NoAnswer, match="expired certificate"):
            await keys.generate(KEY, timeout_s=0.05)


async def test_forged_certificates_and_intake_keys_are_not_taken() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    newcomer = a_worker()
    name, genuine = fleet.certificate(newcomer)
    transport.announcements = [
        fleet.certificate(newcomer, by=STRANGER),
        (b"certificate/0000", genuine),
        (b"something/else", genuine),
        (name, genuine.replace(FLEET.encode(), b"dev-tset")),
        fleet.intake_key(9, by=STRANGER),
        (b"intake/unheard-of/1", b"{}"),
        fleet.certificate(a_worker(age_ms=2 * HOUR_MS)),
        fleet.intake_key(8, begin_ms=now_ms() - 2 * HOUR_MS),
        (b"certificate/x", b"\xff"),
    ]
    async with KeyriverClient(fleet.identity, transport, PATIENCE) as keys:
        transport.announce(name, None)
        assert keys.refused.total() == len(transport.announcements)
        with pytest.raises(NoIntakeKey):
            await keys.wrap(KEY, [bytes(32)])
        with pytest.raises(NoAnswer):
            await keys.generate(KEY, timeout_s=0.05)
    assert len(fleet.asked) == 1


async def test_an_older_intake_key_is_not_taken_after_a_newer_one() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    transport.announcements = [fleet.certificate(), fleet.intake_key(5), fleet.intake_key(4), fleet.intake_key(5)]
    async with KeyriverClient(fleet.identity, transport) as keys:
        assert keys.refused.total() == 1
        (made,) = await keys.wrap(KEY, [bytes(32)])
        assert isinstance(made, WrappedDek)
    body = fleet.asked[0].body
    assert isinstance(body, WrapBody)
    assert body.sealed is not None
    assert body.sealed.sequence == 5


async def test_a_key_that_is_announced_ahead_is_used_only_when_no_other_holds() -> None:
    fleet = Fleet()
    transport = MemoryTransport(fleet)
    soon = fleet.intake_key(2, begin_ms=now_ms() + 60_000)
    transport.announcements = [fleet.certificate(), fleet.intake_key(1), soon]
    async with KeyriverClient(fleet.identity, transport) as keys:
        await keys.wrap(KEY, [bytes(32)])
        transport.announcements = [fleet.certificate(), soon]
    async with KeyriverClient(fleet.identity, transport) as keys:
        await keys.wrap(KEY, [bytes(32)])
    sequences = [
        asked.body.sealed.sequence for asked in fleet.asked if isinstance(asked.body, WrapBody) and asked.body.sealed
    ]
    assert sequences == [1, 2]


async def test_no_secret_shows_in_what_prints() -> None:
    fleet = Fleet()
    async with KeyriverClient(fleet.identity, MemoryTransport(fleet)) as keys:
        (made,) = await keys.generate(KEY)
    shown = repr(made) + repr(fleet.identity) + repr(keys._sender._replies._calls)
    assert the_dek(made).hex() not in shown
    assert repr(the_dek(made)) not in shown
    with pytest.raises(TypeError, match="not pickled"):
        made.__reduce__()
