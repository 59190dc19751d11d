"""What answering adds to a model's time to first token: the API's stream against a bare stream to the same vLLM.

The model is tiny and random: it costs nearly nothing itself, so what is measured is everything else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from functions.query.prompting import Budget, build, estimated_tokens
from scripts.benchmarks.throwaway import MODEL, client, percentile, report, wait_until_searchable
from scripts.local.stack import BUCKET, Generator, Stack
from scripts.local.up import tiny_model
from shared.core.models import Passage

_TEXT = "The observatory's main telescope was re-coated in March 2025. " * 12
_QUESTION = "When was the main telescope re-coated?"


def through_the_api(api: httpx.Client) -> dict[str, float]:
    """Milliseconds to the first sources and to the first token."""
    started, name, seen = time.perf_counter(), "", {}
    with api.stream("POST", "/v1/query", json={"question": _QUESTION, "stream": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                seen.setdefault(name, (time.perf_counter() - started) * 1000)
                if name == "token":
                    return seen
    raise SystemExit(f"no token came, only {seen}")


def bare(engine: httpx.Client, model: str, messages: list[dict[str, str]]) -> float:
    """Milliseconds to the first token of the engine itself."""
    started = time.perf_counter()
    body = {"model": model, "messages": messages, "stream": True, "max_tokens": 16, "temperature": 0}
    with engine.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                return (time.perf_counter() - started) * 1000
    raise SystemExit("the engine sent no token")


def measure(running: Stack, rounds: int) -> dict[str, Any]:
    running.aws.client("s3").put_object(Bucket=BUCKET, Key="telescope.txt", Body=_TEXT.encode())
    generator = next(function for function in running.functions if isinstance(function, Generator))
    engine_url = f"http://127.0.0.1:{generator.variables['RAGZERO_GENERATE_ENGINE_PORT']}"
    with client(running) as api, httpx.Client(base_url=engine_url, timeout=60) as engine:
        wait_until_searchable(api, 1, 60)
        sources = api.post("/v1/search", json={"question": _QUESTION}).json()["results"]
        passages = [_passage(source) for source in sources]
        model = generator.variables["RAGZERO_GENERATE_SERVED_NAME"]
        ours: list[dict[str, float]] = []
        theirs: list[float] = []
        for number in range(rounds):
            # a code of its own each time, as the API does, so that neither side reuses the other's prefix
            prompt = build(_QUESTION, passages, Budget(4096, 512), estimated_tokens, f"{number:016x}")
            theirs.append(bare(engine, model, prompt.messages))
            ours.append(through_the_api(api))
    tokens, shown = [one["token"] for one in ours], [one["sources"] for one in ours]
    return {
        "bare_first_token_ms_p50": percentile(theirs, 0.5),
        "api_first_token_ms_p50": percentile(tokens, 0.5),
        "api_first_token_ms_p95": percentile(tokens, 0.95),
        "added_ms_p50": round(percentile(tokens, 0.5) - percentile(theirs, 0.5), 2),
        "added_after_sources_ms_p50": round(
            percentile([t - s for t, s in zip(tokens, shown, strict=True)], 0.5) - percentile(theirs, 0.5), 2
        ),
        "api_sources_ms_p50": percentile(shown, 0.5),
        "api_sources_ms_p95": percentile(shown, 0.95),
    }


def _passage(source: dict[str, Any]) -> Passage:
    return Passage(
        chunk_id=source["chunk_id"],
        document_id=source["document_id"],
        generation=1,
        uri=source["uri"],
        text=source["text"],
        page=source["page"],
        headings=tuple(source["headings"]),
        start=0,
        score=source["score"],
        dense=0,
        lexical=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ragzero-bench-") as folder:
        Path(folder).chmod(0o711)
        running = Stack(Path(folder), MODEL, lambda _line: None, tiny_model())
        try:
            running.start()
            report(**measure(running, arguments.rounds))
        finally:
            running.stop()


if __name__ == "__main__":
    main()
