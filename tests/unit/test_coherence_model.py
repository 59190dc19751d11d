"""I3 for caches: every interleaving of publishers, readers, losses and delays, within bounds (ARCHITECTURE §5).

The checks must bite, so each rule of the protocol is taken away in turn, and the way to a stale answer has to be found.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from tests.support.coherence_model import Bounds, Machine, Protocol

AS_IT_IS = Protocol()
IN_TIME = Bounds(readers=1, questions=3, losses=0, drains=0, ticks=4)
"""For what only matters when leases end."""

BROKEN = {
    "restoring without a ticket": AS_IT_IS.with_restoring(
        "if redis.call('GET', KEYS[2]) ~= ARGV[1] then\n  return 0\nend\n", ""
    ),
    "restoring while somebody publishes": replace(AS_IT_IS, lock=False),
    "setting instead of raising": AS_IT_IS.with_raising(
        "held and tonumber(held) < tonumber(ARGV[1])", "held"
    ),
    "leaving the ticket": AS_IT_IS.with_raising("redis.call('DEL', KEYS[2])\n", ""),
    "telling Redis after the commit": replace(AS_IT_IS, told_first=False),
    "making the epoch where there is none": AS_IT_IS.with_raising(
        "held and tonumber(held)", "not held or tonumber(held)"
    ).with_raising("'KEEPTTL'", "'EX', 900"),
}
BROKEN_IN_TIME = {
    "a new lease from raising": AS_IT_IS.with_raising("'KEEPTTL'", "'EX', 900"),
    "a new lease from hits": replace(AS_IT_IS, hits_extend=True),
    "a receipt that forgets tickets": replace(AS_IT_IS, receipts_count_tickets=False),
}


@pytest.mark.parametrize(
    "bounds",
    [Bounds(losses=2, drains=0), Bounds(readers=1, questions=3, losses=2), IN_TIME],
    ids=["two readers", "with a drain", "leases end"],
)
def test_nobody_gets_an_answer_from_before_a_reported_change(
    empty_redis: redis.Redis, bounds: Bounds
) -> None:
    """When it was reported as not coherent yet, nobody does after the time the receipt names."""
    worlds, way = Machine(empty_redis, AS_IT_IS, bounds).explore()
    assert way is None, "\n".join(way or [])
    assert worlds > 10_000


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_is_needed(empty_redis: redis.Redis, name: str) -> None:
    _, way = Machine(empty_redis, BROKEN[name], Bounds(readers=1)).explore()
    assert way is not None
    assert "was reported" in way[-1]


@pytest.mark.parametrize("name", BROKEN_IN_TIME)
def test_each_rule_about_leases_is_needed(empty_redis: redis.Redis, name: str) -> None:
    _, way = Machine(empty_redis, BROKEN_IN_TIME[name], IN_TIME).explore()
    assert way is not None
    assert way.count("time goes by") >= 3
