"""Records that stop aiokafka: header names that are not UTF-8, and headers by the hundred thousand.

Anybody who may write a topic could stop a partition with one such record (S9): aiokafka raises at such a name at every
fetch, for ever, and a few million headers take longer than a session lasts. So a batch that aiokafka can't decode is
read again here, with names escaped instead of refused, and of a record with too many headers only their number is
kept. What it is worth is `open`'s to say.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint

Pairs = list[tuple[str, bytes | None]]

_NEW_FORMAT = 2
MAX_HEADERS = 1024
"""Of one record. Clients send some twenty."""
_BY_HAND = 16 * MAX_HEADERS
"""Headers of one batch that are read in Python, at 2 µs each."""


def crowd(count: int) -> Pairs:
    """What stands for too many headers; they stay in their topic until retention."""
    return [("keyriver-headers-left-out", str(count).encode())]


def _read_again(raw: memoryview) -> Iterator[object]:
    """The records of a batch that aiokafka refuses (KIP-98, "Message Format")."""
    batch = _DefaultRecordBatchPy(raw)
    batch._maybe_uncompress()  # noqa: SLF001 - aiokafka is pinned, and a test holds this
    buffer, pos, left = bytes(batch._buffer), batch._pos, _BY_HAND  # noqa: SLF001
    appended = batch.timestamp_type == batch.LOG_APPEND_TIME
    for _ in range(batch._num_records):  # noqa: SLF001
        length, pos = decode_varint(buffer, pos)
        end = pos + length
        _, pos = decode_varint(buffer, pos)
        later, pos = decode_varint(buffer, pos)
        further, pos = decode_varint(buffer, pos)
        key, pos = _bytes(buffer, pos)
        value, pos = _bytes(buffer, pos)
        count, pos = decode_varint(buffer, pos)
        headers = crowd(count) if count > min(MAX_HEADERS, left) else _headers(buffer, pos, count)
        left -= len(headers)
        timestamp = batch.max_timestamp if appended else batch.first_timestamp + later
        yield _DefaultRecordPy(batch.base_offset + further, timestamp, batch.timestamp_type, key, value, headers)
        pos = end


def _bytes(buffer: bytes, pos: int) -> tuple[bytes | None, int]:
    length, pos = decode_varint(buffer, pos)
    return (None, pos) if length < 0 else (buffer[pos : pos + length], pos + length)


def _headers(buffer: bytes, pos: int, count: int) -> Pairs:
    headers: Pairs = []
    for _ in range(count):
        name, pos = _bytes(buffer, pos)
        value, pos = _bytes(buffer, pos)
        headers.append(((name or b"").decode("utf-8", "backslashreplace"), value))
    return headers


class _Batch:
    """A batch of aiokafka's, and its bytes to read it again."""

    def __init__(self, batch: object, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw
        self._records = self._read()

    def __getattr__(self, name: str) -> object:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[object]:
        return self._records

    def __next__(self) -> object:
        """Aiokafka takes the marker at a transaction's end so."""
        return next(self._records)

    def _read(self) -> Iterator[object]:
        read = 0
        try:
            for record in cast(Iterator[Any], self._batch):
                yield record
                read += 1
        except (UnicodeDecodeError, CorruptRecordException):
            yield from islice(_read_again(self._raw), read, None)


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
