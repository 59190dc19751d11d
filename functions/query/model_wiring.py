"""Which models write, re-rank and embed, by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from functions.query.answering import Models
from functions.query.prompting import Budget, CountTokens, estimated_tokens
from shared import telemetry
from shared.adapters.generator import Generator
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.reranker import Reranker
from shared.core.completion import Prices
from shared.core.errors import SpaceMismatch
from shared.settings import QuerySettings

if TYPE_CHECKING:
    from shared.adapters.onnx_reranker import OnnxReranker

_log = telemetry.get_logger(__name__)


async def answering_models(settings: QuerySettings) -> tuple[Models, list[Generator]]:
    main = _generator(settings, "generator", _proxy_token(settings))
    fallback = _generator(settings, "fallback", {})
    generators = [generator for generator in (main, fallback) if generator is not None]
    try:
        for generator in generators:
            await generator.check()
    except BaseException:
        for generator in generators:
            await generator.aclose()
        raise
    budget = Budget(settings.generator_context, settings.generator_max_tokens)
    return Models(main, fallback, budget, _counter(settings)), generators


def _generator(settings: QuerySettings, prefix: str, headers: Mapping[str, str]) -> Generator | None:
    url, key = getattr(settings, f"{prefix}_url"), getattr(settings, f"{prefix}_api_key")
    if url is None:
        return None
    return Generator(
        url,
        key.get_secret_value() if key else None,
        getattr(settings, f"{prefix}_model"),
        headers=headers,
        prices=Prices(settings.price_prompt, settings.price_completion, settings.price_gpu_second),
        setting=f"RAGZERO_{prefix.upper()}",
    )


def _proxy_token(settings: QuerySettings) -> dict[str, str]:
    key, secret = settings.generator_proxy_key, settings.generator_proxy_secret
    if key is None or secret is None:
        return {}
    return {"Modal-Key": key.get_secret_value(), "Modal-Secret": secret.get_secret_value()}


def _counter(settings: QuerySettings) -> CountTokens:
    if settings.generator_tokenizer is None:
        return estimated_tokens
    from tokenizers import Tokenizer  # heavy: loaded when first used

    tokenizer = Tokenizer.from_file(str(settings.generator_tokenizer))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def reranker(settings: QuerySettings) -> Reranker | OnnxReranker | None:
    if settings.rerank_dir is not None:
        from shared.adapters.onnx_reranker import OnnxReranker  # few have one: loaded when first used

        return OnnxReranker.load(settings.rerank_dir, settings.encoder_threads)
    if settings.rerank_url is None or settings.rerank_model is None:
        return None
    key = settings.rerank_api_key
    return Reranker(settings.rerank_url, key.get_secret_value() if key else None, settings.rerank_model)


def encoders(settings: QuerySettings, given: OnnxEmbedder | None) -> dict[str, OnnxEmbedder]:
    """By the fingerprint of its space: that of the model the settings name, or given, and of the one to follow it."""
    loaded = [given] if given else []
    for folder in (None if given else settings.model_dir, settings.next_model_dir):
        if folder is not None:
            try:
                loaded.append(OnnxEmbedder.load(folder, threads=settings.encoder_threads))
            except SpaceMismatch as error:
                _log.error("encoder_refused", reason=str(error))
    return {embedder.fingerprint: embedder for embedder in loaded}
