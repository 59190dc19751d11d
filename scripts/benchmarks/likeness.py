"""From which cosine on two questions may be taken for the same: how many of a file of questions would be given the answer
of another one, with and without the words that have to agree. FILE is in the format of SQuAD.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from scripts.benchmarks.throwaway import MODEL, report
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.core.likeness import same_question

_THRESHOLDS = (0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97)


def measure(questions: list[tuple[str, str]], embedder: OnnxEmbedder) -> dict[str, dict[str, float]]:
    """questions: (question, answer). Shares of the questions, by threshold."""
    vectors = np.stack([embedder.encode_query(question) for question, _ in questions])
    cosines = np.triu(vectors @ vectors.T, 1)
    found = {}
    for threshold in _THRESHOLDS:
        pairs = [
            (one, other)
            for one, other in zip(*np.where(cosines >= threshold), strict=True)
            if questions[one][0].strip().lower() != questions[other][0].strip().lower()
            and questions[one][1] != questions[other][1]
        ]
        agreeing = [pair for pair in pairs if same_question(questions[pair[0]][0], questions[pair[1]][0])]
        found[str(threshold)] = {
            "by_cosine_alone": round(len({at for pair in pairs for at in pair}) / len(questions), 4),
            "wrongly_the_same": round(len({at for pair in agreeing for at in pair}) / len(questions), 4),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    known = json.loads(arguments.file.read_text())
    questions = [
        (asked["question"], asked["answers"][0]["text"])
        for article in known["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]
    report(questions=len(questions), shares=measure(questions, OnnxEmbedder.load(MODEL)))


if __name__ == "__main__":
    main()
