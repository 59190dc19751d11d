"""The conformance suite on the deployment that the environment names, or on a local mode of its own.

RAGZERO_API_URL=... RAGZERO_API_KEY=... RAGZERO_ADMIN_KEY=... RAGZERO_BUCKET=... scripts/test tests/e2e/test_conformance.py
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.benchmarks.throwaway import stack
from scripts.local.up import read_env
from tests.e2e.conformance import Conformance
from tests.e2e.target import Target, given
from tests.support.waiting import PATIENT_VARIABLES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    if (known := given()) is not None:
        yield known
        return
    with stack(variables=PATIENT_VARIABLES) as local:
        yield Target.named_in(read_env(local.folder))


class TestConformance(Conformance):
    pass
