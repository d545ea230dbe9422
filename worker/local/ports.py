"""TCP ports of one stack: chosen once, remembered in the data directory, so that two checkouts run side by side."""

import json
import random
import socket
from pathlib import Path

CHOICE = (15000, 32000)
"""Below the ports that systems give to outgoing connections (from 32768 on Linux, 49152 on macOS). While a part is
down, such a connection could take its port: even that of a client that is waiting for it, which may connect to itself
(TCP's simultaneous open)."""


def remembered(file: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Return a port for each name: the remembered one, or a free one that is remembered from now on."""
    try:
        known: dict[str, int] = json.loads(file.read_text())
    except FileNotFoundError:
        known = {}
    missing = [name for name in names if name not in known]
    if missing:
        known |= dict(zip(missing, free(len(missing)), strict=True))
        file.write_text(json.dumps(known))
    return {name: known[name] for name in names}


def forget_taken(file: Path) -> None:
    """Forget the remembered ports that somebody else listens on by now. Call it only while our own part is down."""
    if file.exists():
        known: dict[str, int] = json.loads(file.read_text())
        file.write_text(json.dumps({name: port for name, port in known.items() if not _taken(port)}))


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free(count: int) -> list[int]:
    """Return ports nobody listens on now; held open together, so that no two are the same."""
    held: dict[int, socket.socket] = {}
    try:
        for port in random.sample(range(*CHOICE), 50 * count):
            one = socket.socket()
            held[port] = one
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                held.pop(port).close()
            if len(held) == count:
                break
        return list(held)
    finally:
        for one in held.values():
            one.close()
