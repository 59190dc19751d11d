"""Our own hints have their place among S3's events: after what is done, before what is still to come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.hints import Hint, hints, message, next_sequencer

_HEX = st.text("0123456789ABCDEF", min_size=1, max_size=24)


@given(_HEX, st.integers(1, 5))
def test_a_hint_comes_after_what_is_done_and_before_any_later_event(done: str, hinted: int) -> None:
    """As strings, padded on the right: how S3's sequencers compare, and ours with them."""
    before = done.ljust(64, "0")
    for _ in range(hinted):
        following = next_sequencer(before)
        assert before < following
        assert len(following) == 64
        before = following
    later = done[:-1] + chr(ord(done[-1]) + 1)
    assert before < later.ljust(64, "0")


def test_the_first_hint_of_all() -> None:
    assert next_sequencer("") == "1".rjust(64, "0")


@pytest.mark.parametrize("done", ["z" * 64, "F" * 64, "a" * 64, "0" * 48 + "F" * 16])
def test_where_no_place_is_left_a_hint_has_none_and_is_never_out_of_date(done: str) -> None:
    assert next_sequencer(done) == ""


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1))
def test_what_is_said_is_understood(key: str) -> None:
    hint = Hint("bucket", key, next_sequencer(""))
    assert list(hints(message(hint, "Sweep"))) == [hint]
