"""A fleet whose customers keep their keys: an XKS proxy, a transit engine and a token of their own, all real."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet import Fleet
from tests.keystores import rig as rigs
from tests.keystores.https_server import authority
from tests.keystores.rig import TokenRig, TransitRig, XksRig
from tests.processes import POLL_S
from tests.stack import Services
from worker.local import Token, softhsm
from worker.model.keystores import Provider
from worker.model.linking import KeystoreTarget

PROBE_S, LIMIT_S = 0.3, 3.0
SOON_S = 60.0
"""How long a story waits for what has to come; on an idle machine it comes within a probe or the limit."""


@dataclass(frozen=True, slots=True)
class Customers:
    """The fleet, and the customers' own hands by provider."""

    fleet: Fleet
    xks: XksRig
    transit: TransitRig
    token: TokenRig

    def rig(self, provider: Provider) -> XksRig | TransitRig | TokenRig:
        match provider:
            case Provider.XKS:
                return self.xks
            case Provider.TRANSIT:
                return self.transit
            case Provider.PKCS11:
                return self.token

    def target(self, provider: Provider, key: str) -> KeystoreTarget:
        """A key that the customer has just made."""
        rig = self.rig(provider)
        rig.create(key)
        return KeystoreTarget(provider=provider, endpoint=rig.endpoint, key=key, credential=provider.value)


@asynccontextmanager
async def founded(stack: Services, folder: Path, theirs: Token) -> AsyncIterator[Customers]:
    """One worker on SoftHSM2; the customer's token is of another vendor."""
    made = authority(folder)
    with rigs.xks(folder / "xks", made) as xks, rigs.transit(folder / "transit", made) as transit:
        module = Path(shutil.copy2(softhsm.module(), folder / "module.so"))
        ours = softhsm.token(folder / "token", module_file=module)
        token = rigs.tokens(theirs, ours.module)
        settings: dict[str, Any] = {
            "keystore_credentials": _credentials(folder, token, theirs),
            "keystore_endpoints": json.dumps([xks.endpoint, transit.endpoint]),
            "keystore_modules": json.dumps({"customer": str(theirs.module)}),
            "hsm_env": json.dumps(dict(theirs.env)),
            "keystore_timeout_ms": 10_000,
            "keystore_probe_s": PROBE_S,
            "sovereign_limit_s": LIMIT_S,
            "recoverable_days": 30,
            "destroy_grace_s": 0,
        }
        async with Fleet.founded(stack, folder, ours, **settings) as fleet:
            fleet.start()
            await fleet.at_work(1)
            yield Customers(fleet, xks, transit, token)
        await token.opened.close()


def _credentials(folder: Path, token: TokenRig, theirs: Token) -> Path:
    """One folder with all three, each under its provider's name."""
    kept = folder / "credentials"
    kept.mkdir()
    for name in ("xks", "transit"):
        shutil.copy2(folder / name / f"{rigs.CREDENTIAL}.json", kept / f"{name}.json")
    pin = theirs.pin_file.read_text().strip()
    rigs.written(kept, "pkcs11", provider="pkcs11", endpoints=[token.endpoint], pin=pin)
    return kept


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + SOON_S
    while not await holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(POLL_S)
