"""What an environment costs: asleep, from its Terraform plans and the Modal definitions; at work, from a simulated day."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from scripts.costing import gpu, load, resources
from scripts.costing.plans import Planned, planned
from scripts.costing.prices import prices
from scripts.costing.shape import shape
from scripts.deployment.stack import ENVIRONMENTS
from shared.core.errors import RagzeroError


def idle(given: argparse.Namespace) -> int:
    """1 when an environment that promises zero keeps something on."""
    found = planned(given.environment)
    bill = charges(found, given.environment)
    print(f"{given.environment}, a month in which nobody asks ({_listed()}):\n")
    print(idle_table(bill))
    return promise(found, bill)


def charges(found: Planned, environment: str) -> list[resources.Charge]:
    plans = resources.Plans(found.resources)
    return resources.charges(plans) + gpu.charges(gpu.containers(environment))


def promise(found: Planned, bill: Sequence[resources.Charge]) -> int:
    broken = resources.always_on(bill)
    if not (found.zero_idle and broken):
        return 0
    for each in broken:
        print(f"cost: promises zero idle cost, but {each.resource} is always on: {each.why}", file=sys.stderr)
    return 1


def idle_table(bill: Sequence[resources.Charge]) -> str:
    """Dearest first; each kind's sum below, always on among them even when it is nothing."""
    kinds = ("always on", "woken", "watching", "storage")
    rows = [
        f"{each.usd:10.4f}  {each.kind:9}  {each.resource}: {each.why}"
        for each in sorted(bill, key=lambda each: -each.usd)
    ]
    sums = [f"{sum(each.usd for each in bill if each.kind == kind):10.4f}  {kind}" for kind in kinds]
    return "\n".join([*rows, "", *sums, f"{sum(each.usd for each in bill):10.4f}  all together"])


def at(given: argparse.Namespace) -> int:
    found = planned(given.environment)
    able = shape(found, gpu.containers(given.environment))
    demand = load.Demand(
        given.questions_per_day, given.documents, given.users, given.cached, given.written, given.changed
    )
    print(at_table(demand, able, load.simulate(demand, able)))
    return 0


def at_table(demand: load.Demand, able: load.Shape, day: load.Day) -> str:
    bill = load.month(demand, able, day)
    parts = load.parts(demand, able)
    first = load.bottleneck(parts)
    return "\n".join(
        [
            f"a month of days with {demand.questions:g} questions of {demand.users} users on {demand.documents} documents",
            f"({_listed()}):",
            "",
            *(f"{cost:10.2f}  {name}" for name, cost in bill.items()),
            f"{sum(bill.values()):10.2f}  all together",
            "",
            f"a day: {day.questions} questions, {day.refused} refused; GPUs on for {day.gpu_seconds:.0f} s, "
            f"the database for {day.database_seconds / 3600:.1f} h",
            f"answers: p50 {day.percentile(0.5):.2f} s, p95 {day.percentile(0.95):.2f} s; "
            f"{day.copies} copies of the query function at most at once",
            "",
            "used in a busy hour, and the questions a day that would use it up:",
            *(f"{part.used:9.1%}  {part.capacity:14,.0f}  {part.name}" for part in parts),
            f"what gives way first: {first.name}",
            "",
            "computed with (infra/service_times.toml):",
            *(f"  {name} = {time.value:g}, {time.basis}: {time.how}" for name, time in load.times().items()),
        ]
    )


def _listed() -> str:
    months = sorted({each.as_of for each in prices().values()})
    regions = sorted({each.region for each in prices().values()} - {"all"})
    return f"USD list prices of {months[0]} to {months[-1]} in {' or '.join(regions)}, no free tiers"


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, got {text}")
    return value


def _many(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/cost", description=__doc__)
    commands = parser.add_subparsers(required=True)
    asleep = commands.add_parser("idle", help="the monthly bill while nobody asks")
    asleep.add_argument("environment", choices=ENVIRONMENTS)
    asleep.set_defaults(run=idle)
    busy = commands.add_parser("at", help="the monthly bill, the bottleneck and the capacity under a load")
    busy.add_argument("--environment", choices=ENVIRONMENTS, default="dev")
    for name in ("questions-per-day", "documents", "users"):
        busy.add_argument(f"--{name}", type=_many, required=True)
    shares: Iterable[tuple[str, float, str]] = (
        ("cached", load.Demand.cached, "of the questions, those answered before"),
        ("written", load.Demand.written, "of the others, those that a model answers"),
        ("changed", load.Demand.changed, "of the documents, those that change in a day"),
    )
    for name, default, said in shares:
        busy.add_argument(f"--{name}", type=_share, default=default, help=f"{said} (default: %(default)s)")
    busy.set_defaults(run=at)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments(arguments)
    try:
        return int(given.run(given))
    except RagzeroError as error:
        print(f"cost: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
