"""What a command prints: results on stdout (text or JSON), everything else on stderr."""

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import BaseModel
from rich.console import Console

QUIET_S = 2.0
"""What takes longer says that it is at work."""
_errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def say(text: str) -> None:
    """Progress or advice, on stderr."""
    _errors.print(text)


def complain(text: str) -> None:
    """Why the command failed, on stderr."""
    _errors.print(f"keyriver: {text}", style="red")


def show(text: str) -> None:
    """A result, on stdout."""
    print(text)


def show_json(data: BaseModel | Sequence[object] | dict[str, object]) -> None:
    """A result for programs, on stdout."""
    plain = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
    print(json.dumps(plain, indent=2, default=_encoded))


def show_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be, never cut: what is printed can be copied and grepped."""
    cells = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def working(text: str) -> Iterator[None]:
    """Say what is being done: a spinner on a terminal, else one line if it takes longer than two seconds."""
    if sys.stderr.isatty():
        with _errors.status(text):
            yield
        return
    timer = threading.Timer(QUIET_S, say, [f"{text} …"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _encoded(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
