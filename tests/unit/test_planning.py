"""What a change of the index is said to take."""

from __future__ import annotations

import pytest

from shared.core.planning import Change, Pace, Size, planned

SIZE = Size(documents=100, chunks=2_000, texts=1_800, known=300)
PACE = Pace(chunks_per_second=50, documents_per_second=10, usd_per_second=0.001)


def test_another_model_embeds_each_text_that_its_space_lacks_once() -> None:
    plan = planned(Change.MODEL, SIZE, PACE, dimension=384)
    assert (plan.vectors_made, plan.vectors_reused, plan.at_most) == (1_500, 500, False)
    assert (plan.gpu_minutes, plan.cost_usd, plan.rereads_documents) == (0.5, 0.03, False)
    assert plan.seconds == pytest.approx(30 + 0.4)


def test_another_language_embeds_nothing() -> None:
    plan = planned(Change.LANGUAGE, SIZE, PACE, dimension=384)
    assert (plan.vectors_made, plan.cost_usd, plan.seconds) == (0, 0, 10)
    assert plan.rereads_documents


@pytest.mark.parametrize("change", [Change.CHUNKING, Change.PARSER])
def test_what_cuts_texts_anew_says_that_its_figures_are_the_most(change: Change) -> None:
    plan = planned(change, SIZE, PACE, dimension=384)
    assert (plan.vectors_made, plan.at_most) == (1_800, True)


def test_disk_grows_with_the_dimension_and_the_chunks() -> None:
    """117 MB of HNSW and about 100 MB of table and keys were measured for 100 000 vectors of 384."""
    plan = planned(Change.MODEL, Size(1, 100_000, 100_000), PACE, dimension=384)
    assert 200e6 < plan.disk_bytes < 260e6


def test_sizes_of_tenants_add_up() -> None:
    assert Size(200, 4_000, 3_600, 600) == SIZE + SIZE
