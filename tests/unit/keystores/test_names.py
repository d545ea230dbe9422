"""Looking names up: one dead name server takes one thread of its own, however many ask, and nobody else waits."""

import asyncio
import os
import threading

import pytest

from worker.edges.keystores.names import Name, by_system


class NameServer:
    """Answers, or hangs until `alive` is set; counts the lookups."""

    def __init__(self, found: list[str]) -> None:
        self.found, self.alive, self.asked = found, threading.Event(), 0

    def look_up(self, host: str, port: int) -> list[str]:
        assert (host, port) == ("kms.acme.example", 443)
        self.asked += 1
        self.alive.wait()
        if not self.found:
            raise OSError("no such name")
        return self.found


def named(server: NameServer) -> Name:
    return Name("kms.acme.example", 443, server.look_up)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_itself(host: str) -> None:
    assert await Name(host, 443, lambda _host, _port: []).address() == host


async def test_the_system_knows_localhost() -> None:
    assert await Name("localhost", 443).address() in {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match=r"."):
        by_system("nobody.invalid", 443)


async def test_a_name_that_is_unknown() -> None:
    server = NameServer([])
    server.alive.set()
    with pytest.raises(OSError, match="no such name"):
        await named(server).address()


async def test_the_next_address_after_a_failure() -> None:
    server = NameServer(["192.0.2.1", "192.0.2.2"])
    server.alive.set()
    name = named(server)
    first = [await name.address(), await name.address()]
    name.failed()
    second = await name.address()
    name.failed()
    assert [*first, second, await name.address()] == ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1"]


async def test_dead_name_servers_hold_up_nobody() -> None:
    """More of them, and more askers, than the event loop's own pool has threads."""
    dead = [NameServer(["192.0.2.1"]) for _ in range((os.cpu_count() or 1) + 8)]
    names = [named(server) for server in dead]
    waiting = [asyncio.create_task(name.address()) for name in names for _ in range(8)]
    await asyncio.sleep(0)
    living = NameServer(["192.0.2.7"])
    living.alive.set()
    assert await named(living).address() == "192.0.2.7"
    assert not any(task.done() for task in waiting)
    assert await asyncio.to_thread(lambda: "free"), "the shared pool is nobody's"

    for task in waiting[::2]:
        task.cancel()  # their budgets are over
    for server in dead:
        server.alive.set()
    assert set(await asyncio.gather(*waiting[1::2])) == {"192.0.2.1"}
    assert {server.asked for server in dead} == {1}
