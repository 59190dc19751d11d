"""Mail: who, when, what about, and the best body. Attachments are named, not opened."""

from __future__ import annotations

from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser

from functions.ingest.parsing import charsets
from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.formats import text as plain
from functions.ingest.parsing.formats.html import add_html
from shared.core.errors import UnreadableDocument

MEDIA_TYPE = "message/rfc822"

_SHOWN = ("Subject", "From", "To", "Cc", "Date")
_MAX_PARTS = 1_000
_MAX_HEADER = 10_000


def parse(data: bytes, draft: Draft) -> None:
    message = BytesParser().parsebytes(data)
    leaves = _leaves(message)
    headers = {name: value for name in _SHOWN if (value := _header(message, name, draft))}
    draft.heading(0, headers.get("Subject", ""))
    draft.add("\n".join(f"{name}: {value}" for name, value in headers.items()))
    bodies = [part for part in leaves if _is_body(part)]
    _add_best(bodies, draft)
    if names := [_attachment(part, draft) for part in leaves if part not in bodies]:
        draft.flags.add("attachments_ignored")
        draft.add("Attachments: " + "; ".join(names))


def _leaves(message: Message) -> list[Message]:
    """The parts that hold something, in order; a forwarded message counts as one."""
    found: list[Message] = []
    stack = [message]
    while stack:
        part = stack.pop()
        inner = part.get_payload() if part.is_multipart() else None
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            stack.extend(entry for entry in reversed(inner) if isinstance(entry, Message))
        else:
            found.append(part)
        if len(found) + len(stack) > _MAX_PARTS:
            raise UnreadableDocument("damaged", f"The message has more than {_MAX_PARTS} parts.")
    return found


def _is_body(part: Message) -> bool:
    return part.get_content_type() in ("text/plain", "text/html") and not (
        part.get_content_disposition() == "attachment" or _file_name(part)
    )


def _add_best(bodies: list[Message], draft: Draft) -> None:
    """Plain text where the sender wrote any, else the HTML."""
    texts = [_body(part, draft) for part in bodies if part.get_content_type() == "text/plain"]
    if any(text.strip() for text in texts):
        for text in texts:
            plain.parse_text(text, draft)
        return
    for part in bodies:
        if part.get_content_type() == "text/html":
            add_html(_body(part, draft), draft, titled=False)


def _body(part: Message, draft: Draft) -> str:
    payload = part.get_payload(decode=True)
    charset = part.get_param("charset")
    return draft.decode(
        payload if isinstance(payload, bytes) else b"", charset if isinstance(charset, str) else None
    )


def _header(message: Message, name: str, draft: Draft) -> str:
    raw = message.get(name)
    return "" if raw is None else " ".join(_decoded(str(raw)[:_MAX_HEADER], draft).split())


def _decoded(value: str, draft: Draft) -> str:
    """A header with its encoded words (RFC 2047) read; unknown charsets are guessed, never looked up."""
    try:
        pieces = decode_header(value)
    except HeaderParseError:
        return value
    return "".join(
        draft.decode(piece, charset if charsets.known(charset) else None)
        if isinstance(piece, bytes)
        else piece
        for piece, charset in pieces
    )


def _attachment(part: Message, draft: Draft) -> str:
    name = _file_name(part)
    if isinstance(name, tuple):  # RFC 2231: charset, language, the name's bytes as characters
        name = draft.decode(name[2][:_MAX_HEADER].encode("latin-1", "replace"), name[0])
    return f"{_decoded((name or 'unnamed')[:_MAX_HEADER], draft)} ({part.get_content_type()})"


def _file_name(part: Message) -> str | tuple[str | None, str | None, str] | None:
    return part.get_param("filename", header="content-disposition") or part.get_param("name")
