"""Markdown: headings become the path, fenced code stays as it is, the rest is paragraphs with their markup."""

from __future__ import annotations

import re

from functions.ingest.parsing.draft import Draft

MEDIA_TYPE = "text/markdown"

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_EMPHASIS = re.compile(r"\*\*|__|`")
_CLOSING = re.compile(r"(?:^|[ \t])#+[ \t]*$")


def parse(data: bytes, draft: Draft) -> None:
    reader = _Reader(draft)
    for line in draft.decode(data).split("\n"):
        reader.line(line)
    reader.flush()


class _Reader:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._lines: list[str] = []
        self._fence = ""

    def line(self, line: str) -> None:
        if self._fence:
            self._fenced(line)
        elif fence := _FENCE.match(line):
            self.flush()
            self._fence = fence[1]
            self._lines.append(line)
        elif heading := _HEADING.match(line):
            self.flush()
            self._heading(len(heading[1]), heading[2] or "")
        elif len(self._lines) == 1 and (underline := _UNDERLINE.match(line)):
            title = self._lines.pop()
            self._heading(1 if underline[1][0] == "=" else 2, title)
        elif line.strip():
            self._lines.append(line)
        else:
            self.flush()

    def flush(self) -> None:
        self._draft.add("\n".join(self._lines), verbatim=bool(self._fence))
        self._lines.clear()

    def _fenced(self, line: str) -> None:
        self._lines.append(line)
        mark = line.strip()
        if mark.startswith(self._fence) and not mark.strip(self._fence[0]):
            self.flush()
            self._fence = ""

    def _heading(self, level: int, text: str) -> None:
        self._draft.heading(level, _EMPHASIS.sub("", _CLOSING.sub("", text[:2000])))
