"""What goes between the pool and its limited processes: bytes that cannot make their reader run anything.

A failure is `E` + JSON {code, detail}. A document is `D` + length of the JSON + JSON {media_type, pages,
flags, paths, blocks} + three arrays of unsigned 32-bit numbers, one per block (characters of text, page or 0,
index of its heading path) + the blocks' texts, joined, in UTF-8.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from itertools import accumulate, pairwise
from typing import Any

from shared.core.errors import UnreadableDocument
from shared.core.models import Block, ParsedDocument

REQUEST = struct.Struct("<IQ")  # bytes of the name, bytes of the document; both follow
ENDED = struct.Struct("<iQ")  # wait status, peak resident memory in bytes
READY = DONE = b"."

_LENGTH = struct.Struct("<I")
_NUMBER_BYTES = array("I").itemsize
_ARRAYS = 3
MAX_META = 32 * 2**20
MAX_CODE, MAX_DETAIL = 64, 500


def max_bytes(text_bytes: int, blocks: int) -> int:
    """The longest answer that keeps to these limits."""
    return 1 + _LENGTH.size + MAX_META + _ARRAYS * _NUMBER_BYTES * blocks + text_bytes


def encode(document: ParsedDocument) -> bytes:
    paths: dict[tuple[str, ...], int] = {}
    numbers = (
        array("I", (len(block.text) for block in document.blocks)),
        array("I", (block.page or 0 for block in document.blocks)),
        array("I", (paths.setdefault(block.headings, len(paths)) for block in document.blocks)),
    )
    meta = json.dumps(_meta(document, list(paths))).encode()
    if len(meta) > MAX_META:
        raise UnreadableDocument("too_much_text", f"The document's headings take more than {MAX_META} bytes.")
    text = "".join(block.text for block in document.blocks).encode()
    return b"".join((b"D", _LENGTH.pack(len(meta)), meta, *(part.tobytes() for part in numbers), text))


def encode_failure(failure: UnreadableDocument) -> bytes:
    return (
        b"E" + json.dumps({"code": failure.code[:MAX_CODE], "detail": failure.detail[:MAX_DETAIL]}).encode()
    )


def decode(answer: bytes) -> ParsedDocument:
    """The document, or the failure raised. ValueError where the answer is not one that encode made."""
    if answer[:1] == b"E":
        raise _failure(json.loads(answer[1:]))
    if answer[:1] != b"D":
        raise ValueError("the answer is neither a document nor a failure")
    try:
        return _document(memoryview(answer)[1:])
    except (KeyError, TypeError, IndexError, struct.error) as error:
        raise ValueError("the answer is malformed") from error


def _meta(document: ParsedDocument, paths: list[tuple[str, ...]]) -> dict[str, Any]:
    return {
        "media_type": document.media_type,
        "pages": document.pages,
        "flags": document.flags,
        "paths": paths,
        "blocks": len(document.blocks),
    }


def _failure(fields: Any) -> UnreadableDocument:
    match fields:
        case {"code": str(code), "detail": str(detail)}:
            return UnreadableDocument(code[:MAX_CODE], detail[:MAX_DETAIL])
    raise ValueError("the failure is malformed")


def _document(view: memoryview) -> ParsedDocument:
    (meta_bytes,) = _LENGTH.unpack_from(view)
    start = _LENGTH.size + meta_bytes
    meta = json.loads(bytes(view[_LENGTH.size : start]))
    size = int(meta["blocks"]) * _NUMBER_BYTES
    lengths, pages, path_numbers = (
        array("I", bytes(view[start + i * size : start + (i + 1) * size])) for i in range(_ARRAYS)
    )
    text = bytes(view[start + _ARRAYS * size :]).decode()
    if not len(lengths) == len(pages) == len(path_numbers) or sum(lengths) != len(text) or "\0" in text:
        raise ValueError("the answer's text and its index do not match")
    headings = [tuple(_text(part) for part in path) for path in meta["paths"]]
    spans = pairwise(accumulate(lengths, initial=0))
    blocks = (
        Block(text[begin:end], page or None, headings[path])
        for (begin, end), page, path in zip(spans, pages, path_numbers, strict=True)
    )
    flags = tuple(sys.intern(_text(flag)) for flag in meta["flags"])
    count = meta["pages"]
    return ParsedDocument(
        _text(meta["media_type"]), tuple(blocks), None if count is None else int(count), flags
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("the answer holds something else where text belongs")
    return value
