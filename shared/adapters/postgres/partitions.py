"""Large collections get a graph of their own in the active space: among many others a search of the common one goes through
what is not asked for. The statements of a question name the collection, so that Postgres uses it by itself.
"""

from __future__ import annotations

import psycopg

from shared.adapters.postgres.connection import translate
from shared.adapters.postgres.space_tables import build_index, drop_index
from shared.core.errors import ConfigurationError


def partition(admin_url: str, above: int, *, memory: str, workers: int) -> tuple[list[int], list[int]]:
    """Collections that have a graph of their own now because they have more chunks than that, and those that have lost it
    because they have less than half as many, or are gone."""
    space, sizes, own = _known(admin_url)
    large = [id for id, chunks in sizes.items() if chunks > above and id not in own]
    small = [id for id in own if 2 * sizes.get(id, 0) < above]
    for collection in large:
        build_index(admin_url, space, memory=memory, workers=workers, collection=collection)
    for collection in small:
        drop_index(admin_url, space, collection)
    return large, small


def _known(admin_url: str) -> tuple[int, dict[int, int], list[int]]:
    """The active space, the chunks of all tenants' collections, and the collections that have a graph of their own."""
    try:
        with psycopg.connect(admin_url) as connection:
            connection.execute("grant ragzero_reindex to current_user")
            connection.execute("set local role ragzero_reindex")
            connection.execute("set local app.sweep = 'on'")
            active = connection.execute("select id from spaces where state = 'active'").fetchone()
            if active is None:
                raise ConfigurationError(
                    "DATABASE_ADMIN_URL", "no embedding space is active; run scripts/migrate"
                )
            sizes = connection.execute("select id, chunks from collections order by id").fetchall()
            own = connection.execute(
                "select substring(c.relname from '_hnsw_([0-9]+)$')::bigint from pg_index i "
                "join pg_class c on c.oid = i.indexrelid "
                "where i.indrelid = %s::regclass and i.indisvalid and c.relname ~ '_hnsw_[0-9]+$' order by 1",
                [f"vectors_{int(active[0])}"],
            ).fetchall()
    except psycopg.Error as error:
        raise translate(error) from error
    return int(active[0]), dict(sizes), [row[0] for row in own]
