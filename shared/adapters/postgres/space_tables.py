"""The tables of embedding spaces: made, given their index, dropped. As the owner, on straight connections to the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import psycopg
from psycopg import sql

from shared.adapters.postgres import storage
from shared.adapters.postgres.connection import translate
from shared.core.errors import Conflict, NotFound
from shared.core.models import Space, Storage

_ONE_BUILDER = 7_291_003


def ensure_model(admin_url: str, space: Space) -> int:
    """The id of the space that a model has, however its vectors are stored; made as said when it has none."""
    with _owner(admin_url) as connection:
        found = connection.execute(
            "select id from spaces where fingerprint = %s order by state, id limit 1", [space.fingerprint]
        ).fetchone()
    return int(found[0]) if found else ensure_space(admin_url, space)


def ensure_space(admin_url: str, space: Space) -> int:
    """The id of the space with this fingerprint and storage, made with its table when new.

    The first one is the active one, and has its index from the start.
    """
    with _owner(admin_url) as connection:
        found = connection.execute(
            "select id from spaces where fingerprint = %s and storage = %s",
            [space.fingerprint, space.storage],
        ).fetchone()
        if found:
            return int(found[0])
        with connection.transaction():
            made = _create_space(connection, space)
        if made == _active(connection):
            build_index(admin_url, made)
            mark_built(admin_url, made)
        return made


def renew_functions(admin_url: str) -> None:
    """Of all spaces, as they are made now."""
    with _owner(admin_url) as connection:
        for id, kept, dimension in connection.execute("select id, storage, dimension from spaces").fetchall():
            connection.execute(_nearest(id, Storage(kept), dimension))


def build_index(
    admin_url: str,
    space: int,
    *,
    memory: str = "256MB",
    workers: int = 0,
    collection: int | None = None,
) -> None:
    """While others read and write. memory: what the build may take, of the form 256MB; a graph that does not fit into
    it takes several times as long. workers: besides the one that builds; with two it is done in less than half of the time,
    and questions meanwhile take half as long again (scripts/bench index-build). collection: of its chunks alone.

    One whose build was interrupted is built anew.
    """
    with _owner(admin_url) as connection:
        name = _index_name(space, collection)
        row = connection.execute(
            "select indisvalid from pg_index where indexrelid = to_regclass(%s)", [name]
        ).fetchone()
        if row and row[0]:
            return
        if row:
            connection.execute(sql.SQL("drop index concurrently {}").format(sql.Identifier(name)))
        connection.execute(
            "select set_config('maintenance_work_mem', %s, false), "
            "set_config('max_parallel_maintenance_workers', %s, false)",
            [memory, str(workers)],
        )
        connection.execute(_index(connection, space, collection))


def drop_index(admin_url: str, space: int, collection: int) -> None:
    """The one of that collection alone; it is found by the common one from then on."""
    with _owner(admin_url) as connection:
        name = sql.Identifier(_index_name(space, collection))
        connection.execute(sql.SQL("drop index concurrently if exists {}").format(name))


def mark_built(admin_url: str, space: int) -> None:
    """From now on it can become the active one."""
    with _owner(admin_url) as connection:
        connection.execute("update spaces set built_at = now() where id = %s and built_at is null", [space])


def reclaim_space(admin_url: str, space: int) -> str:
    """Drops a space that is not the active one; its name. There is no way back to it. Raises Conflict, NotFound."""
    with _owner(admin_url) as connection, connection.transaction():
        connection.execute("set local lock_timeout = '5s'")
        row = connection.execute(
            "select name, state from spaces where id = %s for update", [space]
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no embedding space {space}")
        if row[1] == "active":
            raise Conflict(f"space {space} ({row[0]}) is the active one; make another one active first")
        connection.execute(sql.SQL("drop function if exists {}").format(sql.Identifier(f"nearest_{space:d}")))
        connection.execute(sql.SQL("drop table {}").format(sql.Identifier(f"vectors_{space:d}")))
        connection.execute("delete from spaces where id = %s", [space])
        return str(row[0])


@contextmanager
def only_builder(admin_url: str) -> Iterator[None]:
    """Raises Conflict while somebody else fills a space: two would compute the same vectors."""
    with _owner(admin_url) as connection:
        row = connection.execute("select pg_try_advisory_lock(%s)", [_ONE_BUILDER]).fetchone()
        if not (row and row[0]):
            raise Conflict("somebody else is filling a space; one at a time")
        yield


def acting_as(admin_url: str, role: str) -> str:
    """The address under which an administrator has that role's rights and row-level security."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(role)))
    return psycopg.conninfo.make_conninfo(admin_url, options=f"-c role={role}")


@contextmanager
def _owner(admin_url: str) -> Iterator[psycopg.Connection]:
    try:
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute("set role ragzero_owner")
            yield connection
    except psycopg.Error as error:
        raise translate(error) from error


def _create_space(connection: psycopg.Connection, space: Space) -> int:
    # foreign keys need a lock on chunks, behind which whoever writes them would queue
    connection.execute("set local lock_timeout = '5s'")
    row = connection.execute(
        """insert into spaces (name, fingerprint, model, revision, dimension, storage, state)
           values (%s, %s, %s, %s, %s, %s,
                   case when exists (select from spaces where state = 'active') then 'building' else 'active' end)
           returning id""",
        [space.name, space.fingerprint, space.model, space.revision, space.dimension, space.storage],
    ).fetchone()
    assert row is not None
    table = {"dimension": sql.Literal(space.dimension), "column": storage.column(space.storage)}
    connection.execute(_template("space.sql", int(row[0]), **table))
    connection.execute(_nearest(int(row[0]), space.storage, space.dimension))
    return int(row[0])


def _nearest(space: int, kept: Storage, dimension: int) -> sql.Composed:
    return _template(
        "space_nearest.sql",
        space,
        column=storage.column(kept),
        nearness=storage.nearness(kept, dimension, "asked"),
        taken=sql.Literal(storage.nearest(kept, storage.CANDIDATES)),
    )


def _index_name(space: int, collection: int | None) -> str:
    return f"vectors_{space:d}_hnsw" + ("" if collection is None else f"_{collection:d}")


def _index(connection: psycopg.Connection, space: int, collection: int | None) -> sql.Composed:
    row = connection.execute("select storage, dimension from spaces where id = %s", [space]).fetchone()
    if row is None:
        raise NotFound(f"there is no embedding space {space}")
    size = connection.execute("select pg_relation_size(%s::regclass)", [f"vectors_{space:d}"]).fetchone()
    assert size is not None
    graph = storage.graph(storage.rows_in(Storage(row[0]), row[1], int(size[0])))
    return _template(
        "space_index.sql",
        space,
        name=sql.Identifier(_index_name(space, collection)),
        indexed=storage.indexed(Storage(row[0]), row[1]),
        of=sql.SQL("" if collection is None else "where collection_id = {}").format(sql.Literal(collection)),
        m=sql.Literal(graph.m),
        ef_construction=sql.Literal(graph.ef_construction),
    )


def _active(connection: psycopg.Connection) -> int | None:
    row = connection.execute("select id from spaces where state = 'active'").fetchone()
    return int(row[0]) if row else None


def _template(file: str, space: int, **parts: sql.Composable) -> sql.Composed:
    text = files(__package__).joinpath(file).read_text()
    return sql.SQL(text).format(space=sql.SQL(str(int(space))), **parts)
