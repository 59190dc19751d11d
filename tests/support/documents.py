"""Small documents of every format ragzero reads, built by hand, and the broken and hostile ones it refuses."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from email.message import EmailMessage
from xml.sax.saxutils import escape

Rows = Sequence[Sequence[object]]

# --- PDF ------------------------------------------------------------------------------------------------------

_PASSWORD_PAD = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


def pdf_bytes(
    pages: Sequence[str],
    *,
    script: str | None = None,
    attachment: bytes | None = None,
    password: str | None = None,
) -> bytes:
    """One page per string. Each line of it is set in 12 points, or 20 where it starts with `# `; an empty line
    leaves a gap. With a password, a reader needs it to open the file."""
    objects: list[bytes] = [
        b"",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    kids = []
    for page in pages:
        objects.append(_stream(_page_content(page)))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F 3 0 R >> >> >>" % len(objects)
        )
        kids.append(b"%d 0 R" % len(objects))
    catalog = b"<< /Type /Catalog /Pages 2 0 R"
    if script is not None:
        objects.append(b"<< /S /JavaScript /JS (%s) >>" % _pdf_text(script))
        catalog += b" /OpenAction %d 0 R" % len(objects)
    if attachment is not None:
        objects.append(_stream(attachment, b"/Type /EmbeddedFile"))
        objects.append(b"<< /Type /Filespec /F (secret.txt) /EF << /F %d 0 R >> >>" % len(objects))
        catalog += b" /Names << /EmbeddedFiles << /Names [(secret.txt) %d 0 R] >> >>" % len(objects)
    objects[0] = catalog + b" >>"
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(kids))
    return _pdf_file(objects, password)


def pdf_bomb(inflated: int) -> bytes:
    """A page whose content inflates to so many bytes, twice compressed to a few kilobytes."""
    squeezed = zlib.compress(_squeezed_zeros(inflated), 9)
    content = b"<< /Filter [/FlateDecode /FlateDecode] /Length %d >>\nstream\n%s\nendstream" % (
        len(squeezed),
        squeezed,
    )
    return _pdf_file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
            content,
        ]
    )


def pdf_with_looping_pages() -> bytes:
    """A page tree whose only child is itself."""
    return _pdf_file([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>"])


def _squeezed_zeros(size: int) -> bytes:
    packer = zlib.compressobj(9)
    chunk = b" " * (1 << 20)
    parts = [packer.compress(chunk) for _ in range(size >> 20)]
    return b"".join((*parts, packer.flush()))


def _page_content(page: str) -> bytes:
    commands, height = [b"BT"], 740
    for line in page.split("\n"):
        size = 20 if line.startswith("# ") else 12
        text = _pdf_text(line.removeprefix("# "))
        commands.append(b"/F %d Tf 1 0 0 1 72 %d Tm (%s) Tj" % (size, height, text))
        height -= 15 if size == 12 else 30
    return b"\n".join((*commands, b"ET"))


def _pdf_text(text: str) -> bytes:
    raw = text.encode("cp1252", "replace")
    return raw.replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)")


def _stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries, len(content), content)


def _pdf_file(objects: Sequence[bytes], password: str | None = None) -> bytes:
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    trailer = b"/Root 1 0 R"
    if password is not None:
        objects = [*objects, _encryption(password)]
        trailer += b" /Encrypt %d 0 R /ID [<00> <00>]" % len(objects)
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    out.write(b"trailer\n<< %s /Size %d >>\nstartxref\n%d\n%%%%EOF\n" % (trailer, len(objects) + 1, start))
    return out.getvalue()


def _encryption(password: str) -> bytes:
    """The standard security handler, revision 2 (ISO 32000-1, 7.6.3)."""
    padded = (password.encode() + _PASSWORD_PAD)[:32]
    owner = _rc4(_md5(padded)[:5], padded)
    key = _md5(padded + owner + struct.pack("<i", -4) + b"\0")[:5]
    user = _rc4(key, _PASSWORD_PAD)
    return b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (
        owner.hex().encode(),
        user.hex().encode(),
    )


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


# --- Office Open XML ------------------------------------------------------------------------------------------

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SLIDE = "http://schemas.openxmlformats.org/presentationml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"


def zip_bytes(members: Mapping[str, str | bytes]) -> bytes:
    """A ZIP file; the first member is stored, as the formats with a `mimetype` member want it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(members.items()):
            archive.writestr(name, content, compress_type=None if number else zipfile.ZIP_STORED)
    return out.getvalue()


def docx_bytes(
    paragraphs: Sequence[str],
    *,
    table: Rows = (),
    body: str = "",
    extra: Mapping[str, str | bytes] | None = None,
) -> bytes:
    """Paragraphs starting with `# `, `## ` ... become headings of that level; body is raw WordprocessingML."""
    blocks = "".join(_word_paragraph(text) for text in paragraphs)
    rows = "".join(f"<w:tr>{''.join(_word_cell(cell) for cell in row)}</w:tr>" for row in table)
    document = f'<w:document xmlns:w="{_WORD}"><w:body>{blocks}{rows and f"<w:tbl>{rows}</w:tbl>"}{body}</w:body></w:document>'
    styles = "".join(
        f'<w:style w:styleId="H{n}"><w:name w:val="heading {n}"/></w:style>' for n in range(1, 7)
    )  # fmt: skip
    return office_bytes(
        "word/document.xml",
        {
            "word/document.xml": _XML + document,
            "word/_rels/document.xml.rels": _relations({"styles": "styles.xml"}),
            "word/styles.xml": f'{_XML}<w:styles xmlns:w="{_WORD}">{styles}</w:styles>',
            **(extra or {}),
        },
    )


def pptx_bytes(
    slides: Sequence[tuple[str, Sequence[str]]], *, notes: Mapping[int, str] | None = None
) -> bytes:
    """(title, paragraphs) per slide; notes by slide number, from 1."""
    numbers = range(1, len(slides) + 1)
    listed = "".join(f'<p:sldId id="{255 + n}" r:id="rId{n}"/>' for n in numbers)
    members: dict[str, str | bytes] = {
        "ppt/presentation.xml": f'{_XML}<p:presentation xmlns:p="{_SLIDE}" xmlns:r="{_OFFICE}">'
        f"<p:sldIdLst>{listed}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": _relation_list(
            (f"rId{n}", "slide", f"slides/slide{n}.xml") for n in numbers
        ),
    }
    for number, (title, paragraphs) in enumerate(slides, start=1):
        members[f"ppt/slides/slide{number}.xml"] = _slide(title, paragraphs)
    for number, text in (notes or {}).items():
        members[f"ppt/notesSlides/notesSlide{number}.xml"] = _slide("", [text])
        members[f"ppt/slides/_rels/slide{number}.xml.rels"] = _relations(
            {"notesSlide": f"../notesSlides/notesSlide{number}.xml"}
        )
    return office_bytes("ppt/presentation.xml", members)


def xlsx_bytes(sheets: Mapping[str, Rows]) -> bytes:
    """Rows per sheet. A text that starts with `=` becomes a formula without a stored result, a pair of formula and
    result one with it, a date a number in a date style."""
    numbers = range(1, len(sheets) + 1)
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"/>'
        for n, name in enumerate(sheets, start=1)
    )
    members: dict[str, str | bytes] = {
        "xl/workbook.xml": f'{_XML}<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}"><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relation_list(
            [
                *((f"rId{n}", "worksheet", f"worksheets/sheet{n}.xml") for n in numbers),
                ("rIdS", "styles", "styles.xml"),
            ]
        ),
        "xl/styles.xml": f'{_XML}<styleSheet xmlns="{_SHEET}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
        "</styleSheet>",
    }
    for number, rows in enumerate(sheets.values(), start=1):
        content = "".join(f"<row>{''.join(map(_sheet_cell, row))}</row>" for row in rows)
        members[f"xl/worksheets/sheet{number}.xml"] = (
            f'{_XML}<worksheet xmlns="{_SHEET}"><sheetData>{content}</sheetData></worksheet>'
        )
    return office_bytes("xl/workbook.xml", members)


def office_bytes(main: str, members: Mapping[str, str | bytes]) -> bytes:
    return zip_bytes(
        {
            "[Content_Types].xml": f'{_XML}<Types xmlns="{_PACKAGE}/content-types"/>',
            "_rels/.rels": _relations({"officeDocument": main}),
            **members,
        }
    )


def _relations(targets: Mapping[str, str]) -> str:
    return _relation_list(
        (f"rId{n}", kind, target) for n, (kind, target) in enumerate(targets.items(), start=1)
    )


def _relation_list(links: Iterable[tuple[str, str, str]]) -> str:
    entries = "".join(
        f'<Relationship Id="{i}" Type="{_OFFICE}/{kind}" Target="{target}"/>' for i, kind, target in links
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{entries}</Relationships>'


def _word_paragraph(text: str) -> str:
    marks, _, title = text.partition(" ")
    if marks and not marks.strip("#"):
        style, text = f'<w:pPr><w:pStyle w:val="H{len(marks)}"/></w:pPr>', title
    else:
        style = ""
    return f'<w:p>{style}<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'


def _word_cell(cell: object) -> str:
    return f"<w:tc>{_word_paragraph(str(cell))}</w:tc>"


def _slide(title: str, paragraphs: Sequence[str]) -> str:
    body = "".join(f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p>" for text in paragraphs)
    heading = f"<a:p><a:r><a:t>{escape(title)}</a:t></a:r></a:p>"
    return (
        f'{_XML}<p:sld xmlns:p="{_SLIDE}" xmlns:a="{_DRAWING}"><p:cSld><p:spTree>'
        f"<p:sp><p:nvSpPr><p:nvPr/></p:nvSpPr><p:txBody>{body}</p:txBody></p:sp>"
        f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="title"/></p:nvPr></p:nvSpPr><p:txBody>{heading}</p:txBody></p:sp>'
        "</p:spTree></p:cSld></p:sld>"
    )


def _sheet_cell(cell: object) -> str:
    match cell:
        case (formula, result):
            return f"<c><f>{escape(str(formula).removeprefix('='))}</f><v>{escape(str(result))}</v></c>"
        case str() if cell.startswith("="):
            return f"<c><f>{escape(cell[1:])}</f></c>"
        case int() | float():
            return f"<c><v>{cell}</v></c>"
        case None:
            return "<c/>"
        case _ if hasattr(cell, "toordinal"):
            return f'<c s="1"><v>{cell.toordinal() - 693594}</v></c>'  # days since 1899-12-30
    return f'<c t="inlineStr"><is><t>{escape(str(cell))}</t></is></c>'


# --- other formats --------------------------------------------------------------------------------------------

_ODF = "urn:oasis:names:tc:opendocument:xmlns"


def odt_bytes(paragraphs: Sequence[str], *, table: Rows = (), manifest: str = "") -> bytes:
    """Paragraphs starting with `# `, `## ` ... become headings of that level."""
    rows = "".join(
        f"<table:table-row>{''.join(f'<table:table-cell><text:p>{escape(str(c))}</text:p></table:table-cell>' for c in row)}"
        "</table:table-row>"
        for row in table
    )
    content = "".join(map(_odf_paragraph, paragraphs)) + (rows and f"<table:table>{rows}</table:table>")
    return zip_bytes(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f'{_XML}<office:document-content xmlns:office="{_ODF}:office:1.0" xmlns:text="{_ODF}:text:1.0" '
            f'xmlns:table="{_ODF}:table:1.0"><office:body><office:text>{content}</office:text></office:body>'
            "</office:document-content>",
            "META-INF/manifest.xml": f"<manifest>{manifest}</manifest>",
        }
    )


def _odf_paragraph(text: str) -> str:
    marks, _, title = text.partition(" ")
    if marks and not marks.strip("#"):
        return f'<text:h text:outline-level="{len(marks)}">{escape(title)}</text:h>'
    return f"<text:p>{escape(text)}</text:p>"


def epub_bytes(title: str, chapters: Sequence[str], *, encrypted: bool = False) -> bytes:
    """Each chapter is the inside of a body element."""
    numbers = range(1, len(chapters) + 1)
    items = "".join(
        f'<item id="c{n}" href="text/c%20{n}.xhtml" media-type="application/xhtml+xml"/>' for n in numbers
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in numbers)
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        "OPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>{escape(title)}</dc:title></metadata><manifest>{items}</manifest><spine>{spine}</spine>"
        "</package>",
    }
    if encrypted:
        members["META-INF/encryption.xml"] = (
            '<e><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128"/></e>'
        )
    for number, body in enumerate(chapters, start=1):
        members[f"OPS/text/c {number}.xhtml"] = (
            f'{_XML}<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{body}</body></html>'
        )
    return zip_bytes(members)


def html_bytes(body: str, *, title: str = "") -> bytes:
    return f"<!doctype html><html><head><meta charset=utf-8><title>{title}</title></head><body>{body}</body></html>".encode()


def rtf_bytes(paragraphs: Sequence[str]) -> bytes:
    coded = "\\par\n".join("".join(map(_rtf_character, text)) for text in paragraphs)
    return (
        r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}{\*\generator test;}\f0 " + coded + r"\par}"
    ).encode()


def _rtf_character(character: str) -> str:
    if character in "\\{}":
        return "\\" + character
    units = struct.unpack(f"<{len(character.encode('utf-16-le')) // 2}h", character.encode("utf-16-le"))
    return character if character.isascii() else "".join(rf"\u{unit}?" for unit in units)


def eml_bytes(
    text: str = "",
    *,
    html: str = "",
    subject: str = "Subject",
    attachments: Mapping[str, bytes] | None = None,
) -> bytes:
    """A message from Ann to Bob with a plain body, an HTML one, or both."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "Ann <ann@example.org>", "bob@example.org"
    message["Date"] = "Mon, 02 Nov 2026 10:00:00 +0000"
    if text:
        message.set_content(text)
    if html and text:
        message.add_alternative(html, subtype="html")
    elif html:
        message.set_content(html, subtype="html")
    for name, content in (attachments or {}).items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def csv_bytes(rows: Rows) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


# --- hostile ones ---------------------------------------------------------------------------------------------


def zip_bomb(inflated: int, *, member: str = "word/document.xml") -> bytes:
    """A Word file whose main part is so many equal bytes."""
    return office_bytes(member, {member: b" " * inflated})


def with_lying_sizes(archive: bytes, member: str, size: int) -> bytes:
    """The ZIP file with another uncompressed size written beside that member, in both places that tell it."""
    name = member.encode()
    patched = bytearray(archive)
    for signature, size_at, name_at in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        start = archive.find(signature)
        while start >= 0:
            if archive[start + name_at : start + name_at + len(name)] == name:
                struct.pack_into("<I", patched, start + size_at, size)
            start = archive.find(signature, start + 4)
    return bytes(patched)


def with_encrypted_members(archive: bytes) -> bytes:
    """The ZIP file with every member marked as encrypted."""
    patched = bytearray(archive)
    for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = archive.find(signature)
        while start >= 0:
            patched[start + flags_at] |= 1
            start = archive.find(signature, start + 4)
    return bytes(patched)


def protected_office_bytes() -> bytes:
    """The head of a password-protected Office file: an OLE container with an EncryptedPackage stream."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 1016 + "EncryptedPackage".encode("utf-16-le")
