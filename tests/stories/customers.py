"""A fleet whose customers keep their keys: an XKS proxy, a transit engine and a token of their own, all real."""

import asyncio
import json
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet import Fleet, House
from tests.keystores import rig as rigs
from tests.keystores.https_server import Hang, authority
from tests.keystores.rig import TokenRig, TransitRig, XksRig
from tests.processes import POLL_S
from tests.stack import Services
from worker.client import ItemError, Unwrapped, WrappedDek
from worker.local import Token, softhsm
from worker.model.bodies import DekItem, KeyCreateBody
from worker.model.keystores import Provider
from worker.model.linked import LinkResult
from worker.model.linking import KeystoreTarget, LinkCreateBody
from worker.model.operations import Operation
from worker.model.words import LinkState

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

    def hang(self, key: str) -> None:
        """Let the proxy answer nobody who asks for this key; an empty name: for none."""
        self.xks.proxy.mood = (lambda asked, told: Hang() if f"/{key}/" in asked.path else told) if key else None

    def target(self, provider: Provider, key: str) -> KeystoreTarget:
        """A key that the customer has just made."""
        rig = self.rig(provider)
        rig.create(key)
        return KeystoreTarget(provider=provider, endpoint=rig.endpoint, key=key, credential=provider.value)


@asynccontextmanager
async def founded(
    stack: Services, folder: Path, theirs: Token, ours: Token | None = None, **more: object
) -> AsyncIterator[Customers]:
    """No worker yet. Our own token is SoftHSM2 if none is given; the customer's is another's."""
    made = authority(folder)
    with rigs.xks(folder / "xks", made) as xks, rigs.transit(folder / "transit", made) as transit:
        if ours is None:
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
            **more,
        }
        async with Fleet.founded(stack, folder, ours, **settings) as fleet:
            fleet.env = {**fleet.env, **theirs.env}  # the server that forks workers may have another token's
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


async def linked(customers: Customers, provider: Provider, key: str, layers: int = 3) -> House:
    """A tenant whose L1 is this key of the customer's, with its chain and a client."""
    fleet, name = customers.fleet, f"t{uuid.uuid4().hex[:10]}"
    body = LinkCreateBody(tenant=name, layers=layers, keystore=customers.target(provider, key))
    made = await fleet.command(Operation.LINK_CREATE, body)
    assert isinstance(made, LinkResult)
    assert (made.link.state, made.link.sovereign) == (LinkState.LINKED, True)
    upper, lower = f"{name}/eu", f"{name}/eu/payments" if layers > 2 else f"{name}/eu"
    for parent, alias in ((name, upper), (upper, lower))[: layers - 1]:
        await fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=name, parent=parent, alias=alias))
    identity = await fleet.service(name)
    return House(name, upper, lower, identity, await fleet.client(identity))


async def stored(house: House) -> tuple[list[DekItem], list[bytes | None]]:
    made = [one for one in await house.client.generate(house.key, 3) if isinstance(one, WrappedDek)]
    assert len(made) == 3
    return [DekItem(id=one.id) for one in made], [one.dek for one in made]


async def codes(house: House, items: Sequence[DekItem]) -> set[str]:
    return {one.code if isinstance(one, ItemError) else "OK" for one in await house.client.unwrap(items)}


async def reads(house: House, items: Sequence[DekItem], deks: Sequence[bytes | None]) -> bool:
    back = await house.client.unwrap(items)
    return [one.dek if isinstance(one, Unwrapped) else None for one in back] == list(deks)


async def told(customers: Customers, tenant: str, type_: str) -> bool:
    """Whether the tenant's audit trail has a leaf of this type."""
    found = await customers.fleet.pool.fetchval(
        "SELECT count(*) FROM keyriver.leaves WHERE tenant = $1 AND convert_from(body, 'UTF8')::jsonb ->> 'type' = $2",
        tenant,
        type_,
    )
    return bool(found)
