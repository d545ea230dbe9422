"""The three routes over a real socket: right answers, and no client that can hurt."""

import asyncio
from contextlib import suppress

import pytest

from worker.watch import Check, Health, Pulse, http, serve_http


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def fetch(port: int, request: bytes) -> tuple[int, str]:
    """Status and body; status 0 when the server hung up without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with suppress(ConnectionError):
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
    writer.transport.abort()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]) if answer else 0, body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_health_tells_each_reason() -> None:
    clock, checks = Clock(), [Check("token"), Check("store")]
    health = Health([Pulse("lane control", lambda: 95.0, bound_s=30.0)], lambda: checks, clock)
    async with serve_http("127.0.0.1", 0, health, lambda: b"keyriver_x 1\n") as port:
        assert await fetch(port, get("/livez")) == (200, "lane control: ok\n")
        assert await fetch(port, get("/readyz")) == (200, "lane control: ok\ntoken: ok\nstore: ok\n")
        assert await fetch(port, get("/metrics?x=1")) == (200, "keyriver_x 1\n")
        checks[1] = Check("store", "connection refused")
        assert await fetch(port, get("/readyz")) == (503, "lane control: ok\ntoken: ok\nstore: connection refused\n")
        assert (await fetch(port, get("/livez")))[0] == 200, "a restart does not mend the store"
        clock.now = 126.0
        assert await fetch(port, get("/livez")) == (503, "lane control: has not turned for 31 s\n")
        assert (await fetch(port, get("/readyz")))[0] == 503


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /secret HTTP/1.1\r\n\r\n", 404),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"HEAD /livez HTTP/1.1\r\n\r\n", 200),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * 10_000, 400),
        (b"GET \xff\xfe HTTP/1.1\r\n\r\n", 404),
    ],
)
async def test_odd_requests_get_a_short_answer(request_: bytes, status: int) -> None:
    async with serve_http("127.0.0.1", 0, Health([], list, Clock()), bytes) as port:
        assert (await fetch(port, request_))[0] == status
        assert (await fetch(port, get("/livez")))[0] == 200


async def test_a_failing_route_is_an_answer_too() -> None:
    def broken() -> bytes:
        raise RuntimeError("no")

    async with serve_http("127.0.0.1", 0, Health([], list, Clock()), broken) as port:
        assert await fetch(port, get("/metrics")) == (500, "failed, see the log\n")


async def test_a_silent_client_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT_S", 0.05)
    async with serve_http("127.0.0.1", 0, Health([], list, Clock()), bytes) as port:
        assert await fetch(port, b"GET /livez HT") == (0, "")


async def test_silent_clients_are_bounded_and_do_not_hold_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS", 2)
    async with serve_http("127.0.0.1", 0, Health([], list, Clock()), bytes) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        while (await fetch(port, get("/livez")))[0]:  # until both are counted
            await asyncio.sleep(0)
    for _, writer in silent:
        writer.transport.abort()
    await asyncio.sleep(0)


async def test_a_taken_port_is_an_error() -> None:
    async with serve_http("127.0.0.1", 0, Health([], list, Clock()), bytes) as port:
        with pytest.raises(OSError, match="address already in use"):
            async with serve_http("127.0.0.1", port, Health([], list, Clock()), bytes):
                pass
