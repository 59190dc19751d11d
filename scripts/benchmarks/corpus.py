"""A synthetic collection of any size: a Zipf vocabulary, and texts and vectors that share topics."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

DIMENSION = 384
_VOCABULARY = 40_000
_TOPICS = 400
_PER_DOCUMENT = 4
_WORDS = 120
_BATCH = 5_000


Drawn = tuple[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Corpus:
    """Draws texts and vectors of one topic; words are more telling the rarer they are."""

    words: list[str]
    share: NDArray[np.float64]
    meaning: NDArray[np.float32]
    topics: NDArray[np.float32]
    topic_words: NDArray[np.int64]

    @classmethod
    def made(cls, rng: np.random.Generator) -> Corpus:
        share = 1 / np.arange(1, _VOCABULARY + 1) ** 1.05
        return cls(
            [f"w{number:x}q" for number in rng.permutation(_VOCABULARY)],
            share / share.sum(),
            rng.standard_normal((_VOCABULARY, DIMENSION), dtype=np.float32),
            rng.standard_normal((_TOPICS, DIMENSION), dtype=np.float32),
            rng.integers(200, _VOCABULARY, (_TOPICS, 400)),
        )

    def draw(self, rng: np.random.Generator, common: int, special: int) -> Drawn:
        topic = int(rng.integers(_TOPICS))
        chosen = np.concatenate(
            [rng.choice(_VOCABULARY, common, p=self.share), rng.choice(self.topic_words[topic], special)]
        )
        telling = -np.log(self.share[chosen])[:, None].astype(np.float32)
        vector = (self.meaning[chosen] * telling).mean(0) * 2 + self.topics[topic]
        vector += rng.standard_normal(DIMENSION, dtype=np.float32) * 0.3
        return " ".join(self.words[number] for number in chosen), vector / np.linalg.norm(vector)


def load(dsn: str, corpus: Corpus, chunks: int, tenant: uuid.UUID) -> None:
    """Into space 1 of a database without documents, as the tenant's collection "default"."""
    rng = np.random.default_rng(1)
    store(dsn, lambda: corpus.draw(rng, _WORDS - 30, 30), chunks, tenant)


def store(dsn: str, draw: Callable[[], Drawn], chunks: int, tenant: uuid.UUID) -> None:
    """So many texts with their vectors, four to a document, as load does."""
    with psycopg.connect(dsn, autocommit=True) as db:
        register_vector(db)
        db.execute("insert into tenants (id, name) values (%s, 'bench') on conflict do nothing", [tenant])
        db.execute(
            "insert into collections (tenant_id, name) values (%s, 'default') on conflict do nothing",
            [tenant],
        )
        db.execute("alter table vectors_1 drop constraint vectors_1_chunk_id_fkey")
        db.execute("drop index vectors_1_hnsw, chunk_terms_gin")
        for first in range(0, chunks, _BATCH):
            _load_batch(db, draw, first, min(_BATCH, chunks - first), tenant)
        db.execute("set maintenance_work_mem = '1GB'")
        db.execute("create index chunk_terms_gin on chunk_terms using gin (terms) with (fastupdate = off)")
        db.execute("create index vectors_1_hnsw on vectors_1 using hnsw (embedding halfvec_cosine_ops)")
        db.execute(
            """insert into lexemes select 1, substr(word, 3), %s, ndoc from ts_stat('select terms from chunk_terms')""",
            [tenant],
        )
        db.execute("update collections set chunks = %s, documents = %s", [chunks, chunks // _PER_DOCUMENT])
        db.execute("select setval(pg_get_serial_sequence('chunks', 'id'), %s)", [chunks])
        db.execute("vacuum analyze")


def _load_batch(
    db: psycopg.Connection[Any],
    draw: Callable[[], Drawn],
    first: int,
    count: int,
    tenant: uuid.UUID,
) -> None:
    drawn = [draw() for _ in range(count)]
    numbers = range(first + 1, first + count + 1)
    with db.cursor() as cursor:
        for number in numbers:
            if number % _PER_DOCUMENT == 1:
                cursor.execute(
                    """insert into documents (id, tenant_id, collection_id, bucket, key, status, generation,
                                              published_generation, chunks, metadata)
                       values (%s, %s, 1, 'b', %s, 'searchable', 1, 1, %s, %s)""",
                    [_document(number), tenant, str(number), _PER_DOCUMENT,
                     Jsonb({"bucket": number // _PER_DOCUMENT % 100})],
                )  # fmt: skip
        cursor.execute(
            """insert into chunks (id, tenant_id, collection_id, document_id, generation, ordinal, text, start_char,
                                   end_char, text_hash, weights)
               overriding system value
               select id, %s, 1, doc, 1, id %% 4, text, 0, length(text), sha256(convert_to(text, 'UTF8')),
                      weight_vector(words)
               from unnest(%s::bigint[], %s::uuid[], %s::text[]) as new (id, doc, text),
                    lateral (select to_tsvector('english', text) as words offset 0) as analysed""",
            [tenant, list(numbers), [_document(n) for n in numbers], [text for text, _ in drawn]],
        )
        cursor.execute(
            """insert into chunk_terms (chunk_id, tenant_id, terms)
               select id, tenant_id, term_vector(1, to_tsvector('english', text)) from chunks where id > %s""",
            [first],
        )
        with cursor.copy("copy vectors_1 from stdin with (format binary)") as copy:
            copy.set_types(["int8", "uuid", "int8", "uuid", "int4", "bytea", "halfvec"])
            for number, (_, vector) in zip(numbers, drawn, strict=True):
                row = (
                    number,
                    tenant,
                    1,
                    _document(number),
                    1,
                    number.to_bytes(32, "big"),
                    HalfVector(vector),
                )
                copy.write_row(row)


def _document(number: int) -> uuid.UUID:
    return uuid.UUID(int=(number - 1) // _PER_DOCUMENT + 1)
