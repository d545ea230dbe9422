"""The committed offset against a model: in whatever order records finish, it never passes an unfinished one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.flow.offsets import Prefix
from worker.model.records import Verdict


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    """A start, ascending offsets with gaps, and an order in which some of them finish."""
    start = draw(st.integers(0, 1 << 40))
    gaps = draw(st.lists(st.integers(0, 5), max_size=60))
    offsets: list[int] = []
    for gap in gaps:
        offsets.append((offsets[-1] + 1 if offsets else start) + gap)
    order = draw(st.permutations(offsets))
    return start, offsets, order[: draw(st.integers(0, len(order)))]


@given(runs(), st.data())
def test_the_prefix_is_what_a_model_says(run: tuple[int, list[int], list[int]], data: st.DataObject) -> None:
    start, offsets, order = run
    prefix = Prefix(start)
    begun, done, passed = 0, set[int](), list[Verdict]()
    verdicts = {offset: data.draw(st.sampled_from(Verdict)) for offset in order}
    for offset in order:
        needed = offsets.index(offset) + 1
        if needed > begun:
            begun_to = data.draw(st.integers(needed, len(offsets)))
            prefix.caught(offsets[begun:begun_to])
            begun = begun_to
        prefix.finished(offset, verdicts[offset])
        done.add(offset)
        passed += prefix.advance()
        whole = next((place for place, each in enumerate(offsets[:begun]) if each not in done), begun)
        assert prefix.next_offset == (offsets[whole - 1] + 1 if whole else start)
        assert passed == [verdicts[each] for each in offsets[:whole]]
        assert prefix.open_records == begun - len(done)
        assert prefix.is_idle is (whole == begun)


def test_a_record_that_was_not_begun_or_is_finished_already_is_refused() -> None:
    prefix = Prefix(5)
    prefix.caught([5, 6])
    prefix.finished(6, Verdict.DONE)
    for offset in (4, 6, 7):
        with pytest.raises(ValueError, match="is not open"):
            prefix.finished(offset, Verdict.DONE)


def test_offsets_that_do_not_ascend_are_refused() -> None:
    prefix = Prefix(5)
    with pytest.raises(ValueError, match="after a later one"):
        prefix.caught([4])
    prefix.caught([5])
    with pytest.raises(ValueError, match="after a later one"):
        prefix.caught([5])
