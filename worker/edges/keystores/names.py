"""Addresses of one host, looked up on a thread of its own.

The event loop would look names up on its shared pool of a few threads: one customer's dead name server would fill it,
and every other keystore would wait (S13). Here a name has one lookup at a time, whoever asks, and no other name waits.
"""

import asyncio
import socket
from _thread import start_new_thread
from collections.abc import Callable
from concurrent.futures import Future
from ipaddress import ip_address

LookUp = Callable[[str, int], list[str]]


def by_system(host: str, port: int) -> list[str]:
    """The system's resolver. Blocks, for as long as it likes. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Name:
    """One host name, or an address, which needs no lookup."""

    def __init__(self, host: str, port: int, look_up: LookUp = by_system) -> None:
        self.host, self.port, self._look_up = host, port, look_up
        self._literal = _is_address(host)
        self._lookup: Future[list[str]] | None = None
        self._turn = 0

    async def address(self) -> str:
        """Where to connect to now. Raises `OSError` when the name is unknown."""
        if self._literal:
            return self.host
        if self._lookup is None or self._lookup.done():
            self._lookup = Future()
            self._lookup.set_running_or_notify_cancel()  # whoever stops waiting leaves it running for the others
            start_new_thread(self._run, (self._lookup,))
        found = await asyncio.wrap_future(self._lookup)
        return found[self._turn % len(found)]

    def failed(self) -> None:
        """Nobody answered there: the next connection goes to the next address."""
        self._turn += 1

    def _run(self, lookup: Future[list[str]]) -> None:
        try:
            lookup.set_result(self._look_up(self.host, self.port))
        except Exception as error:  # noqa: BLE001 - carried to whoever asked
            lookup.set_exception(error)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
