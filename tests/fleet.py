"""A whole fleet for tests: its own database, topics and token, workers in processes of their own, clients, and eyes.

async with Fleet.founded(services, folder, token) as fleet:
    fleet.start()
    acme = await fleet.tenant()
    (made,) = await acme.client.generate(acme.key)
"""

import asyncio
import itertools
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from tests import member
from tests.processes import POLL_S, Birth, Member
from tests.stack import CHECKOUT, Services
from tests.tap import Gauge, Tap
from worker.client import KeyriverClient, Pending
from worker.client.calls import Pace
from worker.client.identity_file import load_identity
from worker.client.kafka import KafkaTransport
from worker.client.options import Options
from worker.local import Token
from worker.model.bodies import ClientAddBody, CommandBody, KeyCreateBody, TenantCreateBody
from worker.model.control import ApprovalApproveBody
from worker.model.operations import Operation, Permission
from worker.model.records import Outgoing, Partition
from worker.model.replies import ApprovalResult, ApprovalView, CommandResult
from worker.model.rows import Algorithm, Suite
from worker.model.topics import Lane, Topics
from worker.seal.hpke import generate_keypair
from worker.seal.identity import Identity, generate_private_key_pem

OFFICERS = ("alice", "bob")
SESSION_S = 1.0
"""The shortest session that the broker allows: whoever is frozen for longer is expelled."""
YEAR_MS = 365 * 24 * 3_600_000
WAIT_S = 60.0
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class House:
    """One tenant of the fleet, its keys of layer 1 to 3 by alias, and a client that may do everything with them."""

    tenant: str
    upper: str
    key: str
    identity: Identity
    client: KeyriverClient


@dataclass
class Fleet:
    """See the module."""

    living: ClassVar[list["Fleet"]] = []

    services: Services
    folder: Path
    prefix: str
    officers: list[Identity]
    env: Mapping[str, str] = field(repr=False)
    token: Token
    members: list[Member]
    pool: asyncpg.Pool
    producer: AIOKafkaProducer
    gauge: Gauge
    _open: AsyncExitStack
    _numbers: Iterator[int]
    _officers: dict[str, KeyriverClient] = field(default_factory=dict)
    patience_s: float = PATIENCE_S
    """So long a client waits for an answer, unless it is told otherwise."""

    @classmethod
    @asynccontextmanager
    async def founded(
        cls, services: Services, folder: Path, token: Token, *, partitions: int = 2, **settings: object
    ) -> AsyncIterator["Fleet"]:
        """A fleet without workers yet; when the block ends, all of it is gone. `settings`: more of the workers'."""
        prefix = f"f{uuid.uuid4().hex[:10]}"
        async with AsyncExitStack() as stack:
            dsn = await stack.enter_async_context(_database(services.postgres, prefix))
            env = _environment(services.kafka, folder, prefix, token, dsn, {"kafka_partitions": partitions, **settings})
            stack.push_async_callback(_delete_topics, services.kafka, prefix)
            _init(env, folder)
            pool = await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=1, max_size=4))
            producer = AIOKafkaProducer(bootstrap_servers=services.kafka, acks="all", max_request_size=16 * 1024 * 1024)
            await stack.enter_async_context(producer)
            gauge = await stack.enter_async_context(Gauge(services.kafka))
            officers = [load_identity(folder / f"{name}.json") for name in OFFICERS]
            clients = await stack.enter_async_context(AsyncExitStack())
            numbers = itertools.count(1)
            fleet = cls(services, folder, prefix, officers, env, token, [], pool, producer, gauge, clients, numbers)
            cls.living.append(fleet)
            try:
                yield fleet
            finally:
                cls.living.remove(fleet)
                for member in fleet.members:
                    member.kill()

    # Processes.

    def start(
        self,
        *,
        lanes: Sequence[Lane] = tuple(Lane),
        failpoints: str = "",
        born: Birth = member.born,
        **settings: object,
    ) -> Member:
        """One more worker. It is at work once `at_work` says so, or once something is answered."""
        more = {f"KEYRIVER_{name.upper()}": str(value) for name, value in settings.items()}
        env = {**self.env, **more, "KEYRIVER_FAILPOINTS": failpoints}
        made = Member(f"worker-{next(self._numbers)}", self.folder, env, lanes, born)
        self.members.append(made)
        return made

    async def at_work(self, count: int, lanes: Sequence[Lane] = tuple(Lane), seconds: float = WAIT_S) -> None:
        """Wait until every one of these lanes has so many members that have their partitions."""
        deadline = time.monotonic() + seconds
        for lane in lanes:
            while await self.gauge.members(self.topics.group(lane)) != count:
                await asyncio.sleep(POLL_S)
                assert time.monotonic() < deadline, f"the {lane} lane has not {count} members"

    # Clients.

    async def client(self, identity: Identity, timeout_s: float | None = None, answer_s: float = 2.0) -> KeyriverClient:
        """A client that is open as long as the fleet; it tries again soon, for workers die here."""
        chosen = Options(prefix=self.prefix, timeout_s=timeout_s or self.patience_s, pace=Pace(answer_s=answer_s))
        transport = KafkaTransport({"bootstrap_servers": self.services.kafka})
        return await self._open.enter_async_context(KeyriverClient(identity, transport, chosen))

    async def officer(self, number: int = 0, timeout_s: float = 240.0) -> KeyriverClient:
        """One of the officers."""
        name = self.officers[number].client
        if name not in self._officers:
            self._officers[name] = await self.client(self.officers[number], timeout_s)
        return self._officers[name]

    async def command(self, operation: Operation, body: CommandBody) -> CommandResult:
        """What the first officer commands; where a second one has to agree, he does."""
        try:
            return await (await self.officer()).command(operation, body)
        except Pending as waiting:
            approved = await self.approve(waiting.approval)
            assert approved.result is not None, f"not approved: {approved.approval.state}"
            return approved.result

    async def approve(self, approval: ApprovalView, number: int = 1) -> ApprovalResult:
        """Another officer approves what he is shown."""
        body = ApprovalApproveBody(tenant=approval.tenant, approval=approval.id, digest=approval.digest)
        done = await (await self.officer(number)).command(Operation.APPROVAL_APPROVE, body)
        assert isinstance(done, ApprovalResult)
        return done

    async def tenant(self, timeout_s: float | None = None) -> House:
        """A tenant with its chain and a client for it. Needs a worker."""
        name = f"t{uuid.uuid4().hex[:10]}"
        upper, key = f"{name}/eu", f"{name}/eu/payments"
        await self.command(Operation.TENANT_CREATE, TenantCreateBody(tenant=name))
        for parent, alias in ((name, upper), (upper, key)):
            await self.command(Operation.KEY_CREATE, KeyCreateBody(tenant=name, parent=parent, alias=alias))
        identity = await self.service(name)
        return House(name, upper, key, identity, await self.client(identity, timeout_s))

    async def service(
        self,
        tenant: str,
        *,
        permissions: Sequence[Permission] = tuple(Permission),
        pattern: str = "",
        algorithm: Algorithm = Algorithm.ED25519,
        reply_topics: Sequence[str] = (),
    ) -> Identity:
        """Register a service of this tenant; the first of its reply topics is its own."""
        made = replace(
            self.officers[0],
            client=f"c{uuid.uuid4().hex[:10]}",
            tenant=tenant,
            algorithm=algorithm,
            private_key=generate_private_key_pem(algorithm),
            recipient=generate_keypair(Suite.X25519),
            reply_topic=(*reply_topics, self.topics.replies)[0],
        )
        body = ClientAddBody(
            tenant=tenant,
            client=made.client,
            algorithm=algorithm,
            public_key=made.signer().public_key,
            permissions=list(permissions),
            pattern=pattern or f"{tenant}/*",
            reply_topics=[made.reply_topic, *reply_topics],
            recipient_suite=made.recipient.suite,
            recipient_key=made.recipient.public,
            not_after_ms=time.time_ns() // 1_000_000 + YEAR_MS,
        )
        await self.command(Operation.CLIENT_ADD, body)
        return made

    # Eyes and hands.

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix)

    def tap(self, *topics: str) -> Tap:
        """Everything that stands in these topics and comes there."""
        return Tap(self.services.kafka, *topics)

    async def send(self, record: Outgoing) -> tuple[int, int]:
        """Put a record on a topic as it is: its partition and offset."""
        done = await self.producer.send_and_wait(
            record.topic,
            value=record.value,
            key=record.key,
            partition=record.partition,
            headers=list(record.headers),
        )
        return done.partition, done.offset

    async def backlog(self, lanes: Sequence[Lane] = tuple(Lane)) -> dict[Partition, int]:
        """What the lanes have not committed; empty when all that came was finished."""
        found: dict[Partition, int] = {}
        for lane in lanes:
            found |= await self.gauge.backlog(self.topics.group(lane), self.topics.lane(lane))
        return found

    async def caught_up(self, lanes: Sequence[Lane] = tuple(Lane), seconds: float = WAIT_S) -> None:
        """Wait until every record of these lanes is committed: the offsets have no hole."""
        deadline = time.monotonic() + seconds
        while behind := await self.backlog(lanes):
            assert time.monotonic() < deadline, f"offsets are not committed: {behind}"
            await asyncio.sleep(POLL_S)


async def _delete_topics(kafka: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics([topic for topic in await admin.list_topics() if topic.startswith(f"{prefix}.")])
    finally:
        await admin.close()


@asynccontextmanager
async def _database(server: str, name: str) -> AsyncIterator[str]:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    connection = await asyncpg.connect(server)  # another one: a test may have restarted the server
    try:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


def _environment(
    kafka: str, folder: Path, prefix: str, token: Token, dsn: str, more: Mapping[str, object]
) -> dict[str, str]:
    config, dsn_file = folder / "keyriver.toml", folder / "dsn"
    config.touch()
    dsn_file.touch(0o600)
    dsn_file.write_text(dsn)
    settings = {
        "config": config,
        "fleet": f"dev-{prefix}",
        "topic_prefix": prefix,
        "kafka_bootstrap": kafka,
        "kafka_session_s": SESSION_S,
        "postgres_dsn_file": dsn_file,
        "hsm_module": token.module,
        "hsm_label": token.label,
        "hsm_pin_file": token.pin_file,
        "interactive_p99_ms": 60_000,  # how busy the tests' machine is says nothing about a campaign
        "bulk_niceness": 0,
        **more,
    }
    return {**token.env, **{f"KEYRIVER_{name.upper()}": str(value) for name, value in settings.items()}}


def _init(env: Mapping[str, str], folder: Path) -> None:
    command = [sys.executable, "-m", "tests.member", "init", str(folder), *OFFICERS]
    done = subprocess.run(command, env=os.environ | env, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"founding failed: {done.stderr[-3000:]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the logs of the workers that live at that moment. For a conftest to import."""
    report = yield
    if report.failed:
        logs = [(member.name, member.log[-4000:]) for fleet in Fleet.living for member in fleet.members[-6:]]
        report.sections += logs
    return report
