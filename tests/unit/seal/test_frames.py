from hypothesis import given
from hypothesis import strategies as st

from worker.seal.frames import framed


def test_each_part_is_prefixed_with_its_length() -> None:
    assert framed(b"ab", b"", b"c").hex() == "000000026162000000000000000163"
    assert framed() == b""


@given(st.lists(st.binary(max_size=6)), st.lists(st.binary(max_size=6)))
def test_other_parts_never_give_the_same_bytes(one: list[bytes], other: list[bytes]) -> None:
    assert (framed(*one) == framed(*other)) == (one == other)
