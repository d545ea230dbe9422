"""What a file of blobs holds, by key and version: read from the blobs' headings alone, without asking anybody."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from worker.chain import blob
from worker.client.files import Format, Record, Source

PORTION = 1000


@dataclass(slots=True)
class Census:
    """Counts. A heading is not proof: whether a blob is authentic only the token can tell."""

    versions: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    first_fault: int | None = None
    """The line of the first record that has no blob of a known format."""

    def rows(self) -> list[tuple[tuple[UUID, int], int]]:
        """By key, then version."""
        return sorted(self.versions.items())

    def add(self, record: Record) -> None:
        """Count one record."""
        if record.blob is not None:
            try:
                parsed = blob.parse(record.blob)
            except blob.BadBlob:
                self._fault(record, "the bytes are no blob of a known format")
            else:
                self.versions[parsed.key, parsed.version] += 1
        elif record.fault is not None:
            self._fault(record, record.fault.message)

    def _fault(self, record: Record, said: str) -> None:
        self.faults[said] += 1
        self.first_fault = self.first_fault or record.line


def take(path: Path, form: Format) -> Census:
    """The census of a file. Raises `FileRefused`."""
    counted = Census()
    with Source(path, form) as source:
        for portion in source.portions(PORTION):
            for record in portion.records:
                counted.add(record)
    return counted
