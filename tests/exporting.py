"""What the holder of the PIN can do (SECURITY S6): the bytes of L2 and L3 keys, for a test that searches for them.

`python -m tests.exporting MODULE LABEL PIN_FILE`: rows of keys come as JSON on standard input, hex goes out. A process
of its own, for a module reads its configuration once.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pkcs11

from tests.stack import CHECKOUT
from worker.local import Token

ROWS = """SELECT v.key::text, v.number, v.wrapped, v.parent_version, v.material, k.parent::text, k.layer
          FROM keyriver.versions AS v JOIN keyriver.keys AS k ON k.id = v.key ORDER BY k.layer"""


async def exported(pool: asyncpg.Pool, token: Token) -> list[bytes]:
    """Every L2 and L3 version of a fleet, in the clear."""
    rows = [
        {**dict(row), "wrapped": row["wrapped"].hex(), "material": row["material"] and row["material"].hex}
        for row in await pool.fetch(ROWS)
    ]
    command = [sys.executable, "-m", "tests.exporting", str(token.module), token.label, str(token.pin_file)]
    done = subprocess.run(
        command,
        input=json.dumps(rows).encode(),
        env=os.environ | token.env,
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    )
    return [bytes.fromhex(text) for text in done.stdout.decode().split()]


def export(module: str, label: str, pin: str, rows: Sequence[dict[str, str | int | None]]) -> list[bytes]:
    """Unwrap each key under its parent, extractable and readable, from the top down; L1 never leaves the token."""
    session = pkcs11.lib(module).get_token(token_label=label).open(rw=True, user_pin=pin)
    opened: dict[tuple[object, object], Any] = {}
    found = []
    for row in rows:
        place = row["key"], row["number"]
        if row["material"] is not None:
            opened[place] = next(iter(session.get_objects({pkcs11.Attribute.LABEL: row["material"]})))
            continue
        opened[place] = opened[row["parent"], row["parent_version"]].unwrap_key(
            pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.KeyType.AES,
            bytes.fromhex(str(row["wrapped"])),
            mechanism=pkcs11.Mechanism.AES_KEY_WRAP_PAD,
            template={
                pkcs11.Attribute.EXTRACTABLE: True,
                pkcs11.Attribute.SENSITIVE: False,
                pkcs11.Attribute.UNWRAP: True,
            },
        )
        found.append(bytes(opened[place][pkcs11.Attribute.VALUE]))
    return found


if __name__ == "__main__":
    _module, _label, _pin_file = sys.argv[1:]
    for key in export(_module, _label, Path(_pin_file).read_text().strip(), json.load(sys.stdin)):
        print(key.hex())  # noqa: T201 - into the pipe of the test that asked
