"""A busy day, simulated: what it costs, what gives way first, and how much more would fit."""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random

from scripts.costing.gpu import Container
from scripts.costing.prices import HOURS, ROOT, usd
from scripts.costing.queueing import HOUR, Fleet, Servers, poisson

TABLE = ROOT / "infra" / "service_times.toml"
DAYS = HOURS / 24
_BUSY = range(9, 17)
_BUSY_SHARE = 0.8
"""Of a day's questions, in the eight hours of an office."""
_SUSPEND_S = 300.0
_COMMANDS = {"hit": 1, "miss": 4}
"""Of Redis: one to look; and to keep an answer, its neighbours and what it cost."""
GB = 10**9


@dataclass(frozen=True)
class Time:
    value: float
    basis: str
    how: str


@cache
def times() -> Mapping[str, Time]:
    return {name: Time(**entry) for name, entry in tomllib.loads(TABLE.read_text()).items()}


def _of(name: str) -> float:
    return times()[name].value


@dataclass(frozen=True)
class Demand:
    """cached: the share of questions answered before; written: of the others, answered by a model; changed: of the
    documents, a day."""

    questions: float
    documents: int
    users: int
    cached: float = 0.3
    written: float = 1.0
    changed: float = 0.01

    @property
    def rates(self) -> list[float]:
        """Questions per second in each hour of a day."""
        busy = self.questions * _BUSY_SHARE / len(_BUSY)
        quiet = self.questions * (1 - _BUSY_SHARE) / (24 - len(_BUSY))
        return [(busy if hour in _BUSY else quiet) / HOUR for hour in range(24)]


@dataclass(frozen=True)
class Shape:
    """What the environment has: copies of functions, their memory and connections, and the GPUs' definitions."""

    query_copies: int
    query_gb: float
    query_connections: int
    ingest_copies: int
    ingest_gb: float
    ingest_connections: int
    connection_budget: int
    gateway: str
    database_unit_hour: float
    """USD for an hour in which the database is awake and at its smallest."""
    database_cores: float | None
    """At its largest; None for a database of your own, which no plan tells of."""
    index_gb_month: float
    generator: Container
    embedder: Container


@dataclass
class Day:
    questions: int = 0
    refused: int = 0
    lambda_seconds: float = 0.0
    gpu_seconds: float = 0.0
    database_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    copies: int = 0
    """Of the query function, at most, at once."""

    def percentile(self, share: float) -> float:
        return statistics.quantiles(self.latencies, n=1000)[round(share * 1000) - 1]


@dataclass(frozen=True)
class Part:
    """capacity: the questions a day with which it would be used up in a busy hour."""

    name: str
    used: float
    capacity: float


def simulate(demand: Demand, shape: Shape, seed: int = 1) -> Day:
    """A day's questions. A user asks the next one after the answer to the last; a question that finds all copies of the
    function at work is refused, as Lambda does."""
    random, day = Random(seed), Day()  # noqa: S311 - the same day each time
    lambdas = Servers(shape.query_copies)
    gpu = shape.generator
    fleet = Fleet(
        gpu.max_containers, int(_of("answers_at_once")), _of("generator_wakes"), gpu.scaledown_window
    )
    asking = Servers(demand.users)
    awake_until = -_SUSPEND_S
    for arrived in poisson(demand.rates, random):
        now = asking.start(arrived)
        day.questions += 1
        if lambdas.start(now) > now:
            day.refused += 1
            continue
        done, asks_database = _answered(demand, fleet, now, random)
        asking.take(now, done - now)
        lambdas.take(now, done - now)
        day.lambda_seconds += done - now
        day.latencies.append(done - arrived)
        if asks_database:
            day.database_seconds += now + _SUSPEND_S - max(now, awake_until)
            awake_until = now + _SUSPEND_S
    day.gpu_seconds, day.copies = fleet.close(), lambdas.most
    return day


def _answered(demand: Demand, fleet: Fleet, now: float, random: Random) -> tuple[float, bool]:
    """When, and whether the database was asked. Times vary as much as they are long (exponential), as a queue's worst do."""
    if random.random() < demand.cached:
        return now + random.expovariate(1 / _of("hit")), False
    found = now + random.expovariate(1 / _of("question"))
    if random.random() >= demand.written:
        return found, True
    return fleet.take(found, random.expovariate(1 / _of("answer"))), True


def held(demand: Demand) -> float:
    """Seconds for which a question keeps a copy of the function, on average, when nobody waits."""
    miss = _of("question") + demand.written * _of("answer")
    return demand.cached * _of("hit") + (1 - demand.cached) * miss


def parts(demand: Demand, shape: Shape) -> list[Part]:
    """What a busy hour uses of everything there is a limited number of: rate x time / number (Little's law)."""
    rate = max(demand.rates)
    copies = rate * held(demand)
    answers = rate * (1 - demand.cached) * demand.written * _of("answer")
    left = shape.connection_budget - shape.ingest_copies * shape.ingest_connections
    limits = [
        ("copies of the query function", copies, shape.query_copies),
        ("database connections", copies * shape.query_connections, left),
        ("places on GPUs", answers, shape.generator.max_containers * _of("answers_at_once")),
    ]
    if shape.database_cores is not None:
        searching = rate * (1 - demand.cached) * _of("search")
        limits.append(("processors of the database", searching, sustained(shape.database_cores)))
    return [
        Part(name, used / of, demand.questions * of / used if used else float("inf"))
        for name, used, of in limits
    ]


def sustained(cores: float) -> float:
    """Seconds of work a second that processors do while many want them; timed alone, each work seems to take less."""
    return cores * _of("shared_cores")


def bottleneck(found: Sequence[Part]) -> Part:
    return max(found, key=lambda part: part.used)


def month(demand: Demand, shape: Shape, day: Day) -> dict[str, float]:
    """USD by what is paid for, for a month of such days. What is kept counts too, what is idle does not."""
    served = day.questions - day.refused
    hits = served * demand.cached
    changed = demand.documents * demand.changed
    price = usd("lambda_gb_second_arm64")
    chunks = changed * _of("chunks_per_document")
    ingest = (
        changed * _of("ingest_document") + _on_cpu(chunks) / _of("cpu_chunks_per_second")
    ) * shape.ingest_gb
    commands = hits * _COMMANDS["hit"] + (served - hits) * _COMMANDS["miss"]
    index_gb = demand.documents * _of("chunks_per_document") * _of("index_bytes_per_chunk") / GB
    by_day = {
        "Lambda, questions": day.lambda_seconds * shape.query_gb * price
        + day.questions * usd("lambda_request"),
        "Lambda, documents": ingest * price + changed * usd("lambda_request"),
        f"gateway ({shape.gateway})": day.questions * usd(f"gateway_{shape.gateway}_request"),
        "queue and bucket": changed * (3 * usd("sqs_request") + usd("s3_put")),
        "Redis": commands * usd("upstash_command"),
        "database, awake": day.database_seconds / 3600 * shape.database_unit_hour,
        f"GPU, answers ({shape.generator.gpu})": day.gpu_seconds * shape.generator.usd_a_second,
        f"GPU, vectors ({shape.embedder.gpu})": _on_gpu(chunks, shape.embedder) * shape.embedder.usd_a_second,
    }
    stored = {
        "database, stored": index_gb * shape.index_gb_month,
        "bucket, stored": demand.documents * _of("document_bytes") / GB * usd("s3_gb_month"),
    }
    return {name: cost * DAYS for name, cost in by_day.items()} | stored


def _on_cpu(chunks: float) -> float:
    """Of these chunks, those of documents small enough to be embedded where they are read."""
    return chunks if _of("chunks_per_document") <= _of("cpu_lane_chunks") else 0.0


def _on_gpu(chunks: float, container: Container) -> float:
    """Seconds: the other documents come one at a time and wake it each time, at worst."""
    left = chunks - _on_cpu(chunks)
    wakings = left / _of("chunks_per_document")
    return left / _of("embed_chunks_per_second") + wakings * (_of("embed_wakes") + container.scaledown_window)
