"""Text as it should be stored: composed, visible, nothing in it that a database or a reader trips over."""

from __future__ import annotations

import re
import unicodedata

_BREAKS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SURROGATES = re.compile("[\ud800-\udfff]")

# Scripts whose spelling needs the (non-)joiners, and the symbols that emoji sequences are built from.
_JOINING = (
    "\u0600-\u08ff\u0900-\u0dff\u0f00-\u0fff\u1000-\u109f\u1780-\u18af\ua840-\ua87f\ufb50-\ufdff\ufe70-\ufefe"
    "\ufe0f\u2190-\u2bff\U0001f000-\U0001faff"
)
_ALWAYS_INVISIBLE = (
    "\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_SUSPECT = re.compile(f"[{_ALWAYS_INVISIBLE}{_SELECTORS}\u200c\u200d]")
_INVISIBLE = re.compile(
    f"[{_ALWAYS_INVISIBLE}]"
    f"|(?<![{_JOINING}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINING}])"
    f"|(?<=[{_SELECTORS}\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f])[{_SELECTORS}]"
)


def normalise_breaks(text: str) -> str:
    return _BREAKS.sub("\n", text.replace("\r\n", "\n"))


def clean(text: str) -> tuple[str, set[str]]:
    """The text in NFC with LF line ends and nothing invisible, and flags for what was taken out.

    Meant for pieces of some thousand characters: NFC takes quadratic time where combining marks pile up.
    """
    flags: set[str] = set()
    if "\0" in text:
        flags.add("nul_removed")
    text = normalise_breaks(text)
    text, found = _CONTROLS.subn("", text)
    if found and "nul_removed" not in flags:
        flags.add("control_characters_removed")
    if not text.isascii():
        text = _clean_unicode(text, flags)
    return text, flags


def _clean_unicode(text: str, flags: set[str]) -> str:
    text, found = _SURROGATES.subn("\ufffd", text)
    if found:
        flags.add("invalid_bytes_replaced")
    text = text.replace("\xad", "")
    if _SUSPECT.search(text):
        text, found = _INVISIBLE.subn("", text)
        if found:
            flags.add("invisible_characters_removed")
    return unicodedata.normalize("NFC", text)
