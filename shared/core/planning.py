"""What a change of the index will take, before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.core.models import Storage


class Change(StrEnum):
    """What is to change. All but the model leave the vectors of unchanged texts as they are."""

    MODEL = "model"
    CHUNKING = "chunking"
    PARSER = "parser"
    LANGUAGE = "language"
    STORAGE = "storage"


_BESIDE = (Change.MODEL, Change.STORAGE)  # a space of its own, beside the active one


@dataclass(frozen=True, slots=True)
class Size:
    """What the index holds. texts: different ones among the chunks, each of which is embedded once; known: those of them
    that have a vector in the space that is to come."""

    documents: int = 0
    chunks: int = 0
    texts: int = 0
    known: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.documents + other.documents,
            self.chunks + other.chunks,
            self.texts + other.texts,
            self.known + other.known,
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """chunks_per_second: of the encoder; documents_per_second: of ingest; usd_per_second: of the GPU while it works."""

    chunks_per_second: float
    documents_per_second: float = 5.0
    usd_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """at_most: nobody knows how many texts will be new before they are cut, so vectors and what follows are the most.

    disk_bytes: beside what is there now, until the old is reclaimed.
    """

    documents: int
    chunks: int
    vectors_made: int
    vectors_reused: int
    at_most: bool
    rereads_documents: bool
    gpu_minutes: float
    cost_usd: float
    seconds: float
    disk_bytes: int


_BITS = {
    Storage.FLOAT32: (32, 32),
    Storage.FLOAT16: (16, 16),
    Storage.BINARY: (16, 1),
}  # in the table, in the index
_ROW = 300  # tuple header, ids, hash, and three btree entries; measured
_GRAPH = 400  # neighbours and page ends of an HNSW entry besides its vector; measured at 100 000 rows
_INDEXED_PER_SECOND = 5_000


def serves(source: Storage, wanted: Storage) -> bool:
    """Whether vectors kept that way can be copied into a space that keeps them so."""
    return source == Storage.FLOAT32 or wanted != Storage.FLOAT32


def planned(
    change: Change, size: Size, pace: Pace, dimension: int, storage: Storage = Storage.FLOAT16
) -> Plan:
    """dimension, storage: of the vectors that are to come."""
    rereads = change not in _BESIDE
    made = 0 if change is Change.LANGUAGE else size.texts - (size.known if change in _BESIDE else 0)
    encoding = made / pace.chunks_per_second
    reading = size.documents / pace.documents_per_second if rereads else size.chunks / _INDEXED_PER_SECOND
    return Plan(
        documents=size.documents,
        chunks=size.chunks,
        vectors_made=made,
        vectors_reused=size.chunks - made,
        at_most=change in (Change.CHUNKING, Change.PARSER),
        rereads_documents=rereads,
        gpu_minutes=round(encoding / 60, 3),
        cost_usd=round(encoding * pace.usd_per_second, 6),
        seconds=round(encoding + reading, 1),
        disk_bytes=size.chunks * (dimension * sum(_BITS[storage]) // 8 + _ROW + _GRAPH),
    )
