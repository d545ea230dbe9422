"""UUIDv7 by the RFC's layout, and ids that follow from a request."""

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from worker.model.ids import NO_ID, derived_id, uuid7

TIMES = st.integers(0, 2**48 - 1)
BITS = st.integers(0, 2**74 - 1)


def test_the_rfcs_example() -> None:
    """RFC 9562, appendix A.6."""
    example = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    assert uuid7(0x017F22E279B0, 0xCC3 << 62 | 0x18C4DC0C0C07398F) == example


@given(TIMES, BITS)
def test_time_version_variant_and_bits_stand_where_they_must(unix_ms: int, bits: int) -> None:
    made = uuid7(unix_ms, bits)
    assert (made.version, made.variant, made.int >> 80) == (7, RFC_4122, unix_ms)
    assert ((made.int >> 64) & 0xFFF) << 62 | made.int & (2**62 - 1) == bits
    assert uuid7(unix_ms + 2**48, bits + 2**74) == made


@given(st.tuples(TIMES, BITS), st.tuples(TIMES, BITS))
def test_ids_sort_by_time(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (uuid7(*one) < uuid7(*other)) is (one < other)


def test_no_id_is_not_one_of_ours() -> None:
    assert NO_ID.bytes == bytes(16)
    assert uuid7(0, 0) != NO_ID


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_derived_ids_are_the_same_for_the_same_parts_only(one: list[str], other: list[str]) -> None:
    assert (derived_id(5, *one) == derived_id(5, *other)) is (one == other)


def test_derived_ids_carry_their_time_and_keep_their_bytes_for_ever() -> None:
    made = derived_id(0x017F22E279B0, "acme", "ann", "/cli", "r1", "key")
    assert made == UUID("017f22e2-79b0-7996-b95c-fa2ae7d2d6e8")
    assert derived_id(0x017F22E279B1, "acme", "ann", "/cli", "r1", "key").int & (2**80 - 1) == made.int & (2**80 - 1)
