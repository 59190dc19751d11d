"""What the tests of the description share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.produced import Produced


@pytest.fixture
def produced() -> Iterator[Produced]:
    """Watches the application of a test; what it answers is described."""
    produced = Produced()
    yield produced
    assert produced.unannounced() == set(), "the description does not name these"
