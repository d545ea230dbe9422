"""Postgres is killed, frozen and started again under a store in use: nothing is done twice or lost, and it heals."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.unit.store.builders import Chain, chain, command, deks_of, entry_of, wrap
from tests.unit.store.rooms import PostgresLook, migrated
from worker.edges.store.pool import Pool, PostgresSettings, connected
from worker.edges.store.store import PostgresStore
from worker.local.postgres import Postgres
from worker.local.process import _children as children
from worker.model.effects import Lost, Settled, Settlement
from worker.model.facts import Question
from worker.ports import StoreUnavailable


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    made = Postgres(tmp_path_factory.mktemp("postgres"))
    made.start()
    yield made
    made.wipe()


@pytest.fixture(scope="module")
async def pool(server: Postgres) -> AsyncIterator[Pool]:
    async with migrated(server.dsn(), pool_size=4) as made:
        yield made


@pytest.fixture
async def acme(pool: Pool) -> Chain:
    made = chain()
    assert await PostgresStore(pool).settle([command(*made.rows)]) == [Settled()]
    return made


@contextmanager
def frozen(server: Postgres) -> Iterator[None]:
    """The server with all its children stands still."""
    pid = server.process.pid()
    assert pid is not None
    everyone = [pid, *children(pid)]
    for one in everyone:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in everyone:
            os.kill(one, signal.SIGCONT)


async def until_settled(store: PostgresStore, settlement: Settlement, outages: list[str]) -> str:
    """Settle as the river does: an outage sends the batch back, with the same request. What came of it at last."""
    while True:
        try:
            (fate,) = await store.settle([settlement])
        except StoreUnavailable as error:
            outages.append(str(error))
            await asyncio.sleep(0.02)
        else:
            assert isinstance(fate, Settled | Lost)
            return type(fate).__name__


async def until_known(store: PostgresStore) -> None:
    """Wait until it answers: a connection is up, whatever else the machine does."""
    while True:
        with suppress(StoreUnavailable):
            await store.know(Question())
            return


async def test_kill_minus_nine_in_the_middle(server: Postgres, pool: Pool, acme: Chain) -> None:
    store = PostgresStore(pool)
    outages: list[str] = []
    settled: list[Settlement] = []
    stop = asyncio.Event()

    async def client(number: int) -> None:
        turn = 0
        while not stop.is_set():
            settlement = wrap(acme, f"{number}-{turn}", items=3)
            await until_settled(store, settlement, outages)
            settled.append(settlement)
            turn += 1

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(client(number))
        for _ in range(2):
            before, failed = len(settled), len(outages)
            while len(settled) < before + 20:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(server.kill)
            while len(outages) < failed + 4:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(server.start)
        before = len(settled)
        while len(settled) < before + 20:
            await asyncio.sleep(0.005)
        stop.set()

    answer = await store.know(
        Question(
            ledger=frozenset(entry_of(one).key for one in settled),
            deks=frozenset(dek.id for one in settled for dek in deks_of(one)),
        )
    )
    assert answer.ledger == {entry_of(one).key: entry_of(one) for one in settled}
    assert len(answer.deks) == 3 * len(settled)
    look = PostgresLook(pool)
    assert await look.stored(acme.kek.id, 1) == (3 * len(settled), 0)
    assert await look.leaves(acme.tenant.id) == len(settled)


async def test_a_frozen_server_is_an_outage_and_a_late_commit_counts_once(server: Postgres, acme: Chain) -> None:
    settings = PostgresSettings(server.dsn(), pool_size=1, statement_s=0.2, connect_s=0.5, answer_s=0.5)
    async with connected(settings) as pool:
        store = PostgresStore(pool)
        await until_known(store)
        settlement = wrap(acme, "frozen")
        with frozen(server):
            with pytest.raises(StoreUnavailable):
                await store.settle([settlement])
            with pytest.raises(StoreUnavailable):
                await store.know(Question())
        outages: list[str] = []
        assert await until_settled(store, settlement, outages) in ("Settled", "Lost")
        assert await PostgresLook(pool).stored(acme.kek.id, 1) == (1, 0)


async def test_a_clean_restart_heals(server: Postgres, pool: Pool, acme: Chain) -> None:
    store = PostgresStore(pool)
    await asyncio.to_thread(server.stop)
    with pytest.raises(StoreUnavailable):
        await store.settle([wrap(acme)])
    await asyncio.to_thread(server.start)
    outages: list[str] = []
    assert await until_settled(store, wrap(acme), outages) == "Settled"
    assert await PostgresLook(pool).stored(acme.kek.id, 1) == (1, 0)
