"""Delimited text: one block per row, each value beside its column's name. Formulas are text like any other."""

from __future__ import annotations

import csv
import io

from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.formats import text as plain
from functions.ingest.parsing.tables import row_texts

MEDIA_TYPE = "text/csv"

_DELIMITERS = (",", ";", "\t", "|")


def parse(data: bytes, draft: Draft) -> None:
    text = draft.decode(data)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        for row in row_texts(rows):
            draft.add(row)
    except (
        csv.Error
    ):  # a quote that never closes swallows the rest of the file: read it once more, as it stands
        draft.clear()
        draft.flags.add("not_tabular")
        plain.parse_text(text, draft)


def _delimiter(text: str) -> str:
    """The delimiter that splits the first lines into the most, and equally many, columns."""
    lines = [line for line in text[:20_000].split("\n")[:20] if line.strip()]
    counts = {mark: [line.count(mark) for line in lines] for mark in _DELIMITERS}
    return max(_DELIMITERS, key=lambda mark: (min(counts[mark], default=0), sum(counts[mark])))
