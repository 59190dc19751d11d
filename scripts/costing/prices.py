"""infra/prices.toml: what one of everything costs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shared.core.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "infra" / "prices.toml"
HOURS = 730.0
"""Of a month, as the vendors count."""
SECONDS = HOURS * 3600


@dataclass(frozen=True)
class Price:
    """USD for one unit; as_of is the month from which we know it."""

    usd: float
    unit: str
    region: str
    source: str
    as_of: str


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(TABLE.read_text())


def prices() -> Mapping[str, Price]:
    return {name: Price(**entry) for name, entry in _table().items() if name != "free"}


def free() -> frozenset[str]:
    """The types of Terraform's resources that cost nothing while nobody asks."""
    return frozenset(_table()["free"])


def usd(name: str) -> float:
    """Of one unit. Raises ConfigurationError for what the table does not name."""
    try:
        return float(_table()[name]["usd"])
    except KeyError:
        raise ConfigurationError(TABLE.name, f"expected a price named {name}, found none") from None
