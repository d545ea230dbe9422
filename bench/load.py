"""A load of signed requests: made beforehand, sent as fast as wanted, answers counted and kept for checking."""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from time import perf_counter
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from worker.model.bodies import AnyBody
from worker.model.operations import Operation
from worker.model.records import Headers
from worker.seal.claims import RequestClaims
from worker.seal.identity import Identity
from worker.seal.signatures import sign_jws

ANSWER_BYTES = 8 * 1024 * 1024
BURST = 50


@dataclass(frozen=True, slots=True)
class Signed:
    """One request, ready to be sent."""

    id: str
    topic: str
    headers: Headers
    body: bytes


def signed(identity: Identity, prefix: str, operation: Operation, body: AnyBody, count: int) -> list[Signed]:
    """So many requests with this body, each with an id of its own."""
    signer, topic = identity.signer(), f"{prefix}.{operation.topic}"
    raw = body.model_dump_json(exclude_defaults=True, exclude_none=True).encode()
    digest, run = sha256(raw).digest(), os.urandom(6).hex()
    return [_signed(identity, signer, topic, operation, raw, digest, f"{run}-{number}") for number in range(count)]


def _signed(identity, signer, topic, operation, raw, digest, name) -> Signed:  # type: ignore[no-untyped-def]  # noqa: ANN001
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    claims = RequestClaims(
        fleet=identity.fleet,
        tenant=identity.tenant,
        client=identity.client,
        topic=topic,
        id=name,
        type=operation.request_type,
        source="bench",
        time=at,
        deadline="",
        reply_topic=identity.reply_topic,
        reply_partition=None,
        recipient=b"",
        body_sha256=digest,
    )
    texts = {
        "ce_specversion": "1.0",
        "ce_id": name,
        "ce_source": "bench",
        "ce_type": operation.request_type,
        "ce_time": at,
        "ce_tenant": identity.tenant,
        "ce_client": identity.client,
        "ce_replyto": identity.reply_topic,
        "content-type": "application/json",
        "keyriver-signature": sign_jws(signer, claims.payload()),
    }
    return Signed(name, topic, tuple((key, value.encode()) for key, value in texts.items()), raw)


@dataclass
class Load:
    """A producer and a reader of the reply topic."""

    bootstrap: str
    reply_topic: str
    answers: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    """By request id: seconds on the clock of `perf_counter`, and the body."""

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, max_request_size=ANSWER_BYTES, linger_ms=0, max_batch_size=1_048_576
        )
        self._consumer = AIOKafkaConsumer(
            self.reply_topic,
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="latest",
            max_partition_fetch_bytes=ANSWER_BYTES,
        )
        await self._producer.start()
        await self._consumer.start()
        for partition in self._consumer.assignment():
            await self._consumer.position(partition)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()
        await self._consumer.stop()

    async def closed(self, requests: Sequence[Signed], in_flight: int) -> float:
        """Keep so many in flight until all are answered; the seconds it took.

        Sent in batches made by hand: the client's side costs as little as it can, for it shares the cores.
        """
        room = asyncio.Semaphore(in_flight)

        async def feed() -> None:
            waiting = deque(requests)
            turn = 0
            while waiting:
                await room.acquire()
                burst = [waiting.popleft()]
                while waiting and len(burst) < BURST and not room.locked():
                    await room.acquire()
                    burst.append(waiting.popleft())
                turn += 1
                await self._send_burst(burst, turn)

        begun = perf_counter()
        feeding = asyncio.create_task(feed())
        await self._collect({request.id for request in requests}, room)
        await feeding
        return perf_counter() - begun

    async def _send_burst(self, burst: Sequence[Signed], turn: int) -> None:
        topic = burst[0].topic
        partitions = sorted(await self._producer.partitions_for(topic))
        left = list(burst)
        while left:
            batch = self._producer.create_batch()
            while left and self._append(batch, left[0]):
                left.pop(0)
            batch.close()
            await self._producer.send_batch(batch, topic, partition=partitions[turn % len(partitions)])

    @staticmethod
    def _append(batch: Any, request: Signed) -> bool:  # noqa: ANN401 - aiokafka is untyped
        done = batch.append(key=None, value=request.body, timestamp=None, headers=list(request.headers))
        return done is not None

    async def open(self, requests: Sequence[Signed], rate: float) -> list[float]:
        """Send at this rate whatever comes back; the round trips in seconds, from when each was due."""
        due: dict[str, float] = {}

        async def feed() -> None:
            begun = perf_counter()
            for number, request in enumerate(requests):
                due[request.id] = begun + number / rate
                pause = due[request.id] - perf_counter()
                if pause > 0:
                    await asyncio.sleep(pause)
                await self.send(request)

        feeding = asyncio.create_task(feed())
        await self._collect({request.id for request in requests}, None)
        await feeding
        return sorted(self.answers[name][0] - moment for name, moment in due.items())

    async def send(self, request: Signed) -> None:
        """Hand one request to the producer."""
        await self._producer.send(request.topic, request.body, key=os.urandom(4), headers=list(request.headers))

    async def listen(self) -> None:
        """Keep every answer, until cancelled."""
        while True:
            for name, at, value in await self._heard():
                self.answers[name] = (at, value)

    async def _collect(self, wanted: set[str], room: asyncio.Semaphore | None) -> None:
        while wanted:
            for name, at, value in await self._heard():
                if name in wanted:
                    wanted.discard(name)
                    self.answers[name] = (at, value)
                    if room is not None:
                        room.release()

    async def _heard(self) -> list[tuple[str, float, bytes]]:
        """What came: request id, when, and the body."""
        found = await self._consumer.getmany(timeout_ms=1000)
        at = perf_counter()
        return [
            (next(value.decode() for key, value in record.headers if key == "ce_id"), at, record.value)
            for records in found.values()
            for record in records
        ]
