"""Looks for secrets in everything that a fleet leaves behind: raw, in hex, in base64, and as Python writes bytes."""

import io
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from tests.fleet import Fleet

BETWEEN = b"\n\0\n"
SECRET_FILES = frozenset({"pin", "so-pin", "alice.json", "bob.json", "dsn", "voices"})
"""What holds secrets by design, readable for its owner alone."""


def forms(secret: bytes) -> set[bytes]:
    """Every way in which it may stand somewhere. Base64 at each of the three places in a group of bytes."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()}
    for encode in (b64encode, urlsafe_b64encode):
        for before in range(3):
            text = encode(bytes(before) + secret)
            # The first character that is not whole depends on what stands before, the last on what stands after.
            whole = len(secret) + before
            found.add(text[(before * 8 + 5) // 6 : whole * 8 // 6])
    return found


def search(haystacks: Mapping[str, bytes], secrets: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """(medium, secret) for each secret that stands in a medium."""
    return {
        (medium, name)
        for name, secret in secrets.items()
        for form in forms(secret)
        for medium, hay in haystacks.items()
        if form in hay
    }


async def everything(fleet: Fleet, *more: str) -> dict[str, bytes]:
    """All media: logs and crash output, other files, topics (keys, values, headers), tables. `more`: other logs."""
    logs = [member.log_file for member in fleet.members]
    files = [
        path
        for path in fleet.folder.rglob("*")
        if path.is_file() and path not in logs and path.name not in SECRET_FILES and path.suffix != ".so"
    ]
    return {
        "logs": _files(logs) + BETWEEN + "\n".join(more).encode(),
        "files": _files(files),
        "topics": await _topics(fleet),
        "tables": await _tables(fleet),
    }


def _files(paths: Iterable[Path]) -> bytes:
    return BETWEEN.join(path.read_bytes() for path in paths)


async def _topics(fleet: Fleet) -> bytes:
    admin = AIOKafkaAdminClient(bootstrap_servers=fleet.services.kafka)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(f"{fleet.prefix}.")]
    finally:
        await admin.close()
    async with fleet.tap(*names) as tap:
        entries = await tap.to_end()
    parts = [
        part
        for entry in entries
        for part in (
            entry.key or b"",
            entry.value or b"",
            *(piece for n, v in entry.headers for piece in (n.encode(), v)),
        )
    ]
    return BETWEEN.join(parts)


async def _tables(fleet: Fleet) -> bytes:
    """Every table twice: as its bytes are, and as psql would show them."""
    found = await fleet.pool.fetch(
        """SELECT format('%I.%I', n.nspname, c.relname) AS name
           FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"""
    )
    parts = []
    async with fleet.pool.acquire() as connection:
        for (name,) in found:
            out = io.BytesIO()
            await connection.copy_from_query(f"SELECT * FROM {name}", output=out, format="binary")  # noqa: S608
            await connection.copy_from_query(f"SELECT * FROM {name}", output=out, format="csv")  # noqa: S608
            parts.append(out.getvalue())
    return BETWEEN.join(parts)
