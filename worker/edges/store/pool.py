"""Connections to Postgres: settings, the pool, and the translation of its errors.

A connection that failed in a way that leaves its fate open is thrown away, never reused; a new one is made at the next
call, so a restart of Postgres heals by itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from worker.edges.store.queries import SQL
from worker.ports import StoreUnavailable

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# All our statements go from a list of keys into an index. Left to its statistics the planner scans a table that is
# small, and keeps that plan while it grows. With these settings, and `OFFSET 0` or a lock in a LATERAL subquery (which
# fixes who drives the join), plans are the same from the first row to the hundred-millionth.
PLANS = {
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}

_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,  # serialization failures and deadlocks
    asyncpg.OperatorInterventionError,  # shutdown, cancelled statements, "starting up"
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a fail-over made this server a replica
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)


_FOREVER = 2**62


class StoreRefused(Exception):
    """Postgres refused a statement for what it says: a defect of ours, which repeating does not mend."""


class SchemaMismatch(Exception):
    """The database's schema is not the one that this release needs; the message names the cure."""


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """Where Postgres is and how long to wait for it. `dsn` may hold a password and `sslmode=verify-full`.

    The server ends its statements itself; `answer_s` is for a server or a network that froze.
    """

    dsn: str = field(repr=False)
    pool_size: int = 4
    connect_s: float = 5.0
    statement_s: float = 10.0
    lock_s: float = 5.0
    idle_in_transaction_s: float = 10.0
    answer_s: float = 12.0


class Pool:
    """A few connections, shared by everything in one process that reads or writes the store."""

    def __init__(self, settings: PostgresSettings, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._settings = settings
        self._pool = pool

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` on one connection. Raises StoreUnavailable when nothing is known of its outcome."""
        with _translated():
            connection = await self._pool.acquire(timeout=self._settings.connect_s)
            try:
                return await work(connection)
            except _AWAY:
                _throw_away(connection)
                raise
            finally:  # after a cancellation this waits until the server has given the statement up
                await self._pool.release(connection, timeout=self._settings.connect_s)


@asynccontextmanager
async def connected(settings: PostgresSettings) -> AsyncIterator[Pool]:
    """A pool for the time of the block. Raises StoreUnavailable when Postgres can't be reached."""
    milliseconds = {
        "statement_timeout": settings.statement_s,
        "lock_timeout": settings.lock_s,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_s,
    }
    options = {name: str(round(seconds * 1000)) for name, seconds in milliseconds.items()}
    with _translated():
        pool = await asyncpg.create_pool(
            settings.dsn,
            min_size=settings.pool_size,
            max_size=settings.pool_size,
            timeout=settings.connect_s,
            command_timeout=settings.answer_s,
            # Connections and their prepared statements last: each new one costs a request 20 ms of latency.
            max_inactive_connection_lifetime=0,
            max_queries=_FOREVER,
            max_cached_statement_lifetime=0,
            # Reads go to the primary too; with several hosts in the address, a fail-over is followed.
            target_session_attrs=SessionAttribute.primary,
            server_settings=options | PLANS | {"application_name": "keyriver"},
            init=_warm,
            reset=_keep,
        )
    try:
        yield Pool(settings, pool)
    finally:
        pool.terminate()


@contextmanager
def _translated() -> Iterator[None]:
    """The driver's errors as the port's."""
    try:
        yield
    except asyncpg.ClientConfigurationError as error:
        raise StoreRefused(f"the address of Postgres is not valid: {_said(error)}") from None
    except _AWAY as error:
        raise StoreUnavailable(_said(error)) from error
    except (asyncpg.PostgresError, asyncpg.exceptions.DataError) as error:
        raise StoreRefused(_said(error)) from error


async def _warm(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Ask and settle nothing once, so that no request pays for the types and plans of a new connection."""
    with suppress(asyncpg.PostgresError):  # `init` connects before there is a schema
        for name, arguments in (("know", 16), ("settle", 34)):
            await connection.fetch(SQL[name], *(None,) * arguments)


def _throw_away(connection: Connection) -> None:
    """Its answer may still come, to nobody. A connection that broke by itself has left the pool already."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _keep(_connection: object) -> None:
    """Nothing that we run leaves a session changed, so a returned connection needs no round trip to be reset."""


def _said(error: BaseException) -> str:
    """What failed, for the log: kind and message, never the values of a row."""
    code = getattr(error, "sqlstate", None)
    message = getattr(error, "message", None) or (str(error) if isinstance(error, OSError) else "")
    return " ".join(part for part in (type(error).__name__, code, message) if part)
