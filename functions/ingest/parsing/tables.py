"""Table rows that make sense one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_NUMBER = re.compile(r"(?!(?:19|20)\d\d$)[\s\d.,:/%€$£+-]+")


def is_header(cells: Sequence[str]) -> bool:
    """Whether a row names columns: two names or more, none twice, none a number but a year, no gap between."""
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if names and not names[0]:
        names.pop(0)  # the corner above the row labels
    return len(names) > 1 and len(set(names)) == len(names) and not any(_is_value(name) for name in names)


def _is_value(cell: str) -> bool:
    return not cell or len(cell) > 100 or _NUMBER.fullmatch(cell) is not None


def row_text(header: Sequence[str], cells: Sequence[str]) -> str:
    """One `header: value` line per filled cell, or the cells side by side where there is no header."""
    values = [" ".join(cell.split()) for cell in cells]
    if not header:
        return " | ".join(value for value in values if value)
    names = [*header, *[""] * (len(values) - len(header))]
    return "\n".join(
        f"{name}: {value}" if name else value for name, value in zip(names, values, strict=False) if value
    )


def row_texts(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The rows of a table as texts. Single cells may stand above the header, but no other row."""
    remaining = iter(rows)
    header: Sequence[str] = ()
    for cells in remaining:
        if is_header(cells):
            header = [" ".join(cell.split()) for cell in cells]
            break
        if text := row_text((), cells):
            yield text
        if sum(1 for cell in cells if cell.strip()) > 1:
            break
    used = False
    for cells in remaining:
        if text := row_text(header, cells):
            yield text
            used = True
    if header and not used:
        yield row_text((), header)
