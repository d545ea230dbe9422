"""One dead and twenty living keystores, each a server of its own (S13): the living never wait for the dead.

The dead one hangs until the test ends, and its budget is an hour: no clock decides.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.keystores.https_server import Hang, authority
from tests.keystores.rig import written
from tests.keystores.xks_proxy import REGION, ExternalKey, XksProxy, new_access_key
from worker.edges.keystores import HttpsKeystores, read_credentials
from worker.flow.guarding import GuardedKeystores, Patience
from worker.model.keystores import KeystoreAddress, KeystoreThrottled, Provider

HOUR_S = 3600.0
LIVING = 20
AAD, TEXT = b"tenant and key and version", b"an inner blob"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[list[XksProxy], list[KeystoreAddress], GuardedKeystores]]:
    """The first one is dead."""
    ca = authority(tmp_path)
    proxies, places = [], []
    with ExitStack() as running:
        for number in range(LIVING + 1):
            proxy = XksProxy(ca.context())
            key_id, secret = new_access_key()
            proxy.access[key_id] = secret
            proxy.keys["k"] = ExternalKey()
            endpoint = running.enter_context(proxy.running())
            current = {"access_key_id": key_id, "secret_access_key": secret}
            told = {"provider": "xks", "endpoints": [endpoint], "region": REGION, "ca_file": str(ca.ca_file)}
            written(tmp_path / "secrets", f"customer-{number}", **told, current=current)
            proxies.append(proxy)
            places.append(KeystoreAddress(Provider.XKS, endpoint, "k", f"customer-{number}"))
        proxies[0].mood = lambda _asked, _told: Hang()
        https = HttpsKeystores(
            read_credentials(tmp_path / "secrets"), [place.endpoint for place in places], "dev-test", HOUR_S
        )
        patience = Patience(budget_s=HOUR_S, at_once=4)
        yield proxies, places, GuardedKeystores({Provider.XKS: https.open}, patience)


async def test_one_dead_and_twenty_living(
    world: tuple[list[XksProxy], list[KeystoreAddress], GuardedKeystores],
) -> None:
    proxies, places, keystores = world
    dead, *living = [keystores.of(place) for place in places]
    waiting = [asyncio.create_task(dead.encrypt(TEXT, AAD)) for _ in range(50)]
    while len(proxies[0].server.asked) < 4:
        await asyncio.sleep(0.01)

    async def lives(number: int) -> None:
        for turn in range(5):
            text = TEXT + bytes([number, turn])
            assert await living[number].decrypt(await living[number].encrypt(text, AAD), AAD) == text

    await asyncio.gather(*map(lives, range(LIVING)))
    still = [task for task in waiting if not task.done()]
    assert len(still) == 4, "those that hang, hang"
    assert all(isinstance(task.exception(), KeystoreThrottled) for task in waiting if task.done())
    for task in still:
        task.cancel()
    await asyncio.gather(*still, return_exceptions=True)
    await keystores.close()
