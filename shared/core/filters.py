"""Metadata filters: {"field": value}, {"field": {"$in": [...], "$gte": ...}}, {"$and"|"$or": [...]}, {"$not": ...}.

parse turns JSON into a small tree; where it becomes SQL is the adapter's matter. Fields uri, media_type, page
and created_at are the document's own, every other name is looked up in its metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.core.errors import InvalidInput

Scalar = str | int | float | bool | datetime
BUILT_IN = ("uri", "media_type", "page", "created_at")
_RANGES = ("$gt", "$gte", "$lt", "$lte")
_MAX_DEPTH = 8
_MAX_LEAVES = 64
_MAX_VALUES = 500
_MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Match:
    """field is equal to one of values."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """field compared with value by one of $gt, $gte, $lt, $lte."""

    field: str
    operator: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter


Filter = Match | Range | All | Either | Not


def parse(raw: Mapping[str, Any]) -> Filter:
    """Raises InvalidInput that names the offending part and the limit."""
    tree = _parse(raw, 0)
    if _leaves(tree) > _MAX_LEAVES:
        raise _invalid(f"has more than {_MAX_LEAVES} conditions")
    return tree


def _parse(raw: Any, depth: int) -> Filter:
    if not isinstance(raw, Mapping) or not raw:
        raise _invalid("is an object with at least one condition")
    if depth > _MAX_DEPTH:
        raise _invalid(f"is nested deeper than {_MAX_DEPTH}")
    parts = tuple(_condition(name, value, depth) for name, value in raw.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _condition(name: str, value: Any, depth: int) -> Filter:
    if name in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise _invalid(f"{name} takes a list of at least one filter")
        parts = tuple(_parse(part, depth + 1) for part in value)
        return All(parts) if name == "$and" else Either(parts)
    if name == "$not":
        return Not(_parse(value, depth + 1))
    if name.startswith("$") or not name or len(name) > 128 or "\x00" in name:
        raise _invalid(f"{name[:80]!r} is neither a field nor one of $and, $or, $not")
    return _field(name, value)


def _field(name: str, value: Any) -> Filter:
    if not isinstance(value, Mapping):
        return Match(name, (_scalar(name, value),))
    if not value:
        raise _invalid(f"{name!r} has no operator")
    parts = tuple(_operator(name, operator, operand) for operator, operand in value.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _operator(name: str, operator: str, operand: Any) -> Filter:
    if operator == "$in":
        if not isinstance(operand, list) or not 0 < len(operand) <= _MAX_VALUES:
            raise _invalid(f"$in on {name!r} takes a list of 1 to {_MAX_VALUES} values")
        return Match(name, tuple(_scalar(name, value) for value in operand))
    if operator in _RANGES:
        value = _scalar(name, operand)
        if isinstance(value, bool):
            raise _invalid(f"{operator} on {name!r} takes a number, a date or a text")
        return Range(name, operator, value)
    raise _invalid(f"{operator[:80]!r} on {name!r} is none of $in, {', '.join(_RANGES)}")


def _scalar(name: str, value: Any) -> Scalar:
    if not isinstance(value, str | int | float | bool):
        raise _invalid(f"the value of {name!r} is a text, a number or a boolean")
    if isinstance(value, str) and (len(value) > _MAX_TEXT or "\x00" in value):
        raise _invalid(f"the value of {name!r} is a text of up to {_MAX_TEXT} characters without NUL")
    if isinstance(value, int | float) and not abs(value) < 2**53:
        raise _invalid(f"the value of {name!r} is a number below 2^53")
    match name:
        case "page" if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**31:
            raise _invalid("'page' is compared with a whole number")
        case "created_at":
            return _moment(value)
        case "uri" | "media_type" if not isinstance(value, str):
            raise _invalid(f"{name!r} is compared with a text")
    return value


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise _invalid("'created_at' is compared with an ISO 8601 time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _leaves(tree: Filter) -> int:
    match tree:
        case All(parts) | Either(parts):
            return sum(map(_leaves, parts))
        case Not(part):
            return _leaves(part)
        case _:
            return 1


def _invalid(problem: str) -> InvalidInput:
    return InvalidInput(f"the filter {problem}", field="filter")
