"""Bytes to text: byte order marks, UTF-8, UTF-16 without a mark, then a guess among legacy encodings."""

from __future__ import annotations

import codecs
from encodings import normalize_encoding
from encodings.aliases import aliases

import charset_normalizer

# Only these are ever looked up: Python's registry also holds things that are no character sets, some of them slow.
LEGACY = (  # noqa: SIM905 - words read better without quotes
    "cp1252 cp1251 cp1250 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp866 cp874 cp437 cp850 latin_1 iso8859_2 iso8859_5 "
    "iso8859_7 iso8859_8 iso8859_9 iso8859_15 koi8_r koi8_u mac_roman mac_cyrillic gbk gb2312 gb18030 big5 big5hkscs "
    "cp932 shift_jis euc_jp iso2022_jp cp949 euc_kr johab"
).split()
_UNICODE = ("ascii", "utf_8", "utf_16", "utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 64 * 1024

# Western, central European and Turkish text differs from English in few letters, too few for a general detector:
# what counts is which encoding turns them into letters and marks these languages use.
_MARKS_USED = "\u2018\u2019\u201a\u201c\u201d\u201e\u2013\u2014\u2026\u2022\u20ac§°«»·\xa0"
_LATIN = {
    "cp1252": frozenset(_MARKS_USED + "äöüßéèêëàâçñíóúáôîïûùœæøåãõìòÄÖÜÉÈÀÇÑÅØÆÓÁ¿¡©®½²³ºª£"),
    "cp1250": frozenset(_MARKS_USED + "ąćęłńóśźżĄĆĘŁŃÓŚŹŻáéíúýčďěňřšťůžőűöüäßČŘŠŽÁÉÍÝŐŰăâîşţ"),
    "cp1254": frozenset(_MARKS_USED + "ğışİĞŞçöüÇÖÜâî"),
}
_OTHER_SCRIPTS = "cp1251 koi8_r cp1253 cp1255 cp1256 cp866 gb18030 big5 cp932 euc_jp cp949".split()  # noqa: SIM905 - words read better without quotes


def known(name: str | None) -> str | None:
    """The codec for a declared charset, or None where it is unknown or not one we read."""
    key = normalize_encoding((name or "").strip().strip("'\"").lower())
    codec = aliases.get(key, key)
    if codec in ("latin_1", "ascii"):
        return "cp1252"  # as browsers do: what is declared as either is in practice its superset
    return codec if codec in LEGACY or codec in _UNICODE else None


def marked(data: bytes) -> tuple[bytes, str] | None:
    """The byte order mark the data starts with and the encoding it names."""
    return next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), None)


def unmarked_utf16(data: bytes) -> str | None:
    """utf-16-le or utf-16-be when zero bytes sit (almost) only at one parity and are frequent there."""
    sample = data[:_SAMPLE]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    most, least = max(even, odd), min(even, odd)
    if len(sample) < 4 or most * 8 < len(sample) or least * 20 > most:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def decode(data: bytes, declared: str | None = None) -> tuple[str, set[str]]:
    """The text and flags; bytes that are wrong in their encoding become U+FFFD."""
    if found := marked(data):
        mark, name = found
        return _replacing(data[len(mark) :], name)
    if name16 := unmarked_utf16(data):
        return _replacing(data, name16)
    if known(declared) == "iso2022_jp":  # its bytes are all ASCII, so they would pass for UTF-8
        return _replacing(data, "iso2022_jp")
    try:
        return data.decode("utf-8"), set()
    except UnicodeDecodeError:
        return _decode_legacy(data, known(declared))


def _decode_legacy(data: bytes, declared: str | None) -> tuple[str, set[str]]:
    if declared is None and _mostly_utf8(data):
        declared = "utf_8"
    if declared:
        return _replacing(data, declared)
    text, flags = _replacing(data, _guess(data))
    return text, flags | {"encoding_guessed"}


def _replacing(data: bytes, encoding: str) -> tuple[str, set[str]]:
    try:
        return data.decode(encoding), set()
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), {"invalid_bytes_replaced"}


def _mostly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = len(text) - len(text.encode("ascii", "ignore")) - bad
    return good > bad


def _guess(data: bytes) -> str:
    first = next(i for i, byte in enumerate(data) if byte > 0x7F)
    start = max(0, first - _SAMPLE // 4)
    sample = data[start : start + _SAMPLE]
    high = sum(1 for byte in sample if byte > 0x7F)
    letters = sum(1 for byte in sample if byte < 0x80 and chr(byte).isalpha())
    latin = max(_LATIN, key=lambda codec: _share(sample, codec, high))
    if high < letters and _share(sample, latin, high) > 0.6:
        return latin
    best = charset_normalizer.from_bytes(sample, cp_isolation=_OTHER_SCRIPTS).best()
    return best.encoding if best else latin


def _share(sample: bytes, codec: str, high: int) -> float:
    """How much of what is not ASCII would be usual letters or punctuation in this encoding."""
    return sum(1 for character in sample.decode(codec, "replace") if character in _LATIN[codec]) / high
