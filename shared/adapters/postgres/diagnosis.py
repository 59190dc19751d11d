"""What the database knows about why a document is not searchable, and about the installation as a whole."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from shared.adapters.postgres.connection import AsyncDatabase, translate
from shared.adapters.postgres.sql import load
from shared.core.labels import Labels

_SQL = load("diagnosis")
_OPERATOR = {"app.operator": "on"}
_HANDOVERS = 5
Row = dict[str, Any]


class Diagnoses:
    """Of the documents of one bucket. Rows come as dictionaries; sql/diagnosis.sql names what is in them."""

    def __init__(self, database: AsyncDatabase, bucket: str) -> None:
        self._database = database
        self._bucket = bucket

    async def document(
        self, tenant: UUID, acl: Labels, *, id: UUID | None = None, key: str | None = None
    ) -> Row | None:
        values = {"id": id, "key": key, "bucket": self._bucket}
        return await self._one("document", values, tenant, acl)

    async def embedding(self, tenant: UUID, document: UUID) -> Row:
        """How much of the tenant's work lies before this document's, in the order the job takes it."""
        row = await self._one("embedding", {"tenant": tenant, "id": document}, tenant)
        assert row is not None
        return row

    async def throughput(self, tenant: UUID) -> float | None:
        """Chunks per second that the embedding job did for this tenant within the hour; None when it did nothing."""
        row = await self._one("throughput", {"tenant": tenant}, tenant, None)
        return row["chunks_per_second"] if row else None

    async def rework(self, tenant: UUID, document: UUID) -> None:
        """Whoever looks at the document next does all the work again."""
        async with self._database.transaction(tenant, acl=None) as cursor:
            await cursor.execute(_SQL["rework"], {"id": document})

    async def documents_of(self, tenant: UUID, keys: Sequence[str]) -> dict[str, Row]:
        """By key."""
        rows = await self._all("letters_of", {"bucket": self._bucket, "keys": list(keys)}, tenant, None)
        return {row["key"]: row for row in rows}

    async def discard(
        self, letters: Sequence[tuple[str, str, datetime | None]], reason: str, who: str
    ) -> None:
        """(message id, body, when it was sent) of dead letters nobody will look at again."""
        ids, bodies, sent = [list(column) for column in zip(*letters, strict=True)]
        values = {"ids": ids, "bodies": bodies, "sent": sent, "reason": reason, "who": who}
        async with self._database.transaction(None, local=_OPERATOR) as cursor:
            await cursor.execute(_SQL["discard"], values)

    async def discarded(self, limit: int) -> list[Row]:
        async with self._database.transaction(None, read_only=True, local=_OPERATOR) as cursor:
            return await (await cursor.execute(_SQL["discarded"], {"limit": limit})).fetchall()

    async def sweeps(self, limit: int) -> list[Row]:
        """Newest first."""
        return await self._all("sweeps", {"bucket": self._bucket, "limit": limit})

    async def confirm(self, sweep: int, who: str) -> Row | None:
        """The sweep whose deletes may go on; None when it holds none back."""
        values = {"id": sweep, "bucket": self._bucket, "who": who}
        async with self._database.transaction(None) as cursor:
            return await (await cursor.execute(_SQL["confirm"], values)).fetchone()

    async def fact(self, name: str, **values: Any) -> list[Row]:
        """What the check of that name looks at."""
        async with self._database.transaction(None, read_only=True, local=_OPERATOR) as cursor:
            return await (await cursor.execute(_SQL[name], values)).fetchall()

    async def _one(self, name: str, values: Row, tenant: UUID | None, acl: Labels = ()) -> DictRow | None:
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            return await (await cursor.execute(_SQL[name], values)).fetchone()

    async def _all(
        self, name: str, values: Row, tenant: UUID | None = None, acl: Labels = ()
    ) -> list[DictRow]:
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            return await (await cursor.execute(_SQL[name], values)).fetchall()


async def pooling(url: str) -> str:
    """`transaction` when connections to the server change hands between transactions, `session` when they do not,
    `none` when nothing lies between us and the server. Sets nothing anywhere: in the wrong mode it would stay set."""
    options: dict[str, Any] = {"autocommit": True, "prepare_threshold": None, "connect_timeout": 5}
    try:
        async with (
            await AsyncConnection.connect(url, row_factory=dict_row, **options) as one,
            await AsyncConnection.connect(url, row_factory=dict_row, **options) as other,
        ):
            seen: tuple[set[int], set[int]] = (set(), set())
            for _ in range(_HANDOVERS):
                for connection, servers in zip((one, other), seen, strict=True):
                    row = await (await connection.execute(_SQL["here"])).fetchone()
                    assert row is not None
                    if _own_address(connection) == (row["address"], row["port"]):
                        return "none"
                    servers.add(row["pid"])
            return "transaction" if seen[0] & seen[1] else "session"
    except psycopg.Error as error:
        raise translate(error) from error


def _own_address(connection: AsyncConnection[DictRow]) -> tuple[str, int]:
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        address, port = ours.getsockname()[:2]
    return str(address), int(port)
