"""What the tests of a whole ragzero share; each module says which one it is: its fixture `target`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conformance import LOGBOOK
from tests.e2e.target import Json, Target, Tenant
from tests.support.documents import pdf_bytes


@pytest.fixture(scope="module")
def tenant(target: Target) -> Iterator[Tenant]:
    made = Tenant.made(target)
    yield made
    made.close()


@pytest.fixture(scope="module")
def logbook(tenant: Tenant) -> Json:
    """A PDF put into the bucket, searchable."""
    tenant.put("logbook.pdf", pdf_bytes(LOGBOOK), vessel="marigold", year="1962")
    return tenant.searchable("logbook.pdf")
