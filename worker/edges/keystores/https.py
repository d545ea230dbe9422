"""One customer's HTTPS server: one exchange within a budget that counts TCP and TLS too.

h11 reads and writes HTTP/1.1, asyncio the bytes: a whole HTTP client would bring five packages, and httpx leaks the
socket of a TLS handshake that is given up. No redirects, no proxies, no compression, bounded answers: nothing that the
server says decides where we go or how much we read.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from urllib.parse import urlsplit

import h11

from worker.edges.keystores.names import Name
from worker.model.keystores import KeystoreUnreachable

LONGEST = 64 * 1024
"""Bytes of an answer; the largest that the specifications know is a tenth of it."""
IDLE_S = 20.0
"""A connection that rested for longer is not used again: servers and load balancers drop them."""
_PORT = 443
_PIECE = 16 * 1024
_TOLD = 200
_OURS = {"user-agent": "keyriver", "accept": "application/json", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body, and what `Retry-After` says in seconds (0: nothing)."""

    status: int
    body: bytes = field(repr=False)
    retry_after_s: float = 0.0


class Https:
    """Connections to the server of one endpoint, opened when they are needed and kept while they are warm."""

    def __init__(self, endpoint: str, context: ssl.SSLContext, budget_s: float) -> None:
        """`endpoint` is a URL whose host and port count; `budget_s` bounds one exchange."""
        place = urlsplit(endpoint)
        host, port = place.hostname or "", place.port or _PORT
        self._name, self._context, self._budget_s = Name(host, port), context, budget_s
        self.authority = host if port == _PORT else f"{host}:{port}"
        """What the Host header says."""
        self._idle: list[_Connection] = []

    async def exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Ask once. Raises `KeystoreUnreachable` when no whole answer came within the budget."""
        told = {"host": self.authority, "content-length": str(len(body)), **_OURS, **headers}
        request = h11.Request(method=method, target=path, headers=list(told.items()))
        try:
            async with asyncio.timeout(self._budget_s):
                return await self._exchange(request, body)
        except TimeoutError:
            raise KeystoreUnreachable(f"no answer within {self._budget_s * 1000:.0f} ms") from None
        except (OSError, EOFError, UnicodeError, h11.RemoteProtocolError) as error:  # ssl.SSLError is an OSError
            raise KeystoreUnreachable(f"{type(error).__name__}: {str(error)[:_TOLD]}") from None

    async def _exchange(self, request: h11.Request, body: bytes) -> Answer:
        connection = self._rested() or await self._opened()
        try:
            answer = await connection.exchange(request, body)
            reusable = connection.rest()
        except BaseException:
            connection.abort()
            raise
        if reusable:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    def _rested(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_warm():
                return connection
            connection.abort()
        return None

    async def _opened(self) -> "_Connection":
        """Raises `OSError`."""
        address = await self._name.address()
        try:
            streams = await asyncio.open_connection(
                address, self._name.port, ssl=self._context, server_hostname=self._name.host
            )
        except BaseException:
            self._name.failed()
            raise
        return _Connection(*streams)

    async def close(self) -> None:
        """Close the connections that rest; the next exchange opens new ones."""
        while self._idle:
            self._idle.pop().abort()


class _Connection:
    """One exchange at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST)
        self._since = monotonic()

    def is_warm(self) -> bool:
        """Whether it may be used again; TLS closes our side when the other has closed his."""
        return not self._writer.is_closing() and monotonic() - self._since < IDLE_S

    async def exchange(self, request: h11.Request, body: bytes) -> Answer:
        """Send and read to the end. Raises what the connection raises; then it is of no more use."""
        for part in (request, h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self._http.send(part) or b"")
        await self._writer.drain()
        read = bytearray()
        response: h11.Response | None = None
        while True:
            match await self._next():
                case h11.Response() as head:
                    response = head
                case h11.Data(data=data):
                    read += data
                    if len(read) > LONGEST:
                        raise KeystoreUnreachable(f"the answer is longer than {LONGEST} bytes")
                case h11.EndOfMessage() if response is not None:
                    headers = dict(response.headers)
                    return Answer(response.status_code, bytes(read), _seconds(headers.get(b"retry-after", b"")))
                case h11.InformationalResponse():
                    pass
                case _:
                    raise EOFError("the connection was closed")

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_PIECE))
        return event

    def rest(self) -> bool:
        """Make ready for another exchange; False when the server is done with this connection."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._since = monotonic()
        return True

    def abort(self) -> None:
        """Close at once; nothing is owed to the other side."""
        self._writer.transport.abort()


def _seconds(text: bytes) -> float:
    """Retry-After in whole seconds; its form with a date is taken for none."""
    return float(text) if text.isdigit() and len(text) <= 4 else 0.0  # noqa: PLR2004
