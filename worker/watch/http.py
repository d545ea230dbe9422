"""Three GET routes on asyncio alone: /livez, /readyz, /metrics.

A web framework would bring two dependencies and a second shutdown order for 80 lines. Each connection gets one answer
within bounded bytes and time, and connections are few, so a stuck scraper can't hold the worker.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from worker.watch.health import Check, Health

log = logging.getLogger(__name__)

HEAD_BYTES = 8192
TIMEOUT_S = 5.0
CONNECTIONS = 32
_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Failed",
    503: "Unavailable",
}

Answer = tuple[int, str, bytes]


@asynccontextmanager
async def serve_http(host: str, port: int, health: Health, metrics: Callable[[], bytes]) -> AsyncIterator[int]:
    """Serve for the time of the block; yields the port (for 0 a free one). Raises `OSError` if it is taken."""
    routes: dict[str, Callable[[], Answer]] = {
        "/livez": lambda: _said(health.live()),
        "/readyz": lambda: _said(health.ready()),
        "/metrics": lambda: (200, _METRICS, metrics()),
    }
    open_now: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(open_now) <= CONNECTIONS:
                await _serve(reader, writer, routes)
        finally:
            writer.transport.abort()  # nothing more is owed to who did not take his answer in time

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        open_now.add(task)
        task.add_done_callback(open_now.discard)

    server = await asyncio.start_server(accept, host, port, limit=HEAD_BYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(open_now):
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, routes: dict[str, Callable[[], Answer]]
) -> None:
    with suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        async with asyncio.timeout(TIMEOUT_S):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                head = b""
            status, kind, body = _answer(head, routes)
            told = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            writer.write(told.encode() + b"Cache-Control: no-store\r\nConnection: close\r\n\r\n")
            if not head.startswith(b"HEAD "):
                writer.write(body)
            writer.close()
            await writer.wait_closed()


def _answer(head: bytes, routes: dict[str, Callable[[], Answer]]) -> Answer:
    match head.split(b"\r\n", 1)[0].split(b" "):
        case [b"GET" | b"HEAD", target, version] if version.startswith(b"HTTP/1."):
            route = routes.get(target.split(b"?", 1)[0].decode("latin-1"))
        case [_, _, version] if version.startswith(b"HTTP/1."):
            return 405, _TEXT, b"GET only\n"
        case _:
            return 400, _TEXT, b"not a request\n"
    if route is None:
        return 404, _TEXT, b"/livez, /readyz or /metrics\n"
    try:
        return route()
    except Exception:
        log.exception("a health route failed")
        return 500, _TEXT, b"failed, see the log\n"


def _said(checks: Sequence[Check]) -> Answer:
    status = 503 if any(check.fault for check in checks) else 200
    return status, _TEXT, "".join(f"{check}\n" for check in checks).encode()
