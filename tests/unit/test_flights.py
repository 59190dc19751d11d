"""An answer in the making tells everybody who follows it how it ended, whoever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

import pytest

from functions.query.answering import Text
from functions.query.flights import Event, Flight, Flights
from shared.core.errors import BadUpstream, Unavailable

WORDS = [Text("Forty"), Text(" tonnes")]
TURNS = range(6)
"""How many turns of the loop lie between the last word and the end: the reader may look at any of them."""


async def heard(flight: Flight) -> list[Event]:
    return [event async for event in flight.follow()]


def saying(flight: Flight, turns: int, end: Callable[[], None]) -> Coroutine[Any, Any, None]:
    async def work() -> None:
        flight.reached(1)
        flight.add(WORDS[0])
        await asyncio.sleep(0.01)
        flight.add(WORDS[1])
        for _ in range(turns):
            await asyncio.sleep(0)
        end()

    return work()


def dies() -> None:
    raise BadUpstream("generator", "generator broke off")


@pytest.mark.parametrize("turns", TURNS)
async def test_an_end_right_after_the_last_word_is_heard(turns: int) -> None:
    """The model's last word and its end may come in one piece."""
    flight = Flight(uuid4(), kept=True)
    flight.begin(saying(flight, turns, lambda: None))
    assert await heard(flight) == WORDS


@pytest.mark.parametrize("turns", TURNS)
async def test_an_error_right_after_the_last_word_is_heard_by_all(turns: int) -> None:
    flight = Flight(uuid4(), kept=True)
    flight.begin(saying(flight, turns, dies))
    told = await asyncio.gather(*(heard(flight) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [BadUpstream] * 3
    with pytest.raises(BadUpstream):  # and by who comes when it is over
        await heard(flight)


async def test_an_answer_that_is_being_given_up_is_not_joined() -> None:
    """Its only reader went away; what it lets go of takes a while, and somebody asks the same meanwhile."""
    flights, flight, letting_go = Flights(), Flight(uuid4()), asyncio.Event()

    async def slow_to_leave() -> None:
        flight.reached(1)
        flight.add(WORDS[0])
        try:
            await asyncio.Event().wait()
        finally:
            await letting_go.wait()

    flights.begin(flight, "question", slow_to_leave())
    first = flight.follow()
    assert await anext(first) == WORDS[0]
    leaving = asyncio.create_task(first.aclose())
    await asyncio.sleep(0)
    assert flight.ending

    assert await flights.joinable("question", epoch) is None
    second = Flight(uuid4(), kept=True)
    flights.begin(second, "question", saying(second, 0, lambda: None))
    letting_go.set()
    await leaving
    assert await flights.joinable("question", epoch) is second
    assert await heard(second) == WORDS


async def test_who_follows_when_the_server_stops_is_told() -> None:
    flights, flight = Flights(), Flight(uuid4(), kept=True)

    async def forever() -> None:
        flight.add(WORDS[0])
        await asyncio.Event().wait()

    flights.begin(flight, "question", forever())
    following = asyncio.create_task(heard(flight))
    await asyncio.sleep(0)
    await flights.close()
    with pytest.raises(Unavailable, match="about to stop"):
        await following


async def epoch() -> int:
    return 1
