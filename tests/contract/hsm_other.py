"""Another process on the same token: `python -m tests.contract.hsm_other`, one JSON request on standard input.

It says "ready" when it is logged in, waits for a line, does what it is asked, and answers in one line.
"""

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from uuid import UUID

from worker.edges.hsm import HsmConfig, Pin, Token, open_token, templates
from worker.edges.hsm.ck import CKO_SECRET_KEY
from worker.edges.hsm.crew import Crew
from worker.model.hsm import CreatedMaster, CreateMaster


def destroy(label: str, crew: Crew) -> int:
    """Destroy the token objects with this label; how many there were."""
    found = crew.session.find(templates.by_label(CKO_SECRET_KEY, label))
    for handle in found:
        crew.session.destroy(handle)
    return len(found)


async def answer(token: Token, request: dict[str, str]) -> object:
    """Do it."""
    material = UUID(request["material"])
    if request["do"] == "destroy":
        return await token.hsm.call(partial(destroy, material.hex), 20)
    [made] = await token.hsm.run([CreateMaster(UUID(request["key"]), 1, material)], 20)
    return isinstance(made, CreatedMaster)


async def main() -> None:
    """One request."""
    request = json.loads(sys.stdin.readline())
    pin = Pin(Path(request["pin_file"]).read_text().strip())
    token = await open_token(
        HsmConfig(Path(request["module"]), "dev-test", pin, request["label"], sessions=1), create_fleet_keys=True
    )
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(await answer(token, request)))
    await token.close()


if __name__ == "__main__":
    asyncio.run(main())
