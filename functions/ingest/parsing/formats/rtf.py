r"""RTF: running text without its control words. Pictures, embedded objects and other destinations are skipped."""

from __future__ import annotations

import re

from functions.ingest.parsing import charsets
from functions.ingest.parsing.draft import Draft

MEDIA_TYPE = "application/rtf"

_TOKEN = re.compile(
    rb"\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,10})? ?|\\(?P<symbol>[^a-zA-Z])"
    rb"|(?P<brace>[{}])|(?P<text>[^\\{}\r\n]+)"
)
_SKIPPED = frozenset(
    b"fonttbl colortbl stylesheet info pict object objdata header headerl headerr headerf footer footerl footerr footerf "
    b"fldinst datafield themedata colorschememapping listtable listoverridetable rsidtbl generator xmlnstbl filetbl "
    b"revtbl bkmkstart bkmkend shpinst nonshppict latentstyles datastore pgptbl".split()
)
_BREAKS = {
    b"par": "\n\n",
    b"sect": "\n\n",
    b"page": "\n\n",
    b"row": "\n\n",
    b"line": "\n",
    b"tab": "\t",
    b"cell": " | ",
}
_CHARACTERS = {
    b"emdash": "\u2014", b"endash": "\u2013", b"bullet": "\u2022", b"lquote": "\u2018", b"rquote": "\u2019",
    b"ldblquote": "\u201c", b"rdblquote": "\u201d", b"emspace": " ", b"enspace": " ", b"zwj": "\u200d", b"zwnj": "\u200c",
}  # fmt: skip
_SYMBOLS = {b"~": "\u00a0", b"_": "-", b"\n": "\n\n", b"\r": "\n\n", b"\\": "\\", b"{": "{", b"}": "}"}
_MAX_DEPTH = 10_000


def parse(data: bytes, draft: Draft) -> None:
    if b"\\object" in data or b"\\objdata" in data:
        draft.flags.add("attachments_ignored")
    for paragraph in _Reader().read(data).split("\n\n"):
        draft.add(paragraph)


class _Reader:
    def __init__(self) -> None:
        self._out: list[str] = []
        self._bytes = bytearray()
        self._codec = "cp1252"
        self._skip = False
        self._fallback = 1  # how many characters follow a \u for readers without Unicode
        self._drop = 0
        self._stack: list[tuple[bool, int]] = []

    def read(self, data: bytes) -> str:
        position = 0
        while token := _TOKEN.search(data, position):
            position = token.end()
            kind = token.lastgroup or ""
            if token["word"] is not None:
                position += self._word(token["word"], token["number"])
            elif kind == "brace":
                self._brace(token["brace"])
            elif not self._skip:
                self._content(kind, token[kind])
            if kind == "symbol" and token["symbol"] == b"*":
                self._skip = True
        self._flush()
        return "".join(self._out).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _content(self, kind: str, value: bytes) -> None:
        if kind == "hex":
            self._raw(bytes((int(value, 16),)))
        elif kind == "text":
            self._raw(value)
        elif value in _SYMBOLS:
            self._emit(_SYMBOLS[value])

    def _raw(self, value: bytes) -> None:
        dropped = min(self._drop, len(value))
        self._drop -= dropped
        self._bytes += value[dropped:]

    def _brace(self, brace: bytes) -> None:
        self._drop = 0
        if brace == b"{":
            if len(self._stack) >= _MAX_DEPTH:
                raise RecursionError
            self._stack.append((self._skip, self._fallback))
        elif self._stack:
            self._skip, self._fallback = self._stack.pop()

    def _word(self, word: bytes, number: bytes | None) -> int:
        """Obeys a control word; returns how many bytes of binary data follow it."""
        value = int(number) if number else 0
        if word == b"bin":
            return max(value, 0)
        if word in _SKIPPED:
            self._skip = True
        elif word == b"ansicpg":
            self._codec = charsets.known(f"cp{value}") or self._codec
        elif word == b"uc":
            self._fallback = min(max(value, 0), 16)
        elif not self._skip:
            self._write(word, value)
        return 0

    def _write(self, word: bytes, value: int) -> None:
        if word == b"u":
            self._emit(chr(value & 0xFFFF))
            self._drop = self._fallback
        elif word in _BREAKS or word in _CHARACTERS:
            self._emit(_BREAKS.get(word) or _CHARACTERS[word])

    def _emit(self, text: str) -> None:
        self._flush()
        self._out.append(text)

    def _flush(self) -> None:
        if self._bytes:
            self._out.append(self._bytes.decode(self._codec, "replace"))
            self._bytes.clear()
