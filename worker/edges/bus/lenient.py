"""Records whose header names are not UTF-8: brokers take them, aiokafka raises at them, at every fetch, for ever.

Anybody who may write a topic could stop a partition with one such record (S9). So a batch that aiokafka can't decode
is read again by its pure Python reader, with names escaped instead of refused; what it is worth is `open`'s to say.
"""

from collections.abc import Iterator
from itertools import islice
from typing import SupportsIndex, cast, overload

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

_NEW_FORMAT = 2


class _Escaping(bytearray):
    """Bytes whose slices decode to text whatever they hold."""

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> "_Escaping": ...
    def __getitem__(self, key: SupportsIndex | slice) -> "int | _Escaping":
        if isinstance(key, slice):
            return _Escaping(super().__getitem__(key))
        return super().__getitem__(key)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - never strict
        return bytes(self).decode(encoding, "backslashreplace")


class _Batch:
    """A batch of aiokafka's, and its bytes to read it again."""

    def __init__(self, batch: object, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> object:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[object]:
        read = 0
        try:
            for record in cast(Iterator[object], self._batch):
                yield record
                read += 1
        except (UnicodeDecodeError, CorruptRecordException):
            yield from islice(self._again(), read, None)

    def _again(self) -> Iterator[object]:
        batch = _DefaultRecordBatchPy(self._raw)
        batch._maybe_uncompress()  # noqa: SLF001 - aiokafka is pinned, and a test holds this
        batch._buffer = _Escaping(batch._buffer)  # noqa: SLF001
        return cast(Iterator[object], iter(batch))


class LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka is untyped
    """What a fetch brought, batch by batch; the batches themselves stay aiokafka's fast ones."""

    def next_batch(self) -> object:
        """The next batch, or None."""
        raw = self._next_slice
        batch = super().next_batch()
        return batch if batch is None or batch.magic < _NEW_FORMAT else _Batch(batch, raw)


def install() -> None:
    """Let every consumer of this process read with it."""
    fetcher.MemoryRecords = LenientRecords
