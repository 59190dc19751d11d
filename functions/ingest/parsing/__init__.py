"""Bytes of an uploaded file to text that remembers its pages and headings."""

from __future__ import annotations

from functions.ingest.parsing.limits import ParseLimits
from functions.ingest.parsing.sandbox import ParserPool
from shared.core.models import ParsedDocument

__all__ = ["PARSER_VERSION", "ParseLimits", "ParserPool", "parse"]

# Part of the pipeline's fingerprint: raise it whenever the same bytes would give other text.
PARSER_VERSION = "1"


def parse(data: bytes, *, name: str, limits: ParseLimits | None = None) -> ParsedDocument:
    """The document's text. Raises UnreadableDocument, with a code and a sentence for a person.

    Runs in this process: use ParserPool for files that other people wrote.
    """
    from functions.ingest.parsing import (
        dispatch,
    )  # heavy: the format libraries, which a pool's caller never needs

    return dispatch.parse(data, name=name, limits=limits or ParseLimits())
