"""What each format's parser makes of a small, well-formed document."""

from __future__ import annotations

from datetime import date

import pytest

from functions.ingest.parsing import parse
from shared.core.errors import UnreadableDocument
from shared.core.models import Block
from tests.support.documents import (
    csv_bytes,
    docx_bytes,
    eml_bytes,
    epub_bytes,
    html_bytes,
    odt_bytes,
    pdf_bytes,
    pptx_bytes,
    rtf_bytes,
    xlsx_bytes,
)


def texts(data: bytes, name: str = "file") -> list[str]:
    return [block.text for block in parse(data, name=name).blocks]


def test_text_paragraphs_are_what_empty_lines_separate() -> None:
    assert texts(b"one\ntwo  \r\n\r\n \n three   four\n", "a.txt") == ["one\ntwo", "three four"]


def test_long_paragraphs_are_cut_at_sentence_ends() -> None:
    sentence = "This is a sentence of some length. "
    blocks = texts((sentence * 1000).encode(), "a.txt")
    assert len(blocks) > 4
    assert all(len(block) <= 8000 and block.endswith("length.") for block in blocks)
    assert " ".join(blocks) == (sentence * 1000).strip()


def test_markdown_headings_become_paths_and_fences_stay_whole() -> None:
    source = "# Guide #\n\nIntro\n\nSetup\n-----\nRun **it**:\n\n```sh\n# not a heading\n\n  make\n```\n\n# Other\nEnd\n"
    assert parse(source.encode(), name="a.md").blocks == (
        Block("Intro", None, ("Guide",)),
        Block("Run **it**:", None, ("Guide", "Setup")),
        Block("```sh\n# not a heading\n\n  make\n```", None, ("Guide", "Setup")),
        Block("End", None, ("Other",)),
    )


def test_a_heading_with_nothing_below_it_is_not_lost() -> None:
    blocks = parse(b"# A\n## B\n## C\ntext\n# D\n", name="a.md").blocks
    assert blocks == (Block("B", None, ("A",)), Block("text", None, ("A", "C")), Block("D"))


def test_html_is_read_as_a_reader_sees_it() -> None:
    page = html_bytes(
        "<h1>Tea</h1><p>Green <b>and</b>\n black<br>leaves</p><h2>Prices</h2>"
        "<table><tr><th>Kind<th>Price</tr><tr><td>Green<td>4 &euro;</tr></table><ul><li>one<li>two</ul>"
        "<pre>a\n  b</pre>tail",
        title="Ignored: there is an h1",
    )
    assert parse(page, name="a.html").blocks == (
        Block("Green and black\nleaves", None, ("Tea",)),
        Block("Kind: Green\nPrice: 4 €", None, ("Tea", "Prices")),
        Block("- one", None, ("Tea", "Prices")),
        Block("- two", None, ("Tea", "Prices")),
        Block("a\n  b", None, ("Tea", "Prices")),
        Block("tail", None, ("Tea", "Prices")),
    )


def test_html_without_h1_is_headed_by_its_title() -> None:
    assert parse(html_bytes("<p>text", title="Shop"), name="x").blocks == (Block("text", None, ("Shop",)),)


def test_html_layout_tables_are_running_text() -> None:
    page = html_bytes("<table><tr><td><h2>Menu</h2><p>one</p><table><tr><td>a<td>b</table></table><p>after")
    assert texts(page) == ["one", "a | b", "after"]


def test_pdf_keeps_pages_and_headings_and_joins_lines() -> None:
    document = parse(
        pdf_bytes(
            [
                "# Report\nThe first para-\ngraph goes on\nfor three lines.\n\nThe second.",
                "Last page (really).",
            ]
        ),
        name="a.pdf",
    )
    assert document.pages == 2
    assert document.blocks == (
        Block("The first paragraph goes on for three lines.", 1, ("Report",)),
        Block("The second.", 1, ("Report",)),
        Block("Last page (really).", 2, ("Report",)),
    )


def test_pdf_without_text_layer_is_said_to_be_a_scan() -> None:
    with pytest.raises(UnreadableDocument, match="text layer") as refused:
        parse(pdf_bytes([""]), name="scan.pdf")
    assert refused.value.code == "no_text"


def test_pdf_pages_without_text_are_flagged() -> None:
    assert parse(pdf_bytes(["text", ""]), name="a.pdf").flags == ("pages_without_text",)


def test_docx_headings_tables_lists_and_hidden_text() -> None:
    body = (
        "<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>item</w:t></w:r></w:p>"
        "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r><w:r><w:t>seen</w:t><w:tab/><w:t>too</w:t></w:r>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    )
    document = parse(
        docx_bytes(["# A", "one", "## B"], table=[["k", "v"], ["x", 1]], body=body), name="a.docx"
    )
    assert document.blocks == (
        Block("one", None, ("A",)),
        Block("k: x\nv: 1", None, ("A", "B")),
        Block("- item", None, ("A", "B")),
        Block("seen too", None, ("A", "B")),
    )
    assert document.flags == ("hidden_text_removed",)


def test_pptx_slides_are_pages_and_titles_headings() -> None:
    data = pptx_bytes([("Plan", ["first", "second"]), ("End", [])], notes={1: "say hello"})
    document = parse(data, name="a.pptx")
    assert document.pages == 2
    assert document.blocks == (
        Block("first\nsecond", 1, ("Plan",)),
        Block("say hello", 1, ("Plan",)),
        Block("End", 2),
    )


def test_xlsx_rows_stand_by_themselves_and_formulas_are_never_evaluated() -> None:
    rows: list[list[object]] = [
        ["Sales"],
        ["Item", "When", "Sum"],
        ["tea", date(2026, 11, 2), ("=1+1", 2)],
        ["all", None, "=SUM(C3:C3)"],
    ]
    document = parse(xlsx_bytes({"2026": rows, "Empty": []}), name="a.xlsx")
    assert document.pages == 2
    assert document.blocks == (
        Block("Sales", 1, ("2026",)),
        Block("Item: tea\nWhen: 2026-11-02\nSum: 2", 1, ("2026",)),
        Block("Item: all\nSum: =SUM(C3:C3)", 1, ("2026",)),
        Block("Empty", 2),
    )
    assert document.flags == ("formulas_not_evaluated",)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_csv_rows_name_their_columns(mark: str) -> None:
    data = csv_bytes([["name", "2026"], ["Ann", 3], ["Bob", 4]]).replace(b",", mark.encode())
    assert texts(data, "a.csv") == ["name: Ann\n2026: 3", "name: Bob\n2026: 4"]


def test_csv_without_header_is_rows_side_by_side() -> None:
    assert texts(b"1,2\n3,4\n", "a.csv") == ["1 | 2", "3 | 4"]


def test_csv_with_a_quote_that_never_closes_is_read_as_text() -> None:
    document = parse(b'a,b\n1,"2\n' + b"x\n" * 100_000, name="a.csv")
    assert document.blocks[0].text.startswith('a,b\n1,"2\nx')
    assert document.flags == ("not_tabular",)


def test_json_values_stand_beside_their_paths() -> None:
    source = b'{"a": 1.10, "a": {"b": [true, null, "x"]}, "rows": [{"k": 1}, {"k": 12345678901234567890}], "z": ""}'
    assert parse(source, name="a.json").blocks == (
        Block("a: 1.10"),
        Block("a.b: true, x"),
        Block("k: 1", None, ("rows",)),
        Block("k: 12345678901234567890", None, ("rows",)),
    )


def test_jsonl_lines_are_records() -> None:
    assert texts(b'{"a": 1, "b": 2}\n\n{"a": 3}\n', "a.jsonl") == ["a: 1\nb: 2", "a: 3"]


def test_broken_json_is_read_as_text() -> None:
    document = parse(b'{"a": 1', name="a.json")
    assert (document.blocks, document.flags) == ((Block('{"a": 1'),), ("invalid_json",))


def test_mail_shows_headers_and_names_its_attachments() -> None:
    data = eml_bytes("Hello Bob", html="<p>Hello <b>Bob</b>", subject="Tée", attachments={"plan.bin": b"\0"})
    document = parse(data, name="a.eml")
    header = "Subject: Tée\nFrom: Ann <ann@example.org>\nTo: bob@example.org\nDate: Mon, 02 Nov 2026 10:00:00 +0000"
    assert [block.text for block in document.blocks] == [
        header,
        "Hello Bob",
        "Attachments: plan.bin (application/octet-stream)",
    ]
    assert {block.headings for block in document.blocks} == {("Tée",)}
    assert document.flags == ("attachments_ignored",)


def test_mail_with_only_html_is_read_from_that() -> None:
    assert texts(eml_bytes(html="<p>Hi<script>x</script>"))[1:] == ["Hi"]


def test_epub_chapters_come_in_reading_order_under_the_title() -> None:
    data = epub_bytes("Book", ["<h1>One</h1><p>a<a id='x'/>b</p>", "<p>c</p>"])
    assert parse(data, name="a.epub").blocks == (
        Block("ab", None, ("Book", "One")),
        Block("c", None, ("Book", "One")),
    )


def test_odt_headings_and_tables() -> None:
    data = odt_bytes(["# A", "one", "## B", "two"], table=[["k", "v"], ["x", "y"]])
    assert parse(data, name="a.odt").blocks == (
        Block("one", None, ("A",)),
        Block("two", None, ("A", "B")),
        Block("k: x\nv: y", None, ("A", "B")),
    )


def test_rtf_loses_its_control_words_only() -> None:
    assert texts(rtf_bytes(["Grüße {all} \\ 😀", "two"])) == ["Grüße {all} \\ 😀", "two"]
    assert texts(rb"{\rtf1\ansi\ansicpg1251 \'cf\'f0\b{\pict 00}\'e8}") == ["При"]


def test_code_keeps_its_layout_and_breaks_between_definitions() -> None:
    source = b"import os\n\n\ndef f():\n    a = 1\n\n    return a\n\n\ndef g(): ...\n"
    document = parse(source, name="src/a.py")
    assert document.media_type == "text/x-source"
    assert [b.text for b in document.blocks] == [
        "import os",
        "def f():\n    a = 1\n\n    return a",
        "def g(): ...",
    ]


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (pdf_bytes(["x"]), "application/pdf"),
        (docx_bytes(["x"]), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (xlsx_bytes({"s": [["x"]]}), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (
            pptx_bytes([("x", [])]),
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ),
        (odt_bytes(["x"]), "application/vnd.oasis.opendocument.text"),
        (epub_bytes("t", ["x"]), "application/epub+zip"),
        (html_bytes("x"), "text/html"),
        (rtf_bytes(["x"]), "application/rtf"),
        (eml_bytes("x"), "message/rfc822"),
        (b'[{"a": 1}]', "application/json"),
        (b"words", "text/plain"),
    ],
)
@pytest.mark.parametrize("name", ["file", "file.pdf", "file.exe"])
def test_content_decides_what_a_file_is(data: bytes, media_type: str, name: str) -> None:
    assert parse(data, name=name).media_type == media_type


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.md", "text/markdown"), ("b/a.CSV", "text/csv"), ("a.go", "text/x-source"), ("a.txt", "text/plain")],
)
def test_the_extension_chooses_among_plain_text_formats(name: str, media_type: str) -> None:
    assert parse(b"plain words", name=name).media_type == media_type


def test_nested_tables_are_read_once() -> None:
    inner = "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>inner</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    outer = f"<w:tbl><w:tr><w:tc><w:p><w:r><w:t>outer</w:t></w:r></w:p>{inner}</w:tc></w:tr></w:tbl>"
    assert texts(docx_bytes([], body=outer)) == ["outer inner"]


def test_a_heading_as_long_as_a_paragraph_is_one() -> None:
    assert parse(b"# " + b"word " * 200, name="a.md").blocks == (Block(("word " * 200).strip()),)


def test_same_bytes_give_the_same_document() -> None:
    data = pdf_bytes(["# Title\ntext"] * 3)
    assert parse(data, name="a.pdf") == parse(data, name="a.pdf")
