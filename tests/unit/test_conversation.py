"""A question out of a conversation: left alone when it stands alone, else told what it is about."""

from __future__ import annotations

import pytest

from shared.core.conversation import Conversation, condensed, focus, stands_alone

CRANE = "How much does the harbour crane of Nordhaven lift?"


@pytest.mark.parametrize(
    "question",
    [
        CRANE,
        "Who is Ada?",
        "What is photosynthesis?",
        "Who built the crane and when was it painted?",
        "Opening hours of the museum",
        "Which documents mention that crane?",
        "Are there cranes in Nordhaven?",
        "Does the crane lift more than it weighs?",
        "How does a crane hold its load?",
        "Wie schwer ist der Kran?",
        "Nordhaven",
    ],
)
def test_a_question_that_stands_alone_is_left_alone(question: str) -> None:
    assert stands_alone(question)
    assert condensed(Conversation(question, ("Who painted the ferry?",))) == question


@pytest.mark.parametrize(
    "question",
    [
        "When was it built?",
        "Who painted them?",
        "When did Ada build it?",
        "How tall is it?",
        "What cranes do they own?",
        "And the ferry?",
        "What about the ferry in winter?",
        "Why?",
        "cost?",
        "How many people work there?",
        "Who is he?",
        "Is that expensive?",
        "Tell me more",
        "",
    ],
)
def test_a_question_that_leans_on_another_is_seen(question: str) -> None:
    assert not stands_alone(question)


def test_the_words_it_leans_on_are_carried_over() -> None:
    assert condensed(Conversation("When was it built?", (CRANE,))) == (
        "When was it built? (harbour crane Nordhaven lift)"
    )


def test_the_last_question_that_stood_alone_decides_and_later_names_come_along() -> None:
    turns = ("Who runs the ferry?", CRANE, "Was it Ada Lindqvist?")
    assert condensed(Conversation("When was she born?", turns)) == (
        "When was she born? (harbour crane Nordhaven lift Ada Lindqvist)"
    )


def test_the_first_question_is_what_it_is() -> None:
    assert condensed(Conversation("When was it built?")) == "When was it built?"


def test_what_would_be_too_long_is_not_carried() -> None:
    assert condensed(Conversation("When was it built?", ("x" * 4000 + " crane",))) == "When was it built?"


def test_the_turn_itself_says_what_is_wanted_and_the_rest_where_to_look() -> None:
    follow_up = Conversation("When was it built?", (CRANE,))
    assert focus(follow_up, condensed(follow_up)) == "When was it built?"
    assert focus(follow_up, "When was the crane built?") is None, "a model has rewritten it"
    assert focus(Conversation(CRANE, ("x",)), CRANE) is None
