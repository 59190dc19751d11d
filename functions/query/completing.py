"""Answers in the form of OpenAI's chat completions, whole or in pieces."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from functions.query import problems, rendering
from functions.query.answering import Done, Sources, Status, Text
from functions.query.flights import Event
from functions.query.kept import Kept
from functions.query.openai_errors import error_of
from functions.query.openai_schemas import ChatCompletion, Choice, Grounds, Message, Reply, TokenUsage
from functions.query.service import Found
from shared.core.conversation import MAX_EARLIER, MAX_QUESTION, Conversation
from shared.core.errors import InvalidInput


def conversation(messages: Sequence[Message]) -> Conversation:
    """The last turn, which is a question, and the user's earlier ones."""
    if messages[-1].role != "user":
        raise InvalidInput(
            f"the last message is the user's question, not {messages[-1].role!r}", field="messages"
        )
    question = messages[-1].content.strip()
    if not question or "\x00" in question:
        raise InvalidInput("the last message is blank, or has a NUL in it", field="messages")
    if len(question) > MAX_QUESTION:
        raise InvalidInput(
            f"a question has at most {MAX_QUESTION} characters, this one {len(question)}", field="messages"
        )
    earlier = [message.content.strip() for message in messages[:-1] if message.role == "user"]
    asked = [text.replace("\x00", "")[:MAX_QUESTION] for text in earlier if text]
    return Conversation(question, tuple(asked[-MAX_EARLIER:]))


@dataclass(frozen=True, slots=True)
class Heading:
    """What every piece of a completion begins with. question: as it was asked of the documents."""

    id: UUID
    model: str
    created: int
    question: str
    with_usage: bool = False

    @property
    def fields(self) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.id.hex}", "created": self.created, "model": self.model}


def completion(heading: Heading, answer: Mapping[str, Any]) -> ChatCompletion:
    return ChatCompletion(
        **heading.fields,
        choices=[
            Choice(message=Reply(content=answer["answer"] + footer(answer)), finish_reason=_reason(answer))
        ],
        usage=_usage(answer),
        ragzero=_grounds(heading, answer),
    )


def footer(answer: Mapping[str, Any]) -> str:
    """The documents behind the markers, as text for clients that show nothing else."""
    lines = {one["marker"]: f"[{one['marker']}] {_named(one)}" for one in answer["citations"]}
    return "\n\nSources:\n" + "\n".join([lines[marker] for marker in sorted(lines)]) if lines else ""


async def chunks(heading: Heading, events: AsyncGenerator[Event | None, None]) -> AsyncGenerator[str, None]:
    """Server-sent events: the role, the text as it comes, the footer, the end, and [DONE]; an error instead of the end.

    What the clients would not understand, that a model wakes or that we are still here, are comments.
    """
    found: Found | None = None
    try:
        async with aclosing(events) as following:
            async for event in following:
                found = event.found if isinstance(event, Sources) else found
                for line in _lines(heading, event, found):
                    yield line
    except Exception as error:
        yield _data(error_of(problems.told(error)))
    yield "data: [DONE]\n\n"


def _lines(heading: Heading, event: Event | None, found: Found | None) -> Iterator[str]:
    match event:
        case None:
            yield ": still here\n\n"
        case Status():
            yield f": {event.state}\n\n"
        case Sources():
            yield _chunk(heading, {"role": "assistant", "content": ""})
        case Text():
            yield _chunk(heading, {"content": event.text})
        case Done():
            assert found is not None
            answer = rendering.answer(heading.id, found, event)
            yield from _ending(heading, answer, at_once=event.mode == "extractive")
        case Kept():
            yield _chunk(heading, {"role": "assistant", "content": ""})
            yield from _ending(heading, event.parsed(), at_once=True)


def _ending(heading: Heading, answer: Mapping[str, Any], *, at_once: bool) -> Iterator[str]:
    """at_once: the text comes in one piece; else it was sent already."""
    rest = (answer["answer"] if at_once else "") + footer(answer)
    if rest:
        yield _chunk(heading, {"content": rest})
    yield _chunk(heading, {}, _reason(answer), ragzero=_grounds(heading, answer).model_dump(mode="json"))
    if heading.with_usage:
        yield _data(_head(heading) | {"choices": [], "usage": _usage(answer).model_dump()})


def _chunk(heading: Heading, delta: Mapping[str, str], reason: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    counted = {"usage": None} if heading.with_usage else {}
    return _data(_head(heading) | {"choices": [choice]} | counted | more)


def _head(heading: Heading) -> dict[str, Any]:
    return heading.fields | {"object": "chat.completion.chunk"}


def _data(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _reason(answer: Mapping[str, Any]) -> Any:
    return "length" if answer.get("truncated") else "stop"


def _usage(answer: Mapping[str, Any]) -> TokenUsage:
    prompt, written = (answer["usage"][kind] or 0 for kind in ("prompt_tokens", "completion_tokens"))
    return TokenUsage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


def _grounds(heading: Heading, answer: Mapping[str, Any]) -> Grounds:
    known = ("supported", "citations", "sources", "mode", "cached", "warnings")
    return Grounds.model_validate(
        {name: answer[name] for name in known}
        | {"answer_id": str(answer["id"]), "question": heading.question}
    )


def _named(citation: Mapping[str, Any]) -> str:
    name = " ".join(str(citation["uri"]).rsplit("/", 1)[-1].split())
    return name if citation["page"] is None else f"{name}, page {citation['page']}"
