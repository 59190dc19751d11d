"""What clients of OpenAI's API send and get. Fields that are not named here are ignored, as those clients expect."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from functions.query.schemas import MAX_TOP_K, SEEN, Acl, Cited, Filter, Request, Result, StrictRequest
from shared.core.retrieval import Mode

MAX_MESSAGES = 1_000
MAX_TEXTS = 256
_MOST = 2**31 - 1
_PARTS = {
    "anyOf": [
        {"type": "string"},
        {"type": "null"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
            },
        },
    ]
}
_NONE = {"anyOf": [{"type": "array", "maxItems": 0}, {"type": "null"}]}
_PROSE = {
    "anyOf": [
        {"type": "object", "properties": {"type": {"const": "text"}}, "required": ["type"]},
        {"type": "object", "maxProperties": 0},
        {"type": "null"},
    ]
}
_TEXTS: JsonDict = {
    "anyOf": [
        {"type": "string", "pattern": SEEN},
        {
            "type": "array",
            "items": {"type": "string", "pattern": SEEN},
            "minItems": 1,
            "maxItems": MAX_TEXTS,
        },
    ]
}


def _text(content: Any) -> str:
    """A message's text; OpenAI's clients send it whole or in parts."""
    if isinstance(content, str) or content is None:
        return content or ""
    if not isinstance(content, list):
        raise ValueError("expected a text, or a list of parts")
    return "".join([_part(part) for part in content])


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if kind != "text" or not isinstance(part.get("text"), str):
        raise ValueError(f"only text is understood here, not {str(kind)[:40]!r}")
    return str(part["text"])


def _no_tools(given: list[Any] | None) -> list[Any] | None:
    if given:
        raise ValueError("tools and functions are not supported: answers come from the documents alone")
    return given


def _prose(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given and given.get("type") != "text":
        raise ValueError(f"answers are text, not {str(given.get('type'))[:40]!r}")
    return given


Text = Annotated[str, BeforeValidator(_text), WithJsonSchema(_PARTS)]
NoTools = Annotated[
    list[Any] | None, AfterValidator(_no_tools), WithJsonSchema(_NONE), Field(description="Refused.")
]


class Lenient(Request):
    model_config = ConfigDict(extra="ignore")


class Message(Lenient):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text = ""


class StreamOptions(Lenient):
    include_usage: bool | None = False


class ChatOptions(StrictRequest):
    """What the other API calls the same; see POST /v1/query."""

    top_k: int = Field(5, ge=1, le=MAX_TOP_K)
    filter: Filter | None = None
    acl: Acl | None = None
    on_cold: Literal["wait", "extractive", "fallback"] = "wait"
    generate: bool = True
    mode: Mode = "balanced"
    per_document: int | None = Field(None, ge=1, le=MAX_TOP_K)
    cache: Literal["read", "bypass", "refresh"] = "read"


class ChatRequest(Lenient):
    model: str = Field(max_length=200, description="`ragzero/<collection>`")
    messages: list[Message] = Field(
        min_length=1,
        max_length=MAX_MESSAGES,
        description="The last one is the question, a user's. Earlier ones of the user say what it is about where it does "
        "not stand alone; system messages have no effect.",
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(
        None, ge=1, le=_MOST, description="Of what a model writes; quotes are not cut."
    )
    max_completion_tokens: int | None = Field(
        None, ge=1, le=_MOST, description="The newer name of max_tokens."
    )
    temperature: float | None = Field(
        None, ge=0, le=2, description="Has no effect: answers are written at 0, so that they can be repeated."
    )
    n: Literal[1] | None = None
    tools: NoTools = None
    functions: NoTools = None
    response_format: Annotated[dict[str, Any] | None, AfterValidator(_prose), WithJsonSchema(_PROSE)] = None
    ragzero: ChatOptions | None = Field(
        None, description="Ours, beyond OpenAI's; `extra_body` of its client."
    )


class Reply(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: Literal[0] = 0
    message: Reply
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class TokenUsage(BaseModel):
    """What this answer took: nothing where no model wrote it, or it was made before."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Grounds(BaseModel):
    """What the answer stands on."""

    answer_id: str
    question: str = Field(description="As it was asked of the documents.")
    supported: bool
    citations: list[Cited]
    sources: list[Result]
    mode: Literal["extractive", "model", "fallback"]
    cached: Literal["exact", "semantic", "no"]
    warnings: list[str]


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Unix time.")
    model: str
    choices: list[Choice]
    usage: TokenUsage
    ragzero: Grounds


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time.")
    owned_by: str = "ragzero"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class EmbeddingRequest(Lenient):
    model: str = Field(max_length=200, description="The active embedding space, as GET /v1/models names it.")
    input: str | list[str] | list[int] | list[list[int]] = Field(
        description=f"A text, or up to {MAX_TEXTS}. Tokens are refused: they are another model's.",
        json_schema_extra=_TEXTS,
    )
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = Field(None, ge=1, le=_MOST, description="The space's own, if given.")


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="base64: of little-endian float32.")


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class OpenAiProblem(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiError(BaseModel):
    error: OpenAiProblem
