"""One document from bytes to blocks, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.formats import code as source_code
from functions.ingest.parsing.formats import (
    csv,
    docx,
    eml,
    epub,
    html,
    json,
    markdown,
    odt,
    pdf,
    pptx,
    rtf,
    text,
    xlsx,
)
from functions.ingest.parsing.limits import ParseLimits
from functions.ingest.parsing.sniff import sniff
from shared.core.errors import UnreadableDocument
from shared.core.models import ParsedDocument

FORMATS: dict[str, ModuleType] = {
    "code": source_code,
    "csv": csv,
    "docx": docx,
    "eml": eml,
    "epub": epub,
    "html": html,
    "json": json,
    "markdown": markdown,
    "odt": odt,
    "pdf": pdf,
    "pptx": pptx,
    "rtf": rtf,
    "text": text,
    "xlsx": xlsx,
}


def parse(data: bytes, *, name: str, limits: ParseLimits) -> ParsedDocument:
    if len(data) > limits.input_bytes:
        raise limits.too_large(len(data))
    with _blaming_the_file(limits):
        module = FORMATS[sniff(data, name)]
        draft = Draft(limits)
        module.parse(data, draft)
    return draft.build(module.MEDIA_TYPE)


@contextmanager
def _blaming_the_file(limits: ParseLimits) -> Iterator[None]:
    try:
        yield
    except (UnreadableDocument, OSError):  # an OSError is never about the file: it is all in memory
        raise
    except MemoryError as error:
        raise limits.out_of_memory() from error
    except RecursionError as error:
        raise UnreadableDocument("damaged", "The file is nested too deeply to be read.") from error
    except Exception as error:  # whatever a damaged file provokes in a format library
        detail = f"The file's structure is not what its beginning promises ({type(error).__name__})."
        raise UnreadableDocument("damaged", detail) from error
