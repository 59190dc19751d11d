"""Bad files through the whole way: the bucket, the queue, the handler. A reason on the document, the others unharmed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from functions.ingest.handler import handle
from scripts.local.event_source import LambdaContext
from tests.support.documents import docx_bytes, html_bytes, pdf_bytes, zip_bomb
from tests.support.installation import Installation

GOOD = "The weather station reports every ten minutes."


@pytest.mark.parametrize(
    ("key", "made", "code"),
    [
        ("5-empty.txt", lambda: b"", "empty"),
        ("5-blank.txt", lambda: b" \n\t ", "empty"),
        ("4-encrypted.pdf", lambda: pdf_bytes(["secret"], password="x"), "encrypted"),
        ("5-truncated.docx", lambda: docx_bytes(["text"])[:200], None),
        ("5-random.pdf", lambda: bytes(range(256)) * 40, None),
        ("7-bomb.docx", lambda: zip_bomb(2**30), "zip_bomb"),
        ("14-image.txt", lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "unsupported_media_type"),
    ],
)
def test_a_bad_file_fails_with_a_reason_and_harms_nobody(
    installation: Installation, key: str, made: Callable[[], bytes], code: str | None
) -> None:
    installation.put("good.txt", GOOD)
    installation.put(key, made())
    installation.deliver()
    bad = installation.document(key)
    assert bad["status"] == "failed"
    assert bad["reason"]
    assert code is None or bad["reason_code"] == code
    assert installation.document("good.txt")["status"] == "searchable"


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("wrong-extension.pdf", GOOD.encode()),
        ("wrong-extension.txt", docx_bytes([GOOD])),
        ("no-extension", pdf_bytes([GOOD])),
        ("22-utf-16.txt", GOOD.encode("utf-16")),
        ("22-nul.txt", GOOD.replace(" ", " \x00").encode()),
        ("22-latin.txt", f"Größe: {GOOD}".encode("latin-1")),
        ("12-script.html", html_bytes(f"<script>alert('otters')</script><p onclick='x()'>{GOOD}</p>")),
    ],
)
def test_the_content_decides_not_the_name(
    installation: Installation, api: TestClient, key: str, data: bytes
) -> None:
    installation.put(key, data)
    installation.deliver()
    assert installation.document(key)["status"] == "searchable", installation.document(key)["reason"]
    answer = api.post("/v1/query", json={"question": "How often does the weather station report?"}).json()
    assert "every ten minutes" in answer["answer"]
    assert "alert" not in str(answer)


def test_21_fifty_megabytes_on_one_line_do_not_hold_up_the_others(
    installation: Installation, api: TestClient
) -> None:
    installation.put("line.txt", b"x" * 50_000_000)
    installation.put("good.txt", GOOD)
    records = [
        {"messageId": str(number), "body": message["Body"]}
        for number, message in enumerate(installation.messages())
    ]
    began = time.process_time()  # of ours alone: others are at work on this machine
    handle({"Records": records}, LambdaContext("ingest", time.monotonic() + 150), installation.ingest)
    assert time.process_time() - began < 60
    assert installation.document("good.txt")["status"] == "searchable"
    line = installation.document("line.txt")
    assert line["status"] == "searchable" or line["reason"], line["status"]


def test_a_failed_document_is_searchable_once_it_is_mended(
    installation: Installation, api: TestClient
) -> None:
    installation.put("doc.txt", b"")
    installation.deliver()
    assert installation.document("doc.txt")["status"] == "failed"
    installation.put("doc.txt", GOOD)
    installation.deliver()
    assert installation.document("doc.txt")["status"] == "searchable"


def test_a_searchable_document_that_becomes_unreadable_is_no_longer_found(
    installation: Installation, api: TestClient
) -> None:
    installation.put("doc.txt", GOOD)
    installation.deliver()
    installation.put("doc.txt", b"")
    installation.deliver()
    document = installation.document("doc.txt")
    assert (document["status"], document["reason_code"]) == ("failed", "empty")
    assert api.post("/v1/search", json={"question": "weather station"}).json()["results"] == []
    assert installation.rows("select * from chunks") == []
