"""A cross-encoder behind HTTP, as vLLM, Cohere, Jina and others serve it: POST /rerank."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from shared.core.breaker import Breaker
from shared.core.errors import BadUpstream, ConfigurationError, DeadlineExceeded, Unavailable

_DEPENDENCY = "re-ranker"


class Reranker:
    """Belongs to one event loop. url: where /rerank is, with /v1 where the server has it."""

    def __init__(self, url: str, api_key: str | None, model: str, *, timeout_s: float = 5.0) -> None:
        self.model = model
        self._url = f"{url.rstrip('/')}/rerank"
        self._breaker = Breaker()
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout_s)

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text speaks to the question, in the order given.

        Raises Unavailable, DeadlineExceeded, BadUpstream, and ConfigurationError when the server refuses us.
        """
        wait = self._breaker.wait_s(time.monotonic())
        if wait > 0:
            raise Unavailable(_DEPENDENCY, f"re-ranker failed again and again; next try in {wait:.0f} s")
        try:
            found = _scores(await self._asked(question, texts), len(texts))
        except Unavailable:
            self._breaker.failed(time.monotonic())
            raise
        self._breaker.succeeded()
        return found

    def status(self) -> dict[str, Any]:
        """For monitoring; asks nobody."""
        breaker = "open" if self._breaker.is_open else "closed"
        return {"breaker": breaker, "failures": self._breaker.failures}

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _asked(self, question: str, texts: Sequence[str]) -> httpx.Response:
        body = {"model": self.model, "query": question, "documents": list(texts), "top_n": len(texts)}
        try:
            answer = await self._client.post(self._url, json=body)
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(_DEPENDENCY, "re-ranker did not answer in time") from error
        except httpx.HTTPError as error:
            raise Unavailable(_DEPENDENCY, f"re-ranker cannot be reached ({type(error).__name__})") from error
        if answer.status_code in (401, 403, 404):
            problem = f"the re-ranker refuses us with status {answer.status_code}"
            raise ConfigurationError("RAGZERO_RERANK_URL", problem)
        if not answer.is_success:
            raise BadUpstream(_DEPENDENCY, f"re-ranker answered with status {answer.status_code}")
        return answer


def _scores(answer: httpx.Response, count: int) -> list[float]:
    """Raises BadUpstream unless there is one finite score for each text."""
    try:
        found: Mapping[int, float] = {
            one["index"]: float(one["relevance_score"]) for one in answer.json()["results"]
        }
        scores = [found[index] for index in range(count)]
    except (ValueError, TypeError, KeyError) as error:
        raise BadUpstream(_DEPENDENCY, f"re-ranker sent no usable scores: {error!r}") from error
    if not all(map(math.isfinite, scores)):
        raise BadUpstream(_DEPENDENCY, "re-ranker sent a score that is no number")
    return scores
