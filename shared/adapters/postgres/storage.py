"""How the vectors of a space are kept, indexed and looked up, by its storage type; nobody else tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from pgvector import HalfVector, Vector
from psycopg import sql

from shared.core.models import Storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LARGE = 1_000_000  # rows
_MOST_EF = 1_000  # what pgvector takes
CANDIDATES = 40
"""So many each side of a question brings, where not every chunk is scored."""
_ROW = 130  # bytes of a row besides its vector
_COSINE: LiteralString = "v.embedding <=> %(vector)s"
COSINE = sql.SQL(_COSINE)


@dataclass(frozen=True, slots=True)
class _Form:
    """column: its type, without the dimension. indexed: what the HNSW index is over; nearness: what a search sorts by to
    use it. least: so many are taken from the index at least, to be ranked anew by the vectors themselves. width: at least
    so many are looked at for that (hnsw.ef_search), where scripts/bench storage found a recall@10 of 0.99, or 0.98 by signs,
    over 14 136 passages of real text.
    """

    column: LiteralString
    value: type[Vector] | type[HalfVector]
    indexed: LiteralString
    nearness: LiteralString = _COSINE
    least: int = 0
    width: int = 80


_FORMS: Mapping[str, _Form] = {
    Storage.FLOAT32: _Form("vector", Vector, "embedding vector_cosine_ops"),
    Storage.FLOAT16: _Form("halfvec", HalfVector, "embedding halfvec_cosine_ops"),
    Storage.BINARY: _Form(
        "halfvec",
        HalfVector,
        "(binary_quantize(embedding)::bit({dimension})) bit_hamming_ops",
        "binary_quantize(v.embedding)::bit({dimension}) <~> binary_quantize(%(vector)s)::bit({dimension})",
        least=200,
        width=200,
    ),
}


@dataclass(frozen=True, slots=True)
class Graph:
    """How the HNSW graph is built: links of a node, and how many candidates they are chosen from."""

    m: int = 16
    ef_construction: int = 64


def graph(rows: int) -> Graph:
    """For so many rows: what pgvector does by itself; beyond a million more links, for recall falls as a graph grows, which
    nobody has measured here yet."""
    return Graph() if rows <= _LARGE else Graph(24, 128)


def rows_in(storage: Storage, dimension: int, size: int) -> int:
    """About how many rows a table of that many bytes has."""
    return size // (dimension * (4 if storage is Storage.FLOAT32 else 2) + _ROW)


def column(storage: Storage) -> sql.SQL:
    return sql.SQL(_FORMS[storage].column)


def indexed(storage: Storage, dimension: int) -> sql.Composed:
    """For `using hnsw (...)`."""
    return sql.SQL(_FORMS[storage].indexed).format(dimension=sql.Literal(dimension))


def nearness(storage: Storage, dimension: int, vector: LiteralString = "%(vector)s") -> sql.Composed:
    """What to sort {vectors} v by so that their index is used."""
    text = _FORMS[storage].nearness.replace("%(vector)s", vector)
    return sql.SQL(text).format(dimension=sql.Literal(dimension))


def nearest(storage: Storage, wanted: int, width: int = 0) -> int:
    """How many to take from the index for so many good ones, when it is searched that wide: where signs alone are
    indexed, whatever is looked at is ranked anew."""
    least = _FORMS[storage].least
    return max(wanted, least, width) if least else wanted


def width(storage: Storage, taken: int) -> int:
    """hnsw.ef_search, when so many are taken from the index."""
    return min(_MOST_EF, max(taken, _FORMS[storage].width))


def widths(storage: Storage) -> Sequence[int]:
    """hnsw.ef_search as a question usually has it, then wider, for an index that misses too much."""
    usual = width(storage, nearest(storage, CANDIDATES))
    return [min(_MOST_EF, times * usual) for times in (1, 2, 5)]


def values(storage: Storage, vectors: NDArray[np.float32]) -> Sequence[Vector | HalfVector]:
    """Vectors as a statement takes them, bound in binary."""
    form = _FORMS[storage].value
    return [form(vector) for vector in vectors]
