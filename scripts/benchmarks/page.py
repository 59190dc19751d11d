"""The page in a real Chromium, and the Python client beside it: how soon the page is usable, what a folder of small files
takes, and how soon the sources of an answer are seen with many chunks to search.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psutil
from playwright.sync_api import Browser

from scripts.benchmarks.corpus import Corpus, load
from scripts.benchmarks.throwaway import client, documents, percentile, report, stack
from scripts.local.founding import DATABASE
from scripts.local.stack import Stack
from shared.client import Progress, Ragzero
from tests.support.browser import Visitor, chromium

_MB = 2**20
_WARMING = 20
_UNLIMITED = {
    f"RAGZERO_{name}": "1000000" for name in ("KEY_RATE", "KEY_BURST", "TENANT_RATE", "TENANT_BURST")
}
_TRANSFERRED = """[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .filter((one) => !one.name.includes('/v1/')).reduce((sum, one) => sum + one.transferSize, 0)"""
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_NOW = "performance.now()"
_ASKED = """(question) => new Promise((resolve) => {
    const turns = document.querySelector('#turns');
    document.querySelector('#conversation-new').click();
    document.querySelector('#question').value = question;
    const started = performance.now();
    new MutationObserver((_, observer) => {
        if (!turns.querySelector('.sources:not([hidden]) .source, .problem:not([hidden])')) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - started)));
    }).observe(turns, {subtree: true, childList: true, attributes: true});
    document.querySelector('#composer').requestSubmit();
})"""


def opened(browser: Browser, made: Stack) -> Visitor:
    """The page, signed in, in a context without anything kept."""
    visitor = Visitor(browser, made.api.url, made.aws.url)
    visitor.sign_in(made.secrets.api_key)
    visitor.page.get_by_label("Your question").wait_for()
    return visitor


def first_sight(browser: Browser, made: Stack, rounds: int) -> dict[str, object]:
    """Nothing kept by the browser; usable: the sign-in takes a key."""
    painted, usable, size = [], [], 0
    for _ in range(rounds):
        context = browser.new_context()
        page = context.new_page()
        page.goto(made.api.url)
        page.get_by_label("API key").fill("x")
        usable.append(page.evaluate(_NOW))
        painted.append(page.evaluate(_PAINTED))
        size = page.evaluate(_TRANSFERRED)
        context.close()
    return {"bytes": size, "painted_ms": _spread(painted), "usable_ms": _spread(usable)}


def sources(browser: Browser, made: Stack, corpus: Corpus, questions: int) -> dict[str, object]:
    """From asking until the first source is painted; each question of eight words of the collection's, asked for the first
    time. The first few, which fill the database's memory, do not count."""
    page = opened(browser, made).page
    taken, failed = list[float](), 0
    for number in range(questions + _WARMING):
        question = corpus.draw(np.random.default_rng([7, number]), 5, 3)[0]
        taken.append(page.evaluate(_ASKED, question))
        page.locator("#send").wait_for()  # there once the answer is over
        failed += number >= _WARMING and page.locator("#turns .problem:visible").count()
    return {"questions": questions, "failed": failed, "visible_ms": _spread(taken[_WARMING:])}


def by_client(made: Stack, folder: Path) -> dict[str, object]:
    states: list[Progress] = []
    process = psutil.Process()
    before = peak = process.memory_info().rss

    def look(progress: Progress) -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)
        states.append(progress)

    started = time.perf_counter()
    with Ragzero(made.api.url, made.secrets.api_key) as rag:
        job = rag.upload([folder], collection="by-client", on_progress=look)
    seen = [state.uploaded + state.settled for state in states]
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "searchable": job["counts"]["searchable"],
        "lost": job["total"] - sum(job["counts"].values()),
        "progress_only_forward": seen == sorted(seen),
        "memory_grew_mb": round((peak - before) / _MB, 1),
    }


def by_page(browser: Browser, made: Stack, folder: Path, files: int) -> dict[str, object]:
    visitor = opened(browser, made)
    page = visitor.page
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    visitor.go("Documents")
    page.get_by_label("Collection that new files go into").fill("by-page")
    before = peak = _heap(session)
    started = time.perf_counter()
    page.locator("#folder-input").set_input_files(folder)
    shares: list[float] = []
    done = f"{files:,} of {files:,} files searchable"
    while (said := page.locator("#uploads-title").inner_text()) != done:
        if "not searchable" in said:
            raise SystemExit(f"files were lost: {said}")
        shares.append(page.locator("#uploads > progress").evaluate("bar => bar.position"))
        peak = max(peak, _heap(session))
        page.wait_for_timeout(250)
    known = [share for share in shares if share >= 0]  # -1 while the folder is being looked through
    with client(made) as api:
        stored = [one for one in documents(api, "searchable") if one["collection"] == "by-page"]
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "searchable": len(stored),
        "lost": files - len(stored),
        "progress_only_forward": known == sorted(known),
        "heap_grew_mb": round((peak - before) / _MB, 1),
    }


def _heap(session: Any) -> int:
    metrics = session.send("Performance.getMetrics")["metrics"]
    return int(next(one["value"] for one in metrics if one["name"] == "JSHeapUsedSize"))


def _spread(taken: list[float]) -> dict[str, float]:
    return {"p50": percentile(taken, 0.5), "p95": percentile(taken, 0.95)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--chunks", type=int, default=100_000, help="that the questions search; 0 leaves them out"
    )
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument(
        "--files", type=int, default=1_000, help="small ones, uploaded twice; 0 leaves them out"
    )
    given = parser.parse_args()
    corpus = Corpus.made(np.random.default_rng(0))
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch, stack(variables=_UNLIMITED) as made, chromium() as browser:
        found["first_sight"] = first_sight(browser, made, 10)
        if given.files:
            folder = Path(scratch) / "notes"
            folder.mkdir()
            for number in range(given.files):
                (folder / f"note-{number}.txt").write_text(
                    f"Note {number} says: be kind, and label the jars."
                )
            found["by_client"] = by_client(made, folder)
            folder = folder.rename(folder.with_name("letters"))
            found["by_page"] = by_page(browser, made, folder, given.files)
    if given.chunks:
        with stack(variables=_UNLIMITED) as made, chromium() as browser:
            load(made.postgres.dsn(dbname=DATABASE), corpus, given.chunks, UUID(made.secrets.tenant))
            found["sources"] = sources(browser, made, corpus, given.questions)
    report(chunks=given.chunks, files=given.files, **found)


if __name__ == "__main__":
    main()
