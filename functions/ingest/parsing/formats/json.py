"""JSON and JSON lines: one block per record, each value beside the path that leads to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.formats import text as plain

MEDIA_TYPE = "application/json"
MAX_DEPTH = 64
MAX_KEY = 200


class _Object(tuple[tuple[str, Any], ...]):
    """A JSON object as pairs, so that a key given twice keeps both values."""


class _TooDeep(Exception):
    pass


def parse(data: bytes, draft: Draft) -> None:
    text = draft.decode(data)
    try:
        _add_document(_load(text), draft)
    except (ValueError, RecursionError, _TooDeep):
        draft.clear()
        _parse_lines(text, draft)


def _load(text: str) -> Any:
    # Numbers stay as written: no rounding, and no quadratic conversion of a million digits.
    return json.loads(text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=str)


def _parse_lines(text: str, draft: Draft) -> None:
    try:
        for line in text.split("\n"):
            if line.strip():
                _add_record(_load(line), draft)
    except (ValueError, RecursionError, _TooDeep):
        draft.clear()
        draft.flags.add("invalid_json")
        plain.parse_text(text, draft)


def _add_document(value: Any, draft: Draft) -> None:
    if isinstance(value, _Object):
        for key, item in value:
            _add_field(key, item, draft)
    elif isinstance(value, list):
        for item in value:
            _add_record(item, draft)
    else:
        _add_record(value, draft)


def _add_field(key: str, value: Any, draft: Draft) -> None:
    if isinstance(value, list) and any(isinstance(item, (_Object, list)) for item in value):
        draft.heading(1, key)
        for item in value:
            _add_record(item, draft)
        draft.leave(1)
    else:
        _add_record(_Object(((key, value),)), draft)


def _add_record(value: Any, draft: Draft) -> None:
    draft.add("\n".join(_lines(value)))


def _lines(record: Any) -> Iterator[str]:
    """`path: value` for every leaf; lists of plain values stay on one line."""
    stack = [("", record, 0)]
    while stack:
        path, value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise _TooDeep
        if isinstance(value, _Object):
            prefix = path + "." if path else ""
            stack.extend((prefix + key[:MAX_KEY], item, depth + 1) for key, item in reversed(value))
        elif isinstance(value, list) and any(isinstance(item, (_Object, list)) for item in value):
            stack.extend((f"{path}[{i}]", item, depth + 1) for i, item in reversed(list(enumerate(value))))
        elif line := _leaf(value):
            yield f"{path}: {line}" if path else line


def _leaf(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(filter(None, map(_leaf, value)))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
