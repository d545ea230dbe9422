"""Where the tests' Kafka and Postgres come from.

In this order: KEYRIVER_TEST_KAFKA and KEYRIVER_TEST_POSTGRES, the checkout's own local stack (left up if it was up),
containers when a Docker daemon answers.
"""

import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testcontainers.core.container import DockerContainer

from worker.local import PartMissing, Stack
from worker.local.kafka import KAFKA, brokers, settings
from worker.local.ports import free

KAFKA_VARIABLE = "KEYRIVER_TEST_KAFKA"
POSTGRES_VARIABLE = "KEYRIVER_TEST_POSTGRES"
CHECKOUT = Path(__file__).resolve().parent.parent
DOCKER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Services:
    """A broker's bootstrap address and the DSN of a Postgres database whose user may create others."""

    kafka: str
    postgres: str = field(repr=False)


@contextmanager
def services() -> Iterator[Services]:
    """The services for one test session; what was started for it is stopped after it."""
    if KAFKA_VARIABLE in os.environ and POSTGRES_VARIABLE in os.environ:
        yield Services(os.environ[KAFKA_VARIABLE], os.environ[POSTGRES_VARIABLE])
        return
    stack = Stack(CHECKOUT / ".keyriver")
    was_up = stack.ready()
    try:
        Stack.up(stack.folder)
    except PartMissing as missing:
        with _containers(missing) as found:
            yield found
        return
    try:
        yield Services(stack.kafka.bootstrap, stack.postgres.dsn())
    finally:
        if not was_up:
            stack.down()


@contextmanager
def _containers(missing: PartMissing) -> Iterator[Services]:
    """The same services in Docker; without a daemon the missing part is the error."""
    if not _docker_answers():
        raise missing
    with ExitStack() as running:
        yield Services(running.enter_context(_kafka()), running.enter_context(_postgres()))


def _docker_answers() -> bool:
    import docker  # noqa: PLC0415 - only where the local stack can't be

    with warnings.catch_warnings():
        # When nobody answers, the client leaves its socket open; it must be collected while that is no error.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            docker.from_env(timeout=3).ping()
        except docker.errors.DockerException:
            answers = False
        else:
            answers = True
        gc.collect()
    return answers


@contextmanager
def _kafka() -> Iterator[str]:
    (port,) = free(1)
    container = DockerContainer(f"apache/kafka:{KAFKA.rpartition(':')[2]}").with_bind_ports(9092, port)
    told = settings(broker=port, controller=9093, logs="/var/lib/kafka/data")
    told["listeners"] = "PLAINTEXT://:9092,CONTROLLER://:9093"
    for name, value in told.items():
        container = container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    with container:
        _until(lambda: brokers(port) > 0, "Kafka")
        yield f"127.0.0.1:{port}"


@contextmanager
def _postgres() -> Iterator[str]:
    container = DockerContainer("postgres:17").with_exposed_ports(5432)
    for name in ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"):
        container = container.with_env(name, "keyriver")
    with container:
        # By TCP: while the image initialises itself, the server listens on its socket only.
        _until(lambda: container.exec(["pg_isready", "-h", "127.0.0.1"]).exit_code == 0, "Postgres")
        yield f"postgresql://keyriver:keyriver@127.0.0.1:{container.get_exposed_port(5432)}/keyriver"


def _until(ready: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + DOCKER_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            message = f"the {name} container was not ready in {DOCKER_SECONDS:.0f} s"
            raise TimeoutError(message)
        time.sleep(0.2)
