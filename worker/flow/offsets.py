"""Which offset of a partition may be committed: records finish out of order, and no unfinished one may be passed.

Pure. One `Prefix` lives as long as one assignment epoch of one partition.
"""

from collections import deque
from collections.abc import Iterable

from worker.model.records import Verdict


class Prefix:
    """The contiguous finished prefix of the records that were caught, in the order of their offsets.

    Offsets may have gaps (compaction, control records): what counts is the order in which they were caught.
    """

    __slots__ = ("_finished", "_open", "_order", "next_offset")

    def __init__(self, next_offset: int) -> None:
        self.next_offset = next_offset
        """What may be committed: the next offset to read."""
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._finished: dict[int, Verdict] = {}

    @property
    def is_idle(self) -> bool:
        """Whether all that was caught is finished."""
        return not self._order

    @property
    def open_records(self) -> int:
        """How many were caught and are not finished."""
        return len(self._open)

    def caught(self, offsets: Iterable[int]) -> None:
        """Note records as begun. Raises `ValueError` unless offsets ascend: a lower one is a seek that nobody told."""
        for offset in offsets:
            if offset < (self._order[-1] + 1 if self._order else self.next_offset):
                raise ValueError(f"offset {offset} was caught after a later one")
            self._order.append(offset)
            self._open.add(offset)

    def finished(self, offset: int, verdict: Verdict) -> None:
        """Note one record as finished. Raises `ValueError` for one that is not open."""
        if offset not in self._open:
            raise ValueError(f"offset {offset} is not open")
        self._open.remove(offset)
        self._finished[offset] = verdict

    def advance(self) -> list[Verdict]:
        """Move over what is finished; the verdicts that were passed, in the order of offsets."""
        passed = []
        while self._order and self._order[0] in self._finished:
            offset = self._order.popleft()
            passed.append(self._finished.pop(offset))
            self.next_offset = offset + 1
        return passed
