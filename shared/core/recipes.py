"""Names for answers: everything that decides what an answer says goes into its name, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a deployment makes answers: versions of its prompt and quotes, its model, its embedding space, its settings."""

    parts: tuple[str | int | float, ...]
    space: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller wants to know and how, without who it is. written: by a model rather than quoted."""

    question: str
    collection: str
    top_k: int
    filter: Mapping[str, Any] | None
    written: bool
    options: tuple[str | int | float | None, ...] = ()


def normalised(question: str) -> str:
    """The question as it is compared: spacing and Unicode forms make no difference, anything else does."""
    return " ".join(unicodedata.normalize("NFC", question).split())


def answer_name(recipe: Recipe, tenant: UUID, acl: tuple[str, ...] | None, order: Order) -> str:
    """Of the exact answer in the cache."""
    return f"rz:a:{tenant}:{_digest([*partition_parts(recipe, acl, order), normalised(order.question)])}"


def partition(recipe: Recipe, acl: tuple[str, ...] | None, order: Order) -> bytes:
    """Of the answers among which a similar question may look for its own: all but the question is the same."""
    return bytes.fromhex(_digest(partition_parts(recipe, acl, order)))


def vector_name(recipe: Recipe, tenant: UUID, question: str) -> str:
    return f"rz:q:{tenant}:{_digest([recipe.space, normalised(question)])}"


def partition_parts(recipe: Recipe, acl: tuple[str, ...] | None, order: Order) -> list[Any]:
    return [
        *recipe.parts,
        recipe.space,
        acl,
        order.collection,
        order.top_k,
        order.filter,
        order.written,
        order.options,
    ]


def _digest(parts: list[Any]) -> str:
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:40]
