"""Connections that work through a transaction-mode pooler, and the transactions every statement runs in.

Nothing is ever set on a session: no prepared statements, no SET but SET LOCAL. Vendor errors become
shared.core.errors here, once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, LiteralString
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from pgvector.psycopg.halfvec import register_halfvec_info
from pgvector.psycopg.vector import register_vector_info
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor, IsolationLevel
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg.types import TypeInfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.core.errors import Busy, Conflict, OutcomeUnknown, RagzeroError, Unavailable
from shared.core.labels import Labels

_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": None,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
    "row_factory": dict_row,
}
_REGISTER = {"halfvec": register_halfvec_info, "vector": register_vector_info}
_VECTORS = "select typname, oid, typarray from pg_type where typname in ('halfvec', 'vector')"

# The types' numbers are the same for every connection to one database; looking them up once saves a round trip each.
_known: dict[str, list[TypeInfo]] = {}
_TRUSTED_S = 1.0
_AGAIN_S = 0.2


def _register(connection: Connection[DictRow] | AsyncConnection[DictRow], url: str) -> None:
    for info in _known[url]:
        _REGISTER[info.name](connection, info)


def _vector_types(rows: list[DictRow]) -> list[TypeInfo]:
    if not rows:
        raise Unavailable("database", "the database lacks the pgvector extension; run scripts/migrate")
    return [TypeInfo(row["typname"], row["oid"], row["typarray"]) for row in rows]


def translate(error: psycopg.Error, *, committing: bool = False) -> RagzeroError:
    """The error of ours that a psycopg error means."""
    match error:
        case psycopg.errors.UniqueViolation() | psycopg.errors.ForeignKeyViolation():
            return Conflict(f"somebody else's write came first ({error.diag.constraint_name})")
        case (
            psycopg.errors.TooManyConnections() | psycopg.errors.ConfigurationLimitExceeded() | PoolTimeout()
        ):
            return Busy("database", "the database has no free connection")
        case psycopg.errors.QueryCanceled() | psycopg.errors.LockNotAvailable():
            return Busy("database", "the database did not finish in time")
        case psycopg.errors.SerializationFailure() | psycopg.errors.DeadlockDetected():
            return Busy("database", "the transaction collided with another", retry_after=0.1)
        case psycopg.OperationalError() | psycopg.InterfaceError() if committing:
            return OutcomeUnknown()
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return Unavailable("database", "the database cannot be reached")
        case _:
            return RagzeroError(f"the database refused a statement ({error.sqlstate or error})")


def _seen_by(tenant: UUID | None, acl: Labels) -> dict[str, str]:
    """The parameters that row-level security reads. No label is `*`, nor contains a comma."""
    return {"app.tenant_id": str(tenant or ""), "app.acl": "*" if acl is None else ",".join(acl)}


def _local(parameters: Mapping[str, str]) -> tuple[LiteralString, list[str]]:
    """SET LOCAL, as a statement that is planned in no time, and its arguments."""
    calls: LiteralString = ", ".join(["set_config(%s, %s, true)"] * len(parameters))
    return "select " + calls, [text for pair in parameters.items() for text in pair]


class Database:
    """One lazy connection, replaced when it turns out dead; for the functions that work on one thing at a time.

    Its transactions see documents with any label: who asks was looked at before.
    """

    def __init__(self, url: str, *, connect_timeout: int = 40) -> None:
        self._url = url
        self._connect_timeout = connect_timeout
        self._connection: Connection[DictRow] | None = None
        self._busy = False

    @contextmanager
    def transaction(
        self, tenant: UUID | None, *, local: Mapping[str, str] | None = None
    ) -> Iterator[Cursor[DictRow]]:
        """A transaction that sees tenant's rows only. Raises OutcomeUnknown when the connection breaks at COMMIT.

        Never inside another one: there is one connection, and the inner one's tenant would be the outer one's.
        local are further parameters, SET LOCAL.
        """
        if self._busy:
            raise RuntimeError("a transaction is open on this connection already")
        self._busy, committing = True, False
        try:
            with ExitStack() as stack:
                yield self._begun(stack, _seen_by(tenant, None) | dict(local or {}))
                committing = True
        except psycopg.Error as error:
            if self._connection is not None and self._connection.broken:
                self.close()
            raise translate(error, committing=committing) from error
        finally:
            self._busy = False

    def close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def _begun(self, stack: ExitStack, local: Mapping[str, str]) -> Cursor[DictRow]:
        """A cursor in a new transaction. A connection that died while nobody used it is replaced: nothing was lost."""
        if self._connection is not None:
            try:
                return self._begin(stack, self._connection, local)
            except psycopg.OperationalError:
                self.close()
        self._connection = self._connect()
        return self._begin(stack, self._connection, local)

    def _begin(
        self, stack: ExitStack, connection: Connection[DictRow], local: Mapping[str, str]
    ) -> Cursor[DictRow]:
        with ExitStack() as begun:
            begun.enter_context(connection.transaction())
            cursor = begun.enter_context(connection.cursor())
            cursor.execute(*_local(local))
            stack.push(begun.pop_all())
        return cursor

    def _connect(self) -> Connection[DictRow]:
        connection = Connection.connect(self._url, connect_timeout=self._connect_timeout, **_OPTIONS)
        if self._url not in _known:
            _known[self._url] = _vector_types(connection.execute(_VECTORS).fetchall())
        _register(connection, self._url)
        return connection


class AsyncDatabase:
    """A small pool that grows from nothing, for the function that serves many requests at a time."""

    def __init__(self, url: str, *, max_connections: int, connect_timeout: int = 5) -> None:
        self._url = url
        self._used_at: WeakKeyDictionary[AsyncConnection[DictRow], float] = WeakKeyDictionary()
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            url,
            connection_class=AsyncConnection[DictRow],
            kwargs={**_OPTIONS, "connect_timeout": connect_timeout},
            min_size=0,
            max_size=max_connections,
            max_idle=120,
            timeout=connect_timeout,
            reconnect_timeout=0,
            reconnect_failed=self._connect_later,
            configure=self._configure,
            open=False,
        )
        self._trying: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def transaction(
        self,
        tenant: UUID | None,
        *,
        acl: Labels = (),
        read_only: bool = False,
        local: Mapping[str, str] | None = None,
    ) -> AsyncIterator[AsyncCursor[DictRow]]:
        """A transaction that sees tenant's rows only, and of its documents those that acl may see: unless it is
        given, those without labels. read_only ones see one snapshot throughout.

        Statements are pipelined: results wait on the server until they are fetched. local are further
        parameters, SET LOCAL. A connection found dead before the first statement is replaced once.
        """
        committing = False
        try:
            async with AsyncExitStack() as stack:
                cursor = await self._begin(stack, _seen_by(tenant, acl) | dict(local or {}), read_only)
                yield cursor
                committing = not read_only
        except psycopg.Error as error:
            raise translate(error, committing=committing) from error

    async def _begin(
        self, stack: AsyncExitStack, local: Mapping[str, str], read_only: bool
    ) -> AsyncCursor[DictRow]:
        await self._pool.open()
        connection = await self._taken(stack)
        await connection.set_read_only(read_only or None)  # both are part of BEGIN, not of the session
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ if read_only else None)
        await stack.enter_async_context(connection.pipeline())
        await stack.enter_async_context(connection.transaction())
        await connection.execute(*_local(local))
        return await stack.enter_async_context(connection.cursor(binary=True))

    async def _taken(self, stack: AsyncExitStack) -> AsyncConnection[DictRow]:
        """A connection that lives. When the pooler was restarted all idle ones are dead: they are dropped one after the
        other, without the pauses that the pool's own check makes in between."""
        while True:
            async with AsyncExitStack() as taken:
                connection = await taken.enter_async_context(self._pool.connection())
                if await self._lives(connection):
                    stack.push_async_exit(taken.pop_all())
                    return connection

    async def _lives(self, connection: AsyncConnection[DictRow]) -> bool:
        """Asked of one that lay idle, by the wall clock: others stop while we are frozen."""
        idle = abs(time.time() - self._used_at.get(connection, 0.0))
        self._used_at[connection] = time.time()
        if idle > _TRUSTED_S:
            try:
                await AsyncConnectionPool.check_connection(connection)
            except psycopg.OperationalError:
                return False
        if connection.info.transaction_status != TransactionStatus.IDLE:
            await connection.close()  # whoever had it was stopped midway
            return False
        return True

    async def check(self) -> None:
        """Raises Unavailable when the database does not answer."""
        async with self.transaction(None, read_only=True) as cursor:
            await (await cursor.execute("select 1")).fetchone()

    def statistics(self) -> dict[str, int]:
        return self._pool.get_stats()

    async def close(self) -> None:
        await self._pool.close()
        if self._trying is not None:
            await self._trying

    async def _connect_later(self, _: AsyncConnectionPool[AsyncConnection[DictRow]]) -> None:
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._keep_trying())

    async def _keep_trying(self) -> None:
        """While somebody waits. The pool itself tries once for each that comes, soon or, with pauses that grow, late: the
        last to come would wait in vain for a pooler that was away for a moment."""
        while self.statistics().get("requests_waiting"):
            await asyncio.sleep(_AGAIN_S)
            with suppress(psycopg.OperationalError):  # behind all who wait: it is they who get the connection
                await self._pool.putconn(await self._pool.getconn(timeout=_AGAIN_S))

    async def _configure(self, connection: AsyncConnection[DictRow]) -> None:
        if self._url not in _known:
            _known[self._url] = _vector_types(await (await connection.execute(_VECTORS)).fetchall())
        _register(connection, self._url)
