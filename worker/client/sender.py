"""Turns orders and commands into requests: an id, the final bytes, DEKs sealed to the fleet, and the call."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from worker.client.answers import Result
from worker.client.calls import Calls, Outcome
from worker.client.errors import BusRefused, RequestRefused
from worker.client.news import News
from worker.client.options import Options
from worker.client.orders import Order
from worker.client.replies import Replies
from worker.client.transport import Transport
from worker.client.trust import Trust
from worker.client.wire import Letterhead, Prepared
from worker.model.bodies import CommandBody, SealedDeks
from worker.model.codes import Code
from worker.model.fields import Body
from worker.model.ids import uuid7
from worker.model.operations import Operation
from worker.model.requests import Recipient
from worker.model.topics import REQUEST_LIMIT_BYTES, Topics
from worker.seal import hpke
from worker.seal.announcements import IntakeAnnouncement
from worker.seal.identity import Identity

_I = TypeVar("_I")
_R = TypeVar("_R")
_RANDOM_BITS = 74
HEADERS_BYTES = 8 * 1024
"""More than the key and the headers of a request take, the largest recipient key included: the limit counts them."""


def now_ms() -> int:
    """Unix milliseconds: signed times are compared with the broker's."""
    return time.time_ns() // 1_000_000


class Sender:
    """Requests of one identity over one transport."""

    def __init__(self, identity: Identity, transport: Transport, options: Options) -> None:
        self._identity = identity
        self._transport = transport
        self._options = options
        self._recipient = Recipient(identity.recipient.suite, identity.recipient.public)
        self.trust = trust = Trust(identity.fleet, identity.fleet_key)
        self._replies = Replies(identity, trust, now_ms, options.patience_s)
        self._news = News(trust, self._replies, now_ms, options.patience_s)
        self._calls: Calls | None = None

    async def start(self) -> None:
        """Listen, and only then be ready to send. Raises `BusDown` or `BusRefused`."""
        identity, prefix = self._identity, self._options.prefix
        partition = await self._transport.start(
            identity.reply_topic, Topics(prefix).intake, self._replies.take, self._news.take
        )
        head = Letterhead(
            fleet=identity.fleet,
            tenant=identity.tenant,
            client=identity.client,
            prefix=prefix,
            reply_topic=identity.reply_topic,
            reply_partition=partition,
            signer=identity.signer(),
        )
        self._calls = Calls(head, self._transport, self._replies, self._options.pace, now_ms)

    async def stop(self) -> None:
        """Send nothing more."""
        self._calls = None
        await self._transport.stop()

    @property
    def refused(self) -> Counter[str]:
        """Refused answers and announcements, by reason."""
        return self._replies.refused + self._news.refused

    async def send(self, order: Order[_I, _R], items: Sequence[_I]) -> list[Outcome]:
        """One request for these items; more than one if it would be over the limit."""
        if not order.brings_deks:
            return await self._request(order, items, None)
        intake = await self._news.intake_key(self._recipient.suite)
        try:
            return await self._request(order, items, intake)
        except RequestRefused as refusal:
            if refusal.code != Code.INTAKE_KEY_UNKNOWN:
                raise
        # The key rotated away under us. It was sent once (else this is `NoAnswer`), so nothing was done: seal to the
        # successor, as a new request.
        return await self._request(order, items, await self._news.intake_key(self._recipient.suite, intake.sequence))

    async def command(self, operation: Operation, body: CommandBody, timeout_s: float) -> Result:
        """The one result of a command."""
        names = (getattr(body, name, None) for name in ("key", "alias", "client", "tenant"))
        place = next((name for name in names if name), "")
        request = self._prepare(operation, _new_id(), place, _encode(body), items=1, timeout_s=timeout_s)
        ((result, _),) = await self._ask(request)
        return result

    async def _request(
        self, order: Order[_I, _R], items: Sequence[_I], intake: IntakeAnnouncement | None
    ) -> list[Outcome]:
        request_id = _new_id()

        def seal(deks: Sequence[bytes]) -> SealedDeks:
            assert intake is not None  # noqa: S101 - `send` found one for orders that bring DEKs
            return self._seal(order.operation, request_id, intake, deks)

        body = _encode(order.body(items, seal))
        if len(body) + HEADERS_BYTES > REQUEST_LIMIT_BYTES and len(items) > 1:
            middle = len(items) // 2
            halves = await asyncio.gather(
                self._request(order, items[:middle], intake), self._request(order, items[middle:], intake)
            )
            return [*halves[0], *halves[1]]
        request = self._prepare(
            order.operation,
            request_id,
            order.place or request_id,
            body,
            items=len(items),
            timeout_s=order.timeout_s,
            recipient=self._recipient if order.wants_plaintext else None,
        )
        return await self._ask(request)

    def _prepare(
        self,
        operation: Operation,
        request_id: str,
        place: str,
        body: bytes,
        *,
        items: int,
        timeout_s: float,
        recipient: Recipient | None = None,
    ) -> Prepared:
        return Prepared(
            operation=operation,
            id=request_id,
            key=f"{self._identity.tenant}/{place}".encode(),
            body=body,
            items=items,
            recipient=recipient,
            deadline_ms=now_ms() + int(timeout_s * 1000),
        )

    async def _ask(self, request: Prepared) -> list[Outcome]:
        if self._calls is None:
            raise BusRefused("the client is not open: use it in `async with`")
        return await self._calls.ask(request)

    def _seal(
        self, operation: Operation, request_id: str, intake: IntakeAnnouncement, deks: Sequence[bytes]
    ) -> SealedDeks:
        info = hpke.info(
            "request",
            intake.suite,
            self._identity.fleet,
            self._identity.tenant,
            self._identity.client,
            operation.value,
            request_id,
            intake.public_key,
        )
        sealed = hpke.seal(intake.suite, intake.public_key, info, hpke.pack_slots(deks))
        return SealedDeks(sequence=intake.sequence, ciphertext=sealed)


def _encode(body: Body) -> bytes:
    return body.model_dump_json(exclude_defaults=True).encode()


def _new_id() -> str:
    return str(uuid7(now_ms(), secrets.randbits(_RANDOM_BITS)))
