import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.seal.errors import BadSeal
from worker.seal.hpke import pack_slots, unpack_slots


@given(st.lists(st.binary(max_size=255), max_size=20))
def test_slots_come_back_in_order_and_empty_ones_stay_empty(deks: list[bytes]) -> None:
    assert unpack_slots(pack_slots(deks), len(deks)) == deks


@given(st.binary(max_size=40), st.integers(0, 8))
def test_what_unpacks_packs_to_the_same_bytes(packed: bytes, count: int) -> None:
    try:
        deks = unpack_slots(packed, count)
    except BadSeal:
        return
    assert len(deks) == count
    assert pack_slots(deks) == packed


@pytest.mark.parametrize("packed", [b"", b"\x01a", b"\x01a\x01b\x01c", b"\x01a\x02b", b"\x01a\x01", b"\x01a\x01b\x00"])
def test_another_number_or_a_cut_slot_is_refused(packed: bytes) -> None:
    with pytest.raises(BadSeal):
        unpack_slots(packed, 2)


def test_a_slot_has_one_byte_of_length() -> None:
    with pytest.raises(ValueError, match="255"):
        pack_slots([bytes(256)])
