"""What a file is, told by its content. The extension only chooses between formats that are all plain text."""

from __future__ import annotations

import re

from functions.ingest.parsing import charsets
from functions.ingest.parsing.archive import Archive
from shared.core.errors import UnreadableDocument

_SAMPLE = 64 * 1024

_REFUSED = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"8BPS", "a Photoshop image"),
    (b"\0\0\x01\0", "an icon"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\0asm", "a program"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"ID3", "an audio file"),
    (b"OggS", "an audio file"),
    (b"fLaC", "an audio file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"%!PS", "a PostScript file"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MZ = re.compile(rb"MZ.{58}[\x40-\xff].\0\0", re.DOTALL)

_CODE = frozenset(
    "py pyi js mjs cjs jsx ts tsx java kt kts scala go rs c h cc cpp cxx hh hpp cs m mm swift rb php pl pm r jl lua sh bash "  # noqa: SIM905 - words read better without quotes
    "zsh fish ps1 sql tf hcl toml ini cfg conf yaml yml xml xsd xsl css scss less vue svelte dart ex exs erl hs clj "
    "groovy gradle proto graphql cmake mk dockerfile makefile asm s vb fs f90 diff patch tex".split()
)
_BY_EXTENSION = {
    **dict.fromkeys(_CODE, "code"),
    **dict.fromkeys(("md", "markdown", "mdx"), "markdown"),
    **dict.fromkeys(("csv", "tsv", "tab"), "csv"),
    **dict.fromkeys(("json", "jsonl", "ndjson", "geojson", "ipynb"), "json"),
    "eml": "eml",
    "mht": "eml",
}
_PARTS = (("word/", "docx"), ("ppt/", "pptx"), ("xl/", "xlsx"))
_BY_MIMETYPE = {
    b"application/epub+zip": "epub",
    b"application/vnd.oasis.opendocument.text": "odt",
    b"application/vnd.oasis.opendocument.text-template": "odt",
}

_HTML_START = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_HTML_TAG = re.compile(r"<(?:!doctype|[a-z][a-z0-9]{0,15}[\s/>])", re.I)
_MAIL_HEADER = re.compile(
    r"(?:From|To|Date|Subject|Received|Return-Path|Message-ID|MIME-Version|Delivered-To|Reply-To|X-[\w-]{1,50}):[ \t]",
    re.I,
)
_MAIL_FIELD = re.compile(r"[\x21-\x39\x3b-\x7e]{1,80}:|[ \t]")


def sniff(data: bytes, name: str) -> str:
    """The name of the format; UnreadableDocument `empty` or `unsupported_media_type` where there is none for it."""
    if not data.strip():
        raise UnreadableDocument("empty", "The file is empty.")
    head = data[:1024].lstrip(b"\xef\xbb\xbf\t\r\n \0")
    if head.startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _sniff_zip(data)
    _refuse_binary(data)
    return _sniff_text(data, extension(name))


def extension(name: str) -> str:
    """What follows the last dot of the file's name, or the name where there is no dot, in lower case."""
    return name.rpartition("/")[2].rpartition(".")[2].strip().lower()


def _sniff_zip(data: bytes) -> str:
    archive = Archive(data)
    mimetype = (archive.get("mimetype") or b"").strip()
    if mimetype in _BY_MIMETYPE:
        return _BY_MIMETYPE[mimetype]
    if "META-INF/container.xml" in archive and not mimetype:
        return "epub"
    if "[Content_Types].xml" in archive and not mimetype:
        families = [
            family for prefix, family in _PARTS if any(name.startswith(prefix) for name in archive.names)
        ]
        if len(families) == 1:
            return families[0]
    what = (
        "an Office file of a kind that is not read"
        if "[Content_Types].xml" in archive or mimetype
        else "a ZIP archive"
    )
    raise _unsupported(what)


def _refuse_binary(data: bytes) -> None:
    if data.startswith(_OLE):
        raise _refuse_ole(data)
    for magic, what in _REFUSED:
        if data.startswith(magic):
            raise _unsupported(what)
    if data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"AVI ", b"WAVE")):
        raise _unsupported("an image, a video or an audio file")
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0":
        raise _unsupported("a BMP image")
    if data[257:262] == b"ustar":
        raise _unsupported("a tar archive")
    if _MZ.match(data) or _looks_binary(data[:_SAMPLE]):
        raise _unsupported("binary data of an unknown kind")


def _looks_binary(sample: bytes) -> bool:
    """More than a few bytes, and one in thirty, are control characters no text uses, and it is not UTF-16 or -32."""
    if charsets.marked(sample) or charsets.unmarked_utf16(sample):
        return False
    odd = sum(sample.count(byte) for byte in range(32) if byte not in b"\t\n\r\f\x08\x1b") + sample.count(
        0x7F
    )
    return odd > 8 and odd * 30 > len(sample)


def _refuse_ole(data: bytes) -> UnreadableDocument:
    if "EncryptedPackage".encode("utf-16-le") in data:
        return UnreadableDocument("encrypted", "The Office file is protected with a password.")
    return _unsupported(
        "a legacy Office file (before 2007) or an Outlook message; save it in a current format"
    )


def _sniff_text(data: bytes, ending: str) -> str:
    text = charsets.decode(data[:_SAMPLE])[0].lstrip("\ufeff")
    if _HTML_START.match(_after_prologue(text)):
        return "html"
    if ending in ("html", "htm", "xhtml") and _HTML_TAG.search(text):
        return "html"
    if ending in _BY_EXTENSION:
        return _BY_EXTENSION[ending]
    if ending != "txt" and text.lstrip()[:1] in ("{", "["):
        return "json"
    return "eml" if ending != "txt" and _looks_like_mail(text) else "text"


def _after_prologue(text: str) -> str:
    """The text from its first element or word on, without XML declaration and comments."""
    text = text.lstrip()
    for opening, closing in (("<?xml", "?>"), ("<!--", "-->")):
        while text.startswith(opening) and closing in text:
            text = text.partition(closing)[2].lstrip()
    return text


def _looks_like_mail(text: str) -> bool:
    """A block of header fields, two of them ones that mail has, then an empty line."""
    block, empty_line, _ = text.replace("\r\n", "\n").partition("\n\n")
    lines = block.split("\n")
    known = sum(1 for line in lines if _MAIL_HEADER.match(line))
    return bool(empty_line) and known > 1 and all(_MAIL_FIELD.match(line) for line in lines)


def _unsupported(what: str) -> UnreadableDocument:
    return UnreadableDocument(
        "unsupported_media_type", f"The file is {what}; only documents with text are read."
    )
