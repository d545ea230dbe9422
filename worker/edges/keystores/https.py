"""One customer's HTTPS server: one exchange within a budget that counts TCP and TLS too.

No redirects, no proxies of the environment, no compression, bounded answers: nothing that the server says decides where
we go or how much we read.
"""

import asyncio
import ssl
from dataclasses import dataclass, field

import httpx

from worker.model.keystores import KeystoreUnreachable

LONGEST = 64 * 1024
"""Bytes of an answer; the largest that the specifications know is a tenth of it."""
_IDLE_S = 30.0
_TOLD = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body, and what `Retry-After` says in seconds (0: nothing)."""

    status: int
    body: bytes = field(repr=False)
    retry_after_s: float = 0.0


class Https:
    """Connections to one server, opened when they are needed."""

    def __init__(self, context: ssl.SSLContext, budget_s: float) -> None:
        self._context, self._budget_s = context, budget_s
        self._client: httpx.AsyncClient | None = None

    async def exchange(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """Ask once. Raises `KeystoreUnreachable` when no whole answer came within the budget."""
        try:
            async with asyncio.timeout(self._budget_s):
                return await self._exchange(method, url, headers, body)
        except TimeoutError:
            raise KeystoreUnreachable(f"no answer within {self._budget_s * 1000:.0f} ms") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            # Its request has the Authorization header: neither it nor a chain to it is kept.
            raise KeystoreUnreachable(f"{type(error).__name__}: {str(error)[:_TOLD]}") from None

    async def _exchange(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        async with self._open().stream(method, url, headers=headers, content=body) as answer:
            read = bytearray()
            async for piece in answer.aiter_raw():
                read += piece
                if len(read) > LONGEST:
                    raise KeystoreUnreachable(f"the answer is longer than {LONGEST} bytes")
            return Answer(answer.status_code, bytes(read), _seconds(answer.headers.get("retry-after", "")))

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=self._context,
                trust_env=False,
                follow_redirects=False,
                timeout=None,  # noqa: S113 - the budget bounds the whole exchange
                limits=httpx.Limits(keepalive_expiry=_IDLE_S),
                headers={"user-agent": "keyriver", "accept": "application/json", "accept-encoding": "identity"},
            )
        return self._client

    async def close(self) -> None:
        """Close the connections; the next exchange opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _seconds(text: str) -> float:
    """Retry-After in whole seconds; its form with a date is taken for none."""
    return float(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else 0.0  # noqa: PLR2004
