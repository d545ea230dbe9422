"""Files of wrapped DEKs, rewrapped as a stream: JSON Lines or CSV, packed or not, larger than memory, resumable."""

from worker.client.files.checkpoint import Counts
from worker.client.files.errors import FileRefused, InputChanged, TooManyRejects
from worker.client.files.formats import Csv, Format, JsonLines, format_of
from worker.client.files.job import FileJob, Plan, Watcher
from worker.client.files.reading import Source
from worker.client.files.records import Fault, Record

__all__ = [
    "Counts",
    "Csv",
    "Fault",
    "FileJob",
    "FileRefused",
    "Format",
    "InputChanged",
    "JsonLines",
    "Plan",
    "Record",
    "Source",
    "TooManyRejects",
    "Watcher",
    "format_of",
]
