"""Hints are followed when the fleet signed them, and by nobody else's word."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker.chain.conclude import HINT, hint
from worker.edges.hsm.fake import FakeToken
from worker.flow.hints import FRESH_MS, Hints
from worker.flow.relay import Relay
from worker.model.effects import Announce
from worker.model.ids import moment_of
from worker.model.records import Entry, Outgoing, Partition, Undeliverable
from worker.ports import BusUnavailable
from worker.seal.announcements import WorkerCertificate, kid_of
from worker.seal.lineage import Lineage
from worker.seal.signatures import Ed25519Signer, Signer

KEY = UUID("01936120-0000-7000-8000-000000000001")
FLEET, NOW = "dev-hints", moment_of(KEY)


class Read:
    """A topic that holds what it was given."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

        self.is_silent = False

    def add(
        self, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = (), at_ms: int = NOW
    ) -> None:
        self.entries.append(Entry(Partition("hints", 0), len(self.entries), key, value, headers, at_ms))

    async def wait(self, seconds: float) -> list[Entry]:
        del seconds
        found, self.entries = self.entries, []
        return found

    async def catch_up(self) -> list[Entry]:
        if self.is_silent:
            raise BusUnavailable("the broker is silent")
        return await self.wait(0)


class Worker:
    """Says hints as the relay does."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes_raw()
        self.sent: list[Outgoing] = []

    @property
    def signer(self) -> Signer:
        return Ed25519Signer(kid_of(self.public), self.private)

    async def certificate(self, token: FakeToken, not_after_ms: int = NOW + 1000) -> tuple[bytes, bytes]:
        made = WorkerCertificate(FLEET, kid_of(self.public), self.public, NOW - 1000, not_after_ms)
        return made.record_key, made.to_json(await token.fleet_keys.sign(made.payload()))

    async def waiting(self, limit: int) -> list[Announce]:
        del limit
        return [Announce(KEY, HINT, "acme", hint([KEY]))]

    async def acknowledge(self, ids: Sequence[UUID]) -> None: ...

    async def publish(self, records: Sequence[Outgoing]) -> list[Undeliverable | None]:
        self.sent += records
        return [None] * len(records)

    async def said(self) -> Outgoing:
        await Relay(FLEET, "events", "hints", "sequences", self, self, self).turn()
        return self.sent[-1]


async def test_a_signed_hint_drops_the_handles() -> None:
    token, worker, said, certificates = FakeToken(), Worker(), Read(), Read()
    hints = Hints(FLEET, Lineage(FLEET, token.fleet_keys.signing_key), said, certificates, token.hsm, lambda: NOW)
    certificates.add(*await worker.certificate(token))
    record = await worker.said()
    assert record.topic == "hints"
    said.add(record.key, record.value, record.headers)
    assert await hints.turn() == 1
    assert token.hsm.dropped == [KEY]
    said.add(record.key, record.value, record.headers)
    assert await hints.turn() == 1, "a certificate is read once"


async def test_a_hint_that_is_said_again_much_later_is_not_followed() -> None:
    token, worker, said, certificates = FakeToken(), Worker(), Read(), Read()
    hints = Hints(FLEET, Lineage(FLEET, token.fleet_keys.signing_key), said, certificates, token.hsm, lambda: NOW)
    certificates.add(*await worker.certificate(token))
    record = await worker.said()
    said.add(record.key, record.value, record.headers, NOW + FRESH_MS)
    said.add(record.key, record.value, record.headers, NOW + FRESH_MS + 1)
    assert await hints.turn() == 1
    assert hints.refused == {"ValueError": 1}


async def test_hints_wait_while_the_broker_is_silent() -> None:
    token, worker, said, certificates = FakeToken(), Worker(), Read(), Read()
    hints = Hints(FLEET, Lineage(FLEET, token.fleet_keys.signing_key), said, certificates, token.hsm, lambda: NOW)
    certificates.add(*await worker.certificate(token))
    record = await worker.said()
    said.add(record.key, record.value, record.headers)
    said.add(record.key, record.value, record.headers)
    certificates.is_silent = True
    with pytest.raises(BusUnavailable):
        await hints.turn()
    certificates.is_silent = False
    assert await hints.turn() == 2


async def test_whoever_else_says_it_is_not_heard() -> None:
    token, worker, stranger, said, certificates = FakeToken(), Worker(), Worker(), Read(), Read()
    hints = Hints(FLEET, Lineage(FLEET, token.fleet_keys.signing_key), said, certificates, token.hsm, lambda: NOW)
    certificates.add(*await worker.certificate(token))
    certificates.add(*await stranger.certificate(FakeToken()))
    certificates.add(b"certificate/gone", None)
    certificates.add(b"intake/p256/1", b"{}")
    ours, others = await worker.said(), await stranger.said()
    said.add(ours.key, b'{"keys":[]}', ours.headers)  # another body
    said.add(ours.key, ours.value, tuple((name, b"x" if name == "ce_id" else text) for name, text in ours.headers))
    said.add(ours.key, ours.value, ())
    said.add(ours.key, ours.value, (("ce_id", b"\xff"),))
    said.add(others.key, others.value, others.headers)
    assert await hints.turn() == 0
    assert (token.hsm.dropped, hints.refused.total()) == ([], 5)
