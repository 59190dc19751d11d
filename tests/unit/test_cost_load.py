"""The simulated day against what can be computed by hand: Erlang's formulas, Little's law, single servers."""

from __future__ import annotations

import heapq
import math
import statistics
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from scripts.costing.gpu import Container
from scripts.costing.load import Demand, Shape, bottleneck, month, parts, simulate, sustained, times
from scripts.costing.queueing import HOUR, Fleet, Servers, poisson

GPU = Container("generate, on L4", "L4", 0, 1, 60)
SHAPE = Shape(
    query_copies=5,
    query_gb=2,
    query_connections=3,
    ingest_copies=3,
    ingest_gb=2,
    ingest_connections=1,
    connection_budget=100,
    gateway="rest",
    database_unit_hour=0.035,
    database_cores=1,
    index_gb_month=0.35,
    generator=GPU,
    embedder=replace(GPU, gpu="T4"),
)

# scripts/bench api on two processors, on two days: what 20 users at once got of what two processors would do at the pace
# of one user alone; and how many questions a second that was, 95 of 100 within how many seconds
SHARES = (0.72, 0.77)
BENCHED = ((75.0, 0.386), (62.0, 0.451))


def erlang_c(servers: int, load: float) -> float:
    """The share of arrivals that wait; load in servers kept busy."""
    first = sum(load**n / math.factorial(n) for n in range(servers))
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (first + last)


@pytest.mark.parametrize(("count", "load"), [(1, 0.5), (3, 2.4), (8, 6.0)])
def test_waiting_is_what_erlang_says(count: int, load: float) -> None:
    """M/M/c: the mean wait is C(c, a) / (c - a) service times."""
    random, servers, waits = Random(7), Servers(count), []
    for now in poisson([load / 1.0] * 24, random):
        service = random.expovariate(1.0)
        waits.append(servers.take(now, service) - service - now)
    expected = erlang_c(count, load) / (count - load)
    assert statistics.fmean(waits) == pytest.approx(expected, rel=0.1)


def test_littles_law_holds() -> None:
    """Jobs in the system, averaged over time, are arrivals x time in the system."""
    random, servers = Random(3), Servers(4)
    seen = [(now, servers.take(now, random.expovariate(1.0))) for now in poisson([3.0, 3.0], random)]
    changes = sorted([(begin, 1) for begin, _ in seen] + [(end, -1) for _, end in seen])
    present, area = 0, 0.0
    for (now, change), (then, _) in pairwise(changes):
        present += change
        area += present * (then - now)
    assert area == pytest.approx(sum(end - begin for begin, end in seen))


def test_arrivals_follow_the_hours() -> None:
    times_ = list(poisson([0.0, 2.0, 0.5], Random(1)))
    assert times_ == sorted(times_)
    counts = [sum(1 for each in times_ if hour * HOUR <= each < (hour + 1) * HOUR) for hour in range(3)]
    assert counts[0] == 0
    assert counts[1] == pytest.approx(7200, rel=0.05)
    assert counts[2] == pytest.approx(1800, rel=0.1)


def test_a_container_costs_its_waking_its_work_and_its_tail() -> None:
    fleet = Fleet(most=1, places=1, wakes=90, tail=60)
    assert fleet.take(0, 5) == 95
    assert fleet.take(1, 5) == 100  # waits for the same one
    assert fleet.take(1000, 5) == 1095  # it slept since 160
    assert fleet.close() == (100 + 60) + (90 + 5 + 60)
    assert fleet.woken == 2


def test_a_second_container_is_woken_when_the_first_is_full_and_not_before() -> None:
    fleet = Fleet(most=2, places=2, wakes=10, tail=5)
    assert [fleet.take(0, 20) for _ in range(2)] == [30, 30]
    assert fleet.woken == 1
    assert fleet.take(15, 20) == 45  # 15, and 10 to wake
    assert fleet.woken == 2
    assert fleet.close() == 35 + (45 + 5 - 15)


def test_a_quiet_day_by_hand() -> None:
    """Hits only: no GPU, no database, and the function for as long as a hit takes."""
    demand = Demand(questions=50_000, documents=1, users=1000, cached=1.0)
    day = simulate(demand, SHAPE)
    assert day.questions == pytest.approx(50_000, rel=0.02)
    assert (day.refused, day.gpu_seconds, day.database_seconds) == (0, 0.0, 0.0)
    assert day.lambda_seconds == pytest.approx(day.questions * times()["hit"].value, rel=0.02)


def test_the_busy_hour_by_hand() -> None:
    """80 000 of 100 000 questions in 8 h: 2.78 a second, times the seconds of an answer, over the places there are."""
    demand = Demand(questions=100_000, documents=1, users=1000, cached=0.0, written=1.0)
    found = {part.name: part for part in parts(demand, SHAPE)}
    answers = 80_000 / (8 * 3600) * times()["answer"].value
    assert found["places on GPUs"].used == pytest.approx(answers / 32)
    assert found["places on GPUs"].capacity == pytest.approx(100_000 * 32 / answers)
    first = bottleneck(list(found.values()))
    assert first.name == "copies of the query function"
    assert first.used > 1


def test_the_databases_processors_by_hand() -> None:
    """70 % of 2.78 a second are looked for, each as long as the statement takes; a processor shared does 0.75 of its work."""
    demand = Demand(questions=100_000, documents=1, users=1000)
    (found,) = (part for part in parts(demand, SHAPE) if part.name == "processors of the database")
    searching = 80_000 / (8 * 3600) * 0.7 * times()["search"].value
    assert found.used == pytest.approx(searching / 0.75)
    own = replace(SHAPE, database_cores=None)
    assert len(parts(demand, own)) == len(parts(demand, SHAPE)) - 1


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("together", "p95"), BENCHED)
def test_what_is_foreseen_of_shared_processors_is_what_was_measured(
    share: float, together: float, p95: float
) -> None:
    """Twenty users who ask again as soon as they are answered, within a quarter."""
    alone = together / 2 / share  # questions a second
    random, servers, taken = Random(5), Servers(2), []
    each, now, due = 2 / (sustained(2) * alone), 0.0, [0.0] * 20
    while len(taken) < 20_000:
        now = heapq.heappop(due)
        heapq.heappush(due, done := servers.take(now, random.expovariate(1 / each)))
        taken.append(done - now)
    assert len(taken) / now == pytest.approx(together, rel=0.25)
    assert statistics.quantiles(taken, n=20)[-1] == pytest.approx(p95, rel=0.25)


def test_more_than_fits_is_refused_and_what_fits_is_not() -> None:
    demand = Demand(questions=20_000, documents=1, users=10_000, cached=0.0, written=1.0)
    assert simulate(demand, replace(SHAPE, query_copies=200)).refused < 200  # while the GPU wakes
    over = simulate(replace(demand, questions=100_000), SHAPE)
    assert over.refused / over.questions > 0.3
    assert over.copies == SHAPE.query_copies


def test_users_ask_one_thing_at_a_time() -> None:
    """Two users never keep more than two copies of the function at work."""
    demand = Demand(questions=20_000, documents=1, users=2, cached=0.0)
    day = simulate(demand, SHAPE)
    assert (day.copies, day.refused) == (2, 0)


def test_the_bill_by_hand() -> None:
    """1 000 hits a day, 1 000 000 documents that never change: gateway, Lambda, one command each; and what is kept."""
    demand = Demand(questions=1000, documents=1_000_000, users=100, cached=1.0, changed=0.0)
    day = simulate(demand, SHAPE)
    bill = month(demand, SHAPE, day)
    days = 730 / 24
    assert bill["gateway (rest)"] == pytest.approx(day.questions * 0.0000037 * days)
    assert bill["Redis"] == pytest.approx(day.questions * 0.000002 * days)
    assert bill["GPU, answers (L4)"] == bill["database, awake"] == 0
    assert bill["database, stored"] == pytest.approx(1_000_000 * 20 * 3000 / 1e9 * 0.35)


def test_what_nobody_measured_is_called_assumed() -> None:
    assert {time.basis for time in times().values()} == {"measured", "assumed"}
    assert times()["answer"].basis == "assumed"
