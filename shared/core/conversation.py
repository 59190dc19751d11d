"""A question out of a conversation, made to stand alone: what is searched for, and what names the answer in caches.

Whether a turn stands alone is seen from its words, in English: a pronoun with nothing before it to stand for, or a
fragment such as "and the ferry?". Turns in other languages stand alone unless they are fragments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_QUESTION = 4_000
"""Characters."""
MAX_EARLIER = 8
"""Earlier questions that are looked at, the newest ones."""
_MOST_CARRIED = 12
_WORD = re.compile(r"\w+(?:['’.-]\w+)*")
_PERSONS = frozenset(("it", "they", "them", "he", "him", "she"))
_POINTERS = frozenset(
    _WORD.findall(
        "its itself their theirs themselves his himself her hers herself this that these those one ones same such former "
        "latter both neither"
    )
)
_CLAUSE = re.compile(
    r"[,;:]|\b(?:and|or|but|if|when|while|because|that|than|as|before|after|so|where|which|who)\b",
    re.IGNORECASE,
)
_OPENING = frozenset(("who", "what", "which", "how", "whose"))
_PLACES = frozenset(("there", "then", "so"))  # they point back at the end of a sentence only
_FRAGMENT = re.compile(
    r"(?:and|but|or|also|what about|how about|what else|who else|where else|same for|more about|tell me more|why not)\b",
    re.IGNORECASE,
)
_PLAIN = frozenset(
    _WORD.findall(
        """a about again all also am an and any anything are aren't as at be been being but by can can't could did didn't do
    does doesn't don't else ever exactly explain for from get give has have he her here hers him his how i if in into is
    isn't it its just know like list many may me mean might more most much must my no not now of off ok okay on one ones
    only or our out over please really same say shall she should show so some something such tell than thanks that the
    their theirs them then there these they this those to too under up us was wasn't we were what what's when when's where
    where's which while who who's whom whose why will with would yes yet you your"""
    )
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """earlier: what the same person asked before, oldest first."""

    question: str
    earlier: tuple[str, ...] = ()

    @property
    def stands_alone(self) -> bool:
        return not self.earlier or stands_alone(self.question)


def stands_alone(question: str) -> bool:
    """Whether the question can be understood without what was said before."""
    words = _WORD.findall(question)
    telling = [word for word in words if word.lower() not in _PLAIN]
    if not telling or _FRAGMENT.match(question.lstrip()):
        return False
    if len(telling) == 1 and len(words) <= 2 and not telling[0][:1].isupper():
        return False
    return not _points_back(question)


def condensed(conversation: Conversation) -> str:
    """The question, followed by the words of earlier ones that it leans on, unless that makes it too long."""
    if conversation.stands_alone:
        return conversation.question
    said = {word.lower() for word in _WORD.findall(conversation.question)}
    carried = [word for word in _topic(conversation.earlier) if word.lower() not in said][:_MOST_CARRIED]
    if not carried:
        return conversation.question
    whole = f"{conversation.question} ({' '.join(carried)})"
    return whole if len(whole) <= MAX_QUESTION else conversation.question


def focus(conversation: Conversation, asked: str) -> str | None:
    """The turn itself where words of earlier ones were put behind it: those say which passage, it says what of it."""
    leans = asked != conversation.question and asked == condensed(conversation)
    return conversation.question if leans else None


def _points_back(question: str) -> bool:
    """A pronoun without anything before it that it could stand for, or one of place or time at the very end."""
    found = list(_WORD.finditer(question))
    subject: re.Match[str] | None = None
    for number, match in enumerate(found):
        word = match[0].lower()
        if word in _POINTERS and subject is None:
            return True
        if word in _PERSONS and (
            subject is None or not _CLAUSE.search(question, subject.end(), match.start())
        ):
            return True
        after = found[number - 1][0].lower() if number else ""
        if subject is None and word not in _PLAIN and after not in _OPENING:  # "how tall", "who painted"
            subject = match
    return bool(found) and found[-1][0].lower() in _PLACES


def _topic(earlier: Sequence[str]) -> list[str]:
    """The telling words of the last question that stood alone, and the names that came up after it."""
    names: list[str] = []
    for question in reversed(earlier[-MAX_EARLIER:]):
        words = _WORD.findall(question)
        if stands_alone(question):
            return _once([word for word in words if word.lower() not in _PLAIN] + names)
        names = [word for word in words if _is_name(word)] + names
    return _once(names or _telling(earlier))


def _telling(questions: Iterable[str]) -> list[str]:
    return [word for text in questions for word in _WORD.findall(text) if word.lower() not in _PLAIN]


def _is_name(word: str) -> bool:
    return word[:1].isupper() and word.lower() not in _PLAIN


def _once(words: Iterable[str]) -> list[str]:
    found: dict[str, str] = {}
    for word in words:
        found.setdefault(word.lower(), word)
    return list(found.values())
