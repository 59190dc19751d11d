"""Examples for the API's description: one question and all that comes of it."""

from __future__ import annotations

from typing import Any

Examples = dict[tuple[str, str], dict[str, Any]]

_DOCUMENT = "6f1d7c1e-64b5-4b0e-9a53-0a2f2f4bb5a1"
_ANSWER = "3b0ee9a4-5f0d-4a53-8a0f-7f5a3f0f3c11"
_URI = "s3://library/handbook.pdf"
_QUESTION = "How long is the warranty on the pump?"
_QUOTE = "The pump has a warranty of five years."
_ASKED = {"question": _QUESTION, "collection": "default", "top_k": 3, "filter": {"product": "pump"}}
_SOURCE = {
    "chunk_id": 4711,
    "document_id": _DOCUMENT,
    "generation": 2,
    "uri": _URI,
    "page": 12,
    "headings": ["Warranty"],
    "text": f"{_QUOTE} Wear parts are excluded.",
    "score": 0.7312,
}
_CITATION = {
    "marker": 1,
    "document_id": _DOCUMENT,
    "uri": _URI,
    "page": 12,
    "quote": _QUOTE,
    "start": 20_417,
    "end": 20_417 + len(_QUOTE),
    "score": 0.7312,
}
_USAGE = {"prompt_tokens": 611, "completion_tokens": 14, "gpu_seconds": 0.4, "cost_usd": 0.0003}
_ANSWERED = {
    "id": _ANSWER,
    "answer": "The pump has a warranty of five years [1].",
    "supported": True,
    "citations": [_CITATION],
    "sources": [_SOURCE],
    "retrieval": "exact",
    "timings_ms": {"embed": 2.4, "retrieve": 6.1, "generate": 412.0, "total": 421.9},
    "warnings": [],
    "mode": "model",
    "usage": _USAGE,
    "dropped_citations": 0,
    "truncated": False,
    "cached": "no",
    "age_s": 0,
}
_CHAT = {
    "id": "chatcmpl-3b0ee9a45f0d4a538a0f7f5a3f0f3c11",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "ragzero/default",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "The pump has a warranty of five years [1].\n\nSources:\n[1] handbook.pdf, page 12",
                "refusal": None,
            },
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 611, "completion_tokens": 14, "total_tokens": 625},
    "ragzero": {
        "answer_id": _ANSWER,
        "question": _QUESTION,
        "supported": True,
        "citations": [_CITATION],
        "sources": [_SOURCE],
        "mode": "model",
        "cached": "no",
        "warnings": [],
    },
}

REQUESTS: Examples = {
    ("post", "/v1/search"): _ASKED,
    ("post", "/v1/query"): _ASKED | {"mode": "balanced", "on_cold": "extractive"},
    ("post", "/v1/query/batch"): {"questions": [{"question": _QUESTION}, {"question": "Who repairs it?"}]},
    ("post", "/v1/answers/{id}/feedback"): {
        "rating": "bad",
        "comment": "It is six years since March.",
        "expected": "Six years.",
        "question": _QUESTION,
        "collection": "manuals",
    },
    ("post", "/v1/collections"): {"name": "manuals", "language": "english"},
    ("post", "/v1/index/candidates"): {"collection": "manuals", "chunk_tokens": 128, "overlap_tokens": 16},
    ("post", "/v1/chat/completions"): {
        "model": "ragzero/default",
        "messages": [
            {"role": "user", "content": "Which pumps are there?"},
            {"role": "assistant", "content": "The P3 [1]."},
            {"role": "user", "content": "How long is the warranty on it?"},
        ],
        "stream": False,
    },
    ("post", "/v1/embeddings"): {"model": "all-MiniLM-L6-v2", "input": ["A pump.", "A valve."]},
}
RESPONSES: Examples = {
    ("post", "/v1/search"): {
        "results": [_SOURCE],
        "retrieval": "exact",
        "timings_ms": {"embed": 2.4, "retrieve": 6.1, "total": 9.0},
        "warnings": [],
    },
    ("post", "/v1/query"): _ANSWERED,
    ("get", "/v1/answers/{id}"): _ANSWERED,
    ("post", "/v1/query/batch"): {
        "items": [
            {"status": 200, "answer": _ANSWERED, "pending": None, "problem": None, "retry_after_s": None},
            {
                "status": 202,
                "answer": None,
                "pending": {"id": _ANSWER, "status": "running", "status_url": f"/v1/answers/{_ANSWER}"},
                "problem": None,
                "retry_after_s": None,
            },
        ],
        "answered": 1,
    },
    ("get", "/v1/explain"): {
        "document_id": _DOCUMENT,
        "in_result": False,
        "reason": "top_k",
        "detail": "place 7 of those looked at; 5 are shown",
        "place": None,
        "scope": 1204,
        "chunks": 16,
        "meaning": {"rank": 4, "score": 0.6121},
        "words": {"rank": 31, "score": 0.2207},
        "fused": {"rank": 7, "score": 0.4816},
        "fetched": 7,
        "reranked": 7,
        "passages": {"rank": 2},
        "candidates": 10,
        "retrieval": "exact",
    },
    ("post", "/v1/chat/completions"): _CHAT,
    ("get", "/v1/models"): {
        "object": "list",
        "data": [
            {"id": "ragzero/default", "object": "model", "created": 1_790_000_000, "owned_by": "ragzero"},
            {"id": "all-MiniLM-L6-v2", "object": "model", "created": 0, "owned_by": "ragzero"},
        ],
    },
}
