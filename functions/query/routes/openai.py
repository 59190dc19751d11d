"""OpenAI's API over our answers and vectors, for the clients that speak it."""

from __future__ import annotations

import base64
import time
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from functions.query.asking import BUFFERED_MS, STREAMED_MS, Wish, slot
from functions.query.completing import Heading, chunks, completion, conversation
from functions.query.desk import Running
from functions.query.kept import Kept
from functions.query.openai_schemas import (
    MAX_TEXTS,
    ChatCompletion,
    ChatOptions,
    ChatRequest,
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    Model,
    ModelList,
)
from functions.query.routes.access import ApiKey, Reader, Wired
from functions.query.streaming import begun, event_stream
from functions.query.wiring import Graph
from shared.core.conversation import focus
from shared.core.credentials import Principal
from shared.core.errors import Busy, InvalidInput, NotFound
from shared.core.keys import collection_name

_PREFIX = "ragzero/"
_MAX_BODY = 1024 * 1024
_MOST_MODELS = 1_000
router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.post("/chat/completions", response_model=ChatCompletion, max_body_size=_MAX_BODY)
async def chat(body: ChatRequest, key: ApiKey, wired: Wired) -> Response:
    """An answer from the documents of a collection, cited in a footer and, in full, in the field `ragzero`."""
    asked, options = conversation(body.messages), body.ragzero or ChatOptions()
    question = await wired.asking.question(key, asked, written=options.generate)
    wish = _wish(body, options, question, focus(asked, question))
    if body.stream:
        return await _streamed(wired, key, wish, body)
    admission = await wired.asking.admit(key, wish)
    reply = await wired.asking.whole(admission, wish)
    if isinstance(reply, Running):
        raise Busy("generator", "the answer is still being written; ask again, or stream it", retry_after=2)
    answer = reply.parsed() if isinstance(reply, Kept) else reply
    heading = Heading(uuid4(), body.model, int(time.time()), question)
    return JSONResponse(completion(heading, answer).model_dump(mode="json"))


@router.get("/models")
async def models(who: Reader, wired: Wired) -> ModelList:
    """The collections, as models to chat with, and the embedding space."""
    found: list[Model] = []
    cursor: str | None = None
    while len(found) < _MOST_MODELS:
        rows, cursor = await wired.collections.list(who, limit=200, cursor=cursor)
        found += [_model(f"{_PREFIX}{row.name}", int(row.created_at.timestamp())) for row in rows]
        if cursor is None:
            break
    return ModelList(data=[*found, _model(wired.embedding.space)])


@router.get("/models/{model:path}")
async def model(model: str, who: Reader, wired: Wired) -> Model:
    if model == wired.embedding.space:
        return _model(model)
    return await _collection_model(wired, who, model)


@router.post("/embeddings", response_model=EmbeddingList, max_body_size=_MAX_BODY)
async def embeddings(body: EmbeddingRequest, _: Reader, wired: Wired) -> Response:
    """Vectors of texts in the space that the index uses, made as those of documents are."""
    texts = _texts(body.input)
    vectors, tokens = await wired.embedding.encode(body.model, texts, body.dimensions)
    packed = body.encoding_format == "base64"
    found = EmbeddingList(
        data=[
            Embedding(index=index, embedding=_packed(vector) if packed else vector.tolist())
            for index, vector in enumerate(vectors)
        ],
        model=body.model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )
    return Response(found.model_dump_json(), media_type="application/json")


async def _streamed(wired: Graph, key: str, wish: Wish, body: ChatRequest) -> Response:
    """What goes wrong before there is anything to say is an error of its own, not one inside a stream."""
    stream = slot(wish.deadline_ms)
    admission = await wired.asking.admit(key, wish, stream)
    events = await begun(wired.asking.events(admission, wish, stream))
    usage = bool(body.stream_options and body.stream_options.include_usage)
    heading = Heading(UUID(stream.id), body.model, int(time.time()), wish.question, usage)
    return event_stream(chunks(heading, events))


def _wish(body: ChatRequest, options: ChatOptions, question: str, focus: str | None) -> Wish:
    return Wish(
        question,
        _collection(body.model),
        STREAMED_MS if body.stream else BUFFERED_MS,
        options.top_k,
        options.filter,
        options.acl,
        options.on_cold,
        options.generate,
        options.cache,
        body.max_completion_tokens or body.max_tokens,
        options.mode,
        options.per_document,
        focus,
    )


def _collection(model: str) -> str:
    name = model.removeprefix(_PREFIX)
    if name == model or not name:
        raise NotFound(f"there is no model {model[:80]!r}; models are named {_PREFIX}<collection>")
    try:
        return collection_name(name)
    except InvalidInput as error:
        raise NotFound(f"there is no model {model[:80]!r}: {error}") from error


async def _collection_model(wired: Graph, who: Principal, model: str) -> Model:
    try:
        found = await wired.collections.get(who, _collection(model))
    except NotFound as error:
        raise NotFound(f"there is no model {model[:80]!r}") from error
    return _model(model, int(found.created_at.timestamp()))


def _model(id: str, created: int = 0) -> Model:
    return Model(id=id, created=created)


def _texts(given: str | list[Any]) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not 0 < len(texts) <= MAX_TEXTS:
        raise InvalidInput(f"input has 1 to {MAX_TEXTS} texts, not {len(texts)}", field="input")
    if not all(isinstance(text, str) for text in texts):
        raise InvalidInput("input is text: tokens are another model's", field="input")
    if not all(text.strip() for text in texts):
        raise InvalidInput("input has a blank text in it", field="input")
    return texts


def _packed(vector: Any) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
