"""A real Chromium that looks at the page as a person would, and notices what a person would not."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 60_000


@contextmanager
def chromium() -> Iterator[Browser]:
    found = subprocess.run([ROOT / "scripts/browser-env"], stdout=subprocess.PIPE, text=True)
    if found.returncode:
        pytest.skip("there is no Chromium; see scripts/browser-env")
    expect.set_options(timeout=PATIENCE_MS)
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found.stdout.split()[-1], args=flags)
        yield browser
        browser.close()


class Visitor:
    """A person at the page. complaints: errors on the console, dialogs, and requests to anywhere but API and bucket.

    sent: what went to the bucket, as (method, path).
    """

    def __init__(self, browser: Browser, url: str, bucket: str, **options: Any) -> None:
        self.url = url
        self.bucket = bucket
        self.sent: list[tuple[str, str]] = []
        self.complaints: list[str] = []
        self.paths: list[str] = []
        self._expected: list[str] = []
        self._context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("request", self._requested)
        self.page.on("dialog", self._asked)

    def close(self) -> None:
        self._context.close()

    def expects(self, *patterns: str) -> None:
        """Complaints that this test is about."""
        self._expected += patterns

    def unexpected(self) -> list[str]:
        return [one for one in self.complaints if not any(re.search(p, one) for p in self._expected)]

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Request) -> None:
        if request.url.startswith(f"{self.bucket}/"):
            self.sent.append((request.method, request.url.removeprefix(self.bucket)))
            return
        if not request.url.startswith(f"{self.url}/"):
            self.complaints.append(f"request to {request.url}")
        self.paths.append(request.url.removeprefix(self.url))

    # What people do.

    def sign_in(self, key: str) -> None:
        self.page.goto(self.url)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()

    def go(self, view: str) -> None:
        self.page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()

    def add(self, files: Sequence[Path]) -> None:
        self.go("Documents")
        self.page.locator("#files-input").set_input_files(files)

    def drop(self, *paths: Path) -> None:
        """Files and folders out of a file manager."""
        session = self._context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 640, "y": 500, "data": data})

    def awaits(self, summary: str) -> None:
        """Until the files on their way are as the summary says."""
        expect(self.page.locator("#uploads-title")).to_have_text(summary)

    def ask(self, question: str) -> Locator:
        """The question's turn, once it is answered."""
        turn = self.asks(question)
        expect(turn.get_by_role("button", name="Copy")).to_be_visible()
        return turn

    def asks(self, question: str) -> Locator:
        self.go("Ask")
        self.page.get_by_label("Your question").fill(question)
        self.page.keyboard.press("Enter")
        return self.page.locator("#turns > li").last

    def reads(self) -> Locator:
        """The sheet with a document's text, open."""
        return self.page.get_by_role("dialog").and_(self.page.locator("#sheet"))

    def accessibility(self) -> list[str]:
        """What axe-core finds wrong with what is shown now."""
        self.page.evaluate(
            "() => Promise.all(document.getAnimations().map((one) => one.finished.catch(() => {})))"
        )
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in found]
