"""Access labels: which documents of its tenant a key sees.

A document without labels is everybody's; one with labels is seen by keys that share one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from shared.core.errors import InvalidInput

Labels = tuple[str, ...] | None
"""Those whose documents are seen besides the ones without any; None: all documents of the tenant."""

MAX_LABELS = 32
_LABEL = re.compile(r"[a-z0-9][a-z0-9:_.-]{0,62}")


def labels(raw: Iterable[str]) -> tuple[str, ...]:
    """In lower case, sorted, each once. Raises InvalidInput on the first that is none."""
    found = sorted({_label(text) for text in raw})
    if len(found) > MAX_LABELS:
        raise InvalidInput(f"acl has up to {MAX_LABELS} labels, not {len(found)}", field="acl")
    return tuple(found)


def document_labels(raw: str) -> tuple[str, ...]:
    """Of a document's metadata, where commas part them. Naming nobody is refused: it would be read as everybody."""
    if not raw.strip():
        raise InvalidInput("acl names at least one label; leave it out for everybody", field="acl")
    return labels(raw.split(","))


def _label(text: str) -> str:
    label = text.strip(" ").lower()
    if not (text.isascii() and _LABEL.fullmatch(label)):
        raise InvalidInput(
            f"a label of acl has up to 63 of a-z, 0-9, :, _, . and -, and begins with one of a-z and 0-9,"
            f" unlike {text[:80]!r}",
            field="acl",
        )
    return label
