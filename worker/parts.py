"""The edges of one process, open: the half of the composition root that `init` and `doctor` need, too."""

import os
import resource
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from worker.chain.sequences import Sequences
from worker.edges.bus.access import KafkaAccess, Mechanism, Protocol
from worker.edges.bus.sink import KafkaSink
from worker.edges.hsm import CustomerTokens, HsmConfig, Pin, PinRefused, Token, TokenCredential, open_token
from worker.edges.keystores import CredentialFolder, HttpsKeystores, Pkcs11Credential, read_credentials
from worker.edges.store.fleet import read_fleet
from worker.edges.store.migrate import check_schema
from worker.edges.store.pool import Pool, PostgresSettings, connected
from worker.edges.store.store import PostgresStore
from worker.flow.alarms import PinAlarm
from worker.flow.guarding import GuardedKeystores, Patience
from worker.flow.sequences import SequencedStore
from worker.flow.trust import Trust
from worker.model.keystores import Provider
from worker.model.topics import Topics, limits
from worker.settings import Reach, Settings
from worker.watch.metrics import Metrics

_TRIES = 4
"""A call's budget, in exchanges that time out: three tries and the pauses between them."""


class WrongFleet(Exception):
    """The database, the token and the settings do not belong together."""


class WrongTopics(Exception):
    """Topics are missing or not set as they have to be; `keyriver topics` shows and creates them."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The edges of one process, open."""

    settings: Settings
    topics: Topics
    access: KafkaAccess
    token: Token
    pool: Pool
    store: SequencedStore
    sequences: Sequences
    sink: KafkaSink
    trust: Trust
    keystores: GuardedKeystores
    credentials: CredentialFolder
    metrics: Metrics


def kafka_access(settings: Reach) -> KafkaAccess:
    """The cluster as the settings describe it."""
    return KafkaAccess(
        bootstrap=settings.kafka_bootstrap,
        protocol=Protocol(settings.kafka_protocol),
        mechanism=Mechanism(settings.kafka_mechanism),
        username=settings.kafka_username,
        password=settings.kafka_password(),
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
    )


def postgres_settings(settings: Settings) -> PostgresSettings:
    """The database as the settings describe it."""
    return PostgresSettings(settings.postgres_dsn(), pool_size=settings.postgres_pool)


def hsm_config(settings: Settings) -> HsmConfig:
    """The token as the settings describe it."""
    _set_environment(settings)
    return HsmConfig(
        module=settings.hsm_module,
        fleet=settings.fleet,
        pin=Pin(settings.hsm_pin()),
        label=settings.hsm_label,
        serial=settings.hsm_serial,
        sessions=settings.hsm_sessions,
        handles=settings.hsm_handles,
    )


def _set_environment(settings: Settings) -> None:
    """Of PKCS#11 modules: they read it when they are initialised."""
    for name, value in settings.hsm_env.items():
        os.environ.setdefault(name, value)


def harden(settings: Settings) -> None:
    """No core dumps; in production nobody of the same user may read our memory either (S17)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and not settings.is_development:
        import ctypes  # noqa: PLC0415 - only Linux has prctl

        pr_set_dumpable = 4
        ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)


@asynccontextmanager
async def open_parts(settings: Settings, metrics: Metrics) -> AsyncIterator[Parts]:
    """Open every edge and check that they belong together; close them in reverse."""
    topics = Topics(settings.topic_prefix)
    access = kafka_access(settings)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(connected(postgres_settings(settings)))
        await check_schema(pool)
        try:
            token = await open_token(hsm_config(settings), metrics)
        except PinRefused:
            await PinAlarm(f"{socket.gethostname()}/{os.getpid()}", lambda: True, PostgresStore(pool)).turn()
            raise
        stack.push_async_callback(token.close)
        await check_fleet(settings, pool, token)
        sink = await stack.enter_async_context(KafkaSink(access, limits(topics).get))
        trust, sequences = Trust(token.fleet_keys), Sequences()
        store = SequencedStore(PostgresStore(pool), sequences)
        keystores, credentials = await stack.enter_async_context(guarded_keystores(settings, metrics))
        yield Parts(
            settings, topics, access, token, pool, store, sequences, sink, trust, keystores, credentials, metrics
        )


@dataclass(frozen=True, slots=True)
class Outside:
    """Customers' keystores, not guarded."""

    https: HttpsKeystores
    tokens: CustomerTokens


@asynccontextmanager
async def outside(settings: Settings, budget_s: float) -> AsyncIterator[Outside]:
    """What opens customers' keystores (S13); `budget_s` bounds an exchange. Nothing is sent yet.

    Raises `KeystoreMisconfigured`.
    """
    _set_environment(settings)
    folder = settings.keystore_credentials
    credentials = {} if folder is None else read_credentials(folder)
    pins = {
        name: TokenCredential(Pin(each.pin.get_secret_value()), each.endpoints)
        for name, each in credentials.items()
        if isinstance(each, Pkcs11Credential)
    }
    tokens = CustomerTokens(settings.keystore_modules, settings.hsm_module, pins, budget_s)
    try:
        yield Outside(HttpsKeystores(credentials, settings.keystore_endpoints, settings.fleet, budget_s), tokens)
    finally:
        await tokens.close()


@asynccontextmanager
async def guarded_keystores(
    settings: Settings, metrics: Metrics
) -> AsyncIterator[tuple[GuardedKeystores, CredentialFolder]]:
    """Customers' keystores, each behind its own bulkhead and breaker, and what opens them."""
    budget_s = settings.keystore_timeout_ms / 1000
    async with outside(settings, budget_s) as opened:
        https, tokens = opened.https.open, opened.tokens.open
        openers = {Provider.XKS: https, Provider.TRANSIT: https, Provider.PKCS11: tokens}
        keystores = GuardedKeystores(openers, Patience(budget_s=_TRIES * budget_s), metrics)
        try:
            yield keystores, CredentialFolder(settings.keystore_credentials, opened.https)
        finally:
            await keystores.close()


async def check_fleet(settings: Settings, pool: Pool, token: Token) -> None:
    """Raises `WrongFleet` unless database, token and settings are one fleet's."""
    fleet = await read_fleet(pool)
    if fleet is None:
        raise WrongFleet("the database belongs to no fleet yet: run `keyriver init`")
    if fleet.id != settings.fleet:
        raise WrongFleet(f"fleet: the database belongs to {fleet.id}, the setting says {settings.fleet}")
    if fleet.signing_key != token.fleet_keys.signing_key:
        raise WrongFleet("hsm: this token's signing key is not the fleet's")
