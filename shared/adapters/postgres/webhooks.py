"""Webhooks of tenants, and the outbox of messages to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.postgres.connection import AsyncDatabase, Database
from shared.adapters.postgres.sql import load
from shared.core.errors import Conflict, NotFound
from shared.core.webhooks import BACKOFF_S, MAX_ATTEMPTS, Message, Webhook, WebhookEvent

_SQL = load("webhooks")
MOST = 10
_MAX_ERROR = 300


class WebhookStore:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def make(self, tenant: UUID, id: UUID, url: str, events: Sequence[str], secret: bytes) -> Webhook:
        """Raises Conflict when there are too many."""
        values = {"tenant": tenant, "id": id, "url": url, "events": list(events), "secret": secret}
        async with self._database.transaction(tenant) as cursor:
            row = await (await cursor.execute(_SQL["count"], values)).fetchone()
            if row is not None and row["webhooks"] >= MOST:
                raise Conflict(f"a tenant has up to {MOST} webhooks")
            await cursor.execute(_SQL["make"], values)
        return next(one for one in await self.list(tenant) if one.id == id)

    async def list(self, tenant: UUID) -> list[Webhook]:
        """Oldest first."""
        async with self._database.transaction(tenant, read_only=True) as cursor:
            rows = await (await cursor.execute(_SQL["list"], {"tenant": tenant})).fetchall()
        return [Webhook(**row) for row in rows]

    async def remove(self, tenant: UUID, id: UUID) -> None:
        """With all it has not been told."""
        async with self._database.transaction(tenant) as cursor:
            removed = await cursor.execute(_SQL["remove"], {"tenant": tenant, "id": id})
            if await removed.fetchone() is None:
                raise NotFound("there is no such webhook")


def tell(cursor: Cursor[DictRow], documents: Sequence[UUID], event: WebhookEvent) -> None:
    """Leaves a message of each document for each webhook of its tenant that listens."""
    cursor.execute(_SQL["tell"], {"documents": list(documents), "event": event.value})


class Outbox:
    """Of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, limit: int, *, fresh: bool) -> list[Message]:
        """Messages that are due, each ours for one attempt; fresh: first attempts only."""
        values = {"limit": limit, "fresh": fresh, "backoff": list(BACKOFF_S)}
        with self._delivering() as cursor:
            rows = cursor.execute(_SQL["take"], values).fetchall()
        return [_message(row) for row in rows]

    def following(self) -> float | None:
        """In how many seconds the next message is due, less than none where it is already; None where none waits."""
        with self._delivering() as cursor:
            row = cursor.execute(_SQL["following"]).fetchone()
        return row["seconds"] if row else None

    def listened(self) -> bool:
        """Whether anybody wants to be told anything."""
        with self._delivering() as cursor:
            row = cursor.execute(_SQL["listened"]).fetchone()
        return bool(row and row["listened"])

    def delivered(self, ids: Sequence[UUID]) -> None:
        with self._delivering() as cursor:
            cursor.execute(_SQL["delivered"], {"ids": list(ids)})

    def failed(self, id: UUID, error: str) -> None:
        with self._delivering() as cursor:
            cursor.execute(_SQL["failed"], {"id": id, "error": error[:_MAX_ERROR], "most": MAX_ATTEMPTS})

    @contextmanager
    def _delivering(self) -> Iterator[Cursor[DictRow]]:
        with self._database.transaction(None, local={"app.courier": "on"}) as cursor:
            yield cursor


def _message(row: DictRow) -> Message:
    body = json.dumps(row.pop("payload"), ensure_ascii=False, separators=(",", ":")).encode()
    return Message(**row, body=body)
