"""The fixtures that all tests share: services, databases, tokens, topic prefixes, and a guard of the event loop."""

import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.keystores import openbao as openbao_part
from tests.stack import KAFKA_VARIABLE, POSTGRES_VARIABLE, Services, services
from worker.local import Stack, Token
from worker.local import kryoptic as kryoptic_part
from worker.local import softhsm as softhsm_part

LEFT_OUT = pytest.StashKey[list[tuple[str, str, str]]]()
"""What could not be tried: the part that is missing, how to get it, and the test or module."""


@pytest.fixture(scope="session")
def stack() -> Iterator[Services]:
    """Real Kafka and real Postgres, for the whole session."""
    with services() as found:
        yield found


@pytest.fixture(scope="module")
async def database(stack: Services) -> AsyncIterator[str]:
    """The DSN of a fresh, empty database, dropped after the module. Never print it."""
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(stack.postgres)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        yield urlsplit(stack.postgres)._replace(path=f"/{name}").geturl()
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest.fixture
async def prefix(stack: Services) -> AsyncIterator[str]:
    """A topic prefix of this test's own, without a dot at its end; its topics are deleted afterwards."""
    name = f"t{uuid.uuid4().hex[:12]}"
    yield name
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    try:
        mine = [topic for topic in await admin.list_topics() if topic.startswith(name)]
        if mine:
            await admin.delete_topics(mine)
    finally:
        await admin.close()


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of this module's own, whose broker and server may be killed."""
    made = Stack.up(tmp_path_factory.mktemp("stack"))
    yield made
    made.wipe()


@pytest.fixture(scope="module")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A fresh SoftHSM2 token; its environment is set while the module runs."""
    folder = tmp_path_factory.mktemp("softhsm")
    token = softhsm_part.token(folder / "token", module_file=_own_copy(softhsm_part.module(), folder))
    with _environment(token.env):
        yield token


@pytest.fixture(scope="module")
def kryoptic(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A fresh kryoptic token. Without the module: a failure in CI, else left out and said at the end."""
    module = kryoptic_part.module()
    if module is None:
        if kryoptic_part.must_have():
            pytest.fail(f"kryoptic is missing. To get it: {kryoptic_part.CURE}")
        _leave_out(request, "kryoptic", kryoptic_part.CURE)
    folder = tmp_path_factory.mktemp("kryoptic")
    token = kryoptic_part.token(folder / "token", _own_copy(module, folder))
    with _environment(token.env):
        yield token


def _leave_out(request: pytest.FixtureRequest, part: str, cure: str) -> NoReturn:
    request.config.stash[LEFT_OUT].append((part, cure, request.node.nodeid))
    pytest.skip(f"{part} is not on this machine")


@pytest.fixture(scope="module")
def openbao(request: pytest.FixtureRequest) -> Path:
    """The program of a real OpenBao. Where there is none our own server stands in, and that is said at the end."""
    return openbao_part.program() or _leave_out(request, "OpenBao", openbao_part.CURE)


@pytest.fixture(scope="module", params=["softhsm", "kryoptic"])
def token(request: pytest.FixtureRequest) -> Token:
    """Each of the two tokens in turn, for contracts that both must keep."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Token)
    return found


@pytest.fixture
def no_blocking() -> Iterator[BlockBuster]:
    """Whatever blocks the event loop from code of ours fails the test."""
    with blockbuster_ctx("worker") as guard:
        yield guard


def _own_copy(module: Path, folder: Path) -> Path:
    """A module file of this token's own: a copy is loaded as a library of its own, with its own configuration."""
    return Path(shutil.copy2(module, folder / module.name))


@contextmanager
def _environment(told: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        yield


def pytest_configure(config: pytest.Config) -> None:
    # CI tries the same examples each time; a person's run tries new ones.
    same = "CI" in os.environ
    settings.register_profile("steady", deadline=None, derandomize=same, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("steady")  # timing never decides a test
    config.stash[LEFT_OUT] = []


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """With pytest-xdist, the process in charge holds the services, so that no worker stops them under another."""
    if session.config.getoption("numprocesses", None):
        held = ExitStack()
        session.config.add_cleanup(held.close)
        found = held.enter_context(services())
        os.environ |= {KAFKA_VARIABLE: found.kafka, POSTGRES_VARIABLE: found.postgres}
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say loudly what a machine without the second token, or without OpenBao, left out."""
    for part, _, node in config.stash[LEFT_OUT]:
        terminalreporter.write_line(f"LEFT OUT, no {part} on this machine: {node}", red=True, bold=True)
    for part, cure in sorted({(part, cure) for part, cure, _ in config.stash[LEFT_OUT]}):
        terminalreporter.write_line(f"To get {part}: {cure}", red=True, bold=True)
