"""Retrieval and extractive answers on a SQuAD-shaped file: its paragraphs go through S3, its questions through HTTP."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import httpx

from scripts.benchmarks.throwaway import client, percentile, report, stack, wait_until_searchable
from scripts.local.stack import BUCKET, Stack
from shared.core.retrieval import Mode


@dataclass(frozen=True)
class Asked:
    question: str
    key: str
    answers: list[str]


def read(path: Path) -> tuple[dict[str, str], list[Asked]]:
    """Paragraphs by key, and the questions about them."""
    paragraphs: dict[str, str] = {}
    questions: list[Asked] = []
    for article in json.loads(path.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            key = f"paragraph-{len(paragraphs):04d}.txt"
            paragraphs[key] = paragraph["context"]
            questions += [
                Asked(one["question"], key, [answer["text"] for answer in one["answers"]])
                for one in paragraph["qas"]
            ]
    return paragraphs, questions


def measure(stack: Stack, paragraphs: dict[str, str], questions: list[Asked], mode: str) -> dict[str, Any]:
    s3 = stack.aws.client("s3")
    for key, text in paragraphs.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())
    with client(stack) as api:
        wait_until_searchable(api, len(paragraphs), 300)
        answered = [(asked, answer) for asked in questions for answer in _answers(api, asked, mode)]
    ranks = [_rank(answer, asked.key) for asked, answer in answered]
    total = len(answered)
    return {
        "documents": len(paragraphs),
        "questions": total,
        "right_document_first": round(sum(rank == 1 for rank in ranks) / total, 4),
        "right_document_in_five": round(sum(rank <= 5 for rank in ranks) / total, 4),
        "answer_contained": round(sum(_contains(answer, asked) for asked, answer in answered) / total, 4),
        "refused": round(sum(not answer["supported"] for _, answer in answered) / total, 4),
        "quotes_per_answer": round(sum(len(answer["citations"]) for _, answer in answered) / total, 2),
        "query_ms_p50": percentile([answer["timings_ms"]["total"] for _, answer in answered], 0.5),
        "query_ms_p95": percentile([answer["timings_ms"]["total"] for _, answer in answered], 0.95),
    }


def _answers(api: httpx.Client, asked: Asked, mode: str) -> Iterator[dict[str, Any]]:
    ask = {"question": asked.question, "top_k": 10, "mode": mode}
    yield api.post("/v1/query", json=ask).raise_for_status().json()


def _rank(answer: dict[str, Any], key: str) -> int:
    """The place of the right document among the distinct documents found, from 1."""
    uris = list(dict.fromkeys(source["uri"] for source in answer["sources"]))
    right = f"s3://{BUCKET}/{key}"
    return uris.index(right) + 1 if right in uris else 10**6


def _contains(answer: dict[str, Any], asked: Asked) -> bool:
    said = " ".join(answer["answer"].split())
    return any(" ".join(gold.split()) in said for gold in asked.answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--mode", default="balanced", choices=get_args(Mode))
    given = parser.parse_args()
    paragraphs, questions = read(given.file)
    with stack() as running:
        report(**measure(running, paragraphs, questions, given.mode))


if __name__ == "__main__":
    main()
