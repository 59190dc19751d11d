"""The tables of embedding spaces: made, given their index, dropped. As the owner, on straight connections to the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import psycopg
from psycopg import sql

from shared.adapters.postgres.connection import translate
from shared.core.errors import Conflict, NotFound
from shared.core.models import Space

_ONE_BUILDER = 7_291_003


def ensure_space(admin_url: str, space: Space) -> int:
    """The id of the space with this fingerprint, made with its table when new.

    The first one is the active one, and has its index from the start.
    """
    with _owner(admin_url) as connection:
        found = connection.execute(
            "select id from spaces where fingerprint = %s", [space.fingerprint]
        ).fetchone()
        if found:
            return int(found[0])
        with connection.transaction():
            made = _create_space(connection, space)
        if made == _active(connection):
            build_index(admin_url, made)
            mark_built(admin_url, made)
        return made


def build_index(admin_url: str, space: int, *, memory: str = "256MB") -> None:
    """While others read and write. memory: what the build may take, of the form 256MB; a graph that does not fit into
    it takes several times as long.

    One whose build was interrupted is built anew.
    """
    with _owner(admin_url) as connection:
        name = f"vectors_{space:d}_hnsw"
        row = connection.execute(
            "select indisvalid from pg_index where indexrelid = to_regclass(%s)", [name]
        ).fetchone()
        if row and row[0]:
            return
        if row:
            connection.execute(sql.SQL("drop index concurrently {}").format(sql.Identifier(name)))
        connection.execute("select set_config('maintenance_work_mem', %s, false)", [memory])
        connection.execute(_template("space_index.sql", space))


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
        """insert into spaces (name, fingerprint, model, revision, dimension, state)
           values (%s, %s, %s, %s, %s,
                   case when exists (select from spaces where state = 'active') then 'building' else 'active' end)
           returning id""",
        [space.name, space.fingerprint, space.model, space.revision, space.dimension],
    ).fetchone()
    assert row is not None
    connection.execute(_template("space.sql", int(row[0]), space.dimension))
    return int(row[0])


def _active(connection: psycopg.Connection) -> int | None:
    row = connection.execute("select id from spaces where state = 'active'").fetchone()
    return int(row[0]) if row else None


def _template(file: str, space: int, dimension: int = 0) -> sql.Composed:
    text = files(__package__).joinpath(file).read_text()
    return sql.SQL(text).format(space=sql.SQL(str(int(space))), dimension=sql.Literal(dimension))
