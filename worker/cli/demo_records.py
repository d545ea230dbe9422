"""The demo's application: several instances, each with a client of its own, encrypting and decrypting records."""

from asyncio import gather
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from worker.client import BadEnvelope, Envelope, KeyriverClient, Options, RequestRefused
from worker.local.demo import Row

INSTANCES = 4
AT_ONCE = 16
"""Records that one instance has under way; what waits at the same time travels in one request."""
PATIENCE = Options(timeout_s=60.0)


def context_of(row: Row) -> dict[str, str]:
    """What the record's DEK is bound to. It differs from record to record, so each record has a DEK of its own."""
    return {"customer": row.name}


@asynccontextmanager
async def instances(identity: Path, bootstrap: str, key: str) -> AsyncIterator[list[Envelope]]:
    """One envelope each, with nothing remembered: what they read they have to ask for."""
    async with AsyncExitStack() as stack:
        clients = [KeyriverClient.connect(identity, bootstrap, PATIENCE) for _ in range(INSTANCES)]
        await gather(*map(stack.enter_async_context, clients))
        yield [Envelope(client, key) for client in clients]


async def encrypted(envelopes: Sequence[Envelope], rows: Sequence[Row], done: Callable[[], None]) -> list[Row]:
    """The records as envelopes, in order."""

    def with_one(envelope: Envelope) -> Callable[[Row], Awaitable[Row]]:
        async def encrypt(row: Row) -> Row:
            return Row(row.name, await envelope.encrypt(row.data, context_of(row)))

        return encrypt

    return await _shared([with_one(envelope) for envelope in envelopes], rows, done)


async def decrypted(envelopes: Sequence[Envelope], rows: Sequence[Row], done: Callable[[], None]) -> list[Row]:
    """The envelopes as records, in order."""

    def with_one(envelope: Envelope) -> Callable[[Row], Awaitable[Row]]:
        async def decrypt(row: Row) -> Row:
            return Row(row.name, await envelope.decrypt(row.data, context_of(row)))

        return decrypt

    return await _shared([with_one(envelope) for envelope in envelopes], rows, done)


async def refusal(envelope: Envelope, row: Row) -> str:
    """Why this does not decrypt; empty if it does."""
    try:
        await envelope.decrypt(row.data, context_of(row))
    except RequestRefused as refused:
        return refused.code
    except BadEnvelope as bad:
        return str(bad)
    return ""


async def _shared(
    work: Sequence[Callable[[Row], Awaitable[Row]]], rows: Sequence[Row], done: Callable[[], None]
) -> list[Row]:
    """Each instance takes the next record as soon as one of its own is done."""
    results: dict[int, Row] = {}
    left = iter(enumerate(rows))

    async def take(do: Callable[[Row], Awaitable[Row]]) -> None:
        for place, row in left:
            results[place] = await do(row)
            done()

    await gather(*[take(do) for do in work for _ in range(AT_ONCE)])
    return [results[place] for place in range(len(rows))]
