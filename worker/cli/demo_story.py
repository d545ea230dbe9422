"""What a person sees of the demo: numbered steps, the commands as they would be typed, progress, one table."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

QUIET_S = 2.0
"""Without a terminal, progress is a line in so many seconds."""


class Story:
    """Everything goes to stdout; where that is no terminal, as plain lines without cursor movement."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._steps = 0

    def step(self, title: str) -> None:
        """The next numbered part."""
        self._steps += 1
        self._console.print(f"\n{self._steps}  {title}", style="bold")

    def tell(self, text: str, style: str = "") -> None:
        """Sentences, indented below their step."""
        for line in text.splitlines():
            self._console.print(f"   {line}", style=style)

    def say(self, text: str, style: str = "") -> None:
        """A sentence that belongs to no step."""
        self._console.print(f"\n{text}", style=style)

    def typed(self, line: str) -> None:
        """A command that is being carried out, as it would be typed."""
        self.tell(f"$ {line}", "cyan")

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Something that takes seconds: a spinner on a terminal, and afterwards how long it took."""
        begun = monotonic()
        if not self._console.is_terminal:
            self.tell(f"{text} …")
        with self._console.status(f"{text} …"):
            yield
        self.tell(f"{monotonic() - begun:.1f} s", "dim")

    @contextmanager
    def progress(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """Counts up: yields what to call for each of `total`."""
        done = count(1)
        with self.bar(text, total) as reach:
            yield lambda: reach(next(done))

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Shows how far something is: yields what to call with how much of `total` is done."""
        if not self._console.is_terminal:
            yield self._lines(text, total)
            return
        columns = TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=self._console) as bars:
            bar = bars.add_task(text, total=total)
            yield lambda done: bars.update(bar, completed=done)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Figures, the first column their names."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
        for place, head in enumerate(heads):
            table.add_column(head, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row)
        self._console.print()
        self._console.print(table)

    def _lines(self, text: str, total: int) -> Callable[[int], None]:
        told = monotonic()

        def reach(done: int) -> None:
            nonlocal told
            if monotonic() - told > QUIET_S:
                told = monotonic()
                self.tell(f"{text}: {done:,} of {total:,} …")

        return reach
