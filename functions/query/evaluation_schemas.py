"""The shapes of evaluations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from functions.query.schemas import COLLECTION_FORM, Filter, StrictRequest
from shared.core.conversation import MAX_QUESTION
from shared.core.evaluation import Summary

_Text = Annotated[str, Field(min_length=1, max_length=2_000)]


class NewEvaluation(StrictRequest):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    questions_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = Field(
        description="SHA-256 of the questions: runs of the same ones compare."
    )
    k: int = Field(10, ge=1, le=50, description="So many passages are looked at for each question.")
    space: int | None = Field(None, description="The active one, unless said.")
    candidate: str | None = Field(
        None,
        description="A collection: questions about it are asked of its candidate.",
        json_schema_extra=COLLECTION_FORM,
    )
    generate: bool = Field(False, description="Have a model write the answers, where there is one.")


class QuestionAsked(StrictRequest):
    number: int = Field(ge=0, lt=2**31, description="Its place among the questions.")
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION)]
    documents: Annotated[list[_Text], Field(max_length=100)] = Field(
        [], description="Those that hold the answer, by key, s3:// uri or id."
    )
    answers: Annotated[list[_Text], Field(max_length=20)] = Field(
        [], description="Texts of which a right answer contains one."
    )
    collection: str = Field("default", json_schema_extra=COLLECTION_FORM)
    filter: Filter | None = None


class Scores(BaseModel):
    ranked: list[str]
    expected: int
    found: list[int] = Field(description="Places of expected documents in the ranking, from 1.")
    supported: bool
    contained: bool | None = Field(description="null where no answer was expected.")
    cited: int
    cited_expected: int
    latency_ms: float
    cost_usd: float | None


class Judged(Scores):
    answer: str
    mode: str


class OutcomeView(Scores):
    number: int
    question: str


class EvaluationView(BaseModel):
    id: int
    name: str
    space_id: int
    space_name: str
    candidate_id: int | None
    candidate_of: str | None = Field(description="The collection whose candidate was asked.")
    questions_digest: str
    k: int
    generated: bool
    summary: Summary | None
    made_by: str
    created_at: datetime
    finished_at: datetime | None


class VerdictView(BaseModel):
    changes: dict[str, float] = Field(description="after less before.")
    overlap: float = Field(description="The share of documents that both found.")
    worse: list[str] = Field(description="What fell by more than the margin.")
    passed: bool


class Comparison(VerdictView):
    before: EvaluationView
    after: EvaluationView


class RecentQuestion(BaseModel):
    question: str
    collection: str


class GoldenQuestion(BaseModel):
    question: str
    collection: str | None = Field(description="null where feedback does not tell.")
    filter: dict[str, Any] | None
    documents: list[str] = Field(description="Cited by an answer that was found good.")
    answers: list[str] = Field(description="What people said the answer should have been.")
