"""A thousand tenants of three layers: created, listed, shown as trees; and the handle cache with all of them active.

`python -m bench.tenants`. The cache is measured at the HSM edge alone: the same unwraps, one tenant after the other,
with room for every handle and with room for a tenth of them. It must never hold more than its bound.
"""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from uuid import UUID, uuid4

from bench.hsm import AAD, DEK_BYTES, DIGEST
from bench.report import Figure, figure, report
from bench.rig import Rig, rig
from bench.rivals import public_key_rate
from worker.cli.key import by_parent, nested
from worker.edges.hsm import HsmConfig, Pin, Token, open_token
from worker.local import Token as LocalToken
from worker.local import softhsm
from worker.model.bodies import CommandBody, KeyCreateBody, KeyListBody, TenantCreateBody
from worker.model.hsm import (
    CreatedKey,
    CreateKey,
    CreateMaster,
    HsmOp,
    Kek,
    Purpose,
    UnwrapDek,
    UnwrappedDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)
from worker.model.operations import Operation
from worker.model.replies import KeyListResult

TENANTS, LAYERS, AT_ONCE = 1000, 3, 16
TURNS, PORTION, TIMEOUT_S = 5, 50, 60.0


async def rate(calls: Sequence[Callable[[], Awaitable[object]]]) -> float:
    """Calls a second, so many at once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[object]]) -> None:
        async with gate:
            await call()

    began = perf_counter()
    await asyncio.gather(*map(one, calls))
    return len(calls) / (perf_counter() - began)


async def commands(made: Rig) -> list[Figure]:
    """Commands a second through the whole river, against the public-key work that each needs at least."""
    public, officer = public_key_rate(), await made.fleet.officer()
    names = [f"bench-{number}" for number in range(TENANTS)]

    def asking(operation: Operation, body: CommandBody) -> Callable[[], Awaitable[object]]:
        return lambda: officer.command(operation, body)

    async def tree(name: str) -> None:
        found = await officer.command(Operation.KEY_LIST, KeyListBody(tenant=name))
        assert isinstance(found, KeyListResult)
        (root,) = nested(by_parent(found.keys), None)
        assert len(found.keys) == LAYERS, root

    steps: dict[str, Sequence[Callable[[], Awaitable[object]]]] = {
        "tenants created": [
            asking(Operation.TENANT_CREATE, TenantCreateBody(tenant=name, layers=LAYERS)) for name in names
        ],
        "keys of layer 2 created": [
            asking(Operation.KEY_CREATE, KeyCreateBody(tenant=name, parent=name, alias=f"{name}/eu")) for name in names
        ],
        "keys of layer 3 created": [
            asking(Operation.KEY_CREATE, KeyCreateBody(tenant=name, parent=f"{name}/eu", alias=f"{name}/eu/pay"))
            for name in names
        ],
        "tenants listed": [asking(Operation.KEY_LIST, KeyListBody(tenant=name)) for name in names],
        "trees shown": [partial(tree, name) for name in names],
    }
    against = "public-key work, 1 core"
    return [figure(what, await rate(calls), "1/s", against, public) for what, calls in steps.items()]


async def opened(token: LocalToken, handles: int, *, first: bool) -> Token:
    """The token, with room for so many handles."""
    pin = Pin(token.pin_file.read_text().strip())
    config = HsmConfig(module=token.module, fleet="dev-bench", pin=pin, label=token.label, sessions=1, handles=handles)
    return await open_token(config, create_fleet_keys=first)


async def chain(made: Token) -> UnwrapDek:
    """A new tenant's chain, and the unwrap of a DEK at its end."""
    key, material = uuid4(), uuid4()
    await made.hsm.run([CreateMaster(key, 1, material)], TIMEOUT_S)
    kek = Kek(key, 1, 1, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=material, serial=made.serial)
    for purpose in (Purpose.WRAPS_KEYS, Purpose.WRAPS_DEKS):
        below: UUID = uuid4()
        (created,) = await made.hsm.run([CreateKey(kek, below, 1, purpose)], TIMEOUT_S)
        assert isinstance(created, CreatedKey), created
        kek = Kek(below, 1, 1, purpose, created.wrapping, created.wrapped, kek)
    (wrapped,) = await made.hsm.run([WrapDek(kek, AAD, DIGEST, DEK_BYTES)], TIMEOUT_S)
    assert isinstance(wrapped, WrappedDek), wrapped
    return UnwrapDek(kek, AAD, wrapped.nonce, wrapped.ciphertext)


async def in_turn(made: Token, unwraps: Sequence[HsmOp]) -> tuple[float, int]:
    """Unwraps a second, one of each tenant after the other, over and over; the most handles that were ever cached."""
    keeper, most = made.hsm._keeper, 0  # noqa: SLF001 - its size is what is looked at
    await made.hsm.run(unwraps, TIMEOUT_S)
    began = perf_counter()
    for _ in range(TURNS):
        for start in range(0, len(unwraps), PORTION):
            done = await made.hsm.run(unwraps[start : start + PORTION], TIMEOUT_S)
            assert all(isinstance(one, UnwrappedDek) for one in done), done
            most = max(most, len(keeper))
    return TURNS * len(unwraps) / (perf_counter() - began), most


async def caches() -> list[Figure]:
    """All cached, and ten times over the bound."""
    with tempfile.TemporaryDirectory() as name:
        token = softhsm.token(Path(name) / "token")
        os.environ |= token.env
        enough = TENANTS * LAYERS + 100
        tight = TENANTS * LAYERS // 10
        made = await opened(token, enough, first=True)
        unwraps = [await chain(made) for _ in range(TENANTS)]
        cached, held = await in_turn(made, unwraps)
        await made.close()
        made = await opened(token, tight, first=False)
        over, most = await in_turn(made, unwraps)
        await made.close()
    assert held == TENANTS * LAYERS, held
    assert most <= tight, f"{most} handles were cached, and the bound is {tight}"
    return [
        figure(f"{TENANTS} tenants in turn, ten times over the bound", over, "ops/s", "all cached", cached),
        figure(f"{TENANTS} tenants in turn, all cached", cached, "ops/s", "ten times over the bound", over),
        figure("most handles cached", most, "handles", "the bound", tight),
    ]


async def run() -> list[Figure]:
    """All figures of many tenants."""
    kept = await caches()
    async with rig() as made:
        return [*await commands(made), *kept]


def main() -> list[Figure]:
    """Print the table and write the figures."""
    return report(asyncio.run(run()))


if __name__ == "__main__":
    main()
