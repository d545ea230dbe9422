"""How a long job goes: a bar on a terminal, else a line every few seconds; both with rate and remaining time."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from worker.cli.output import say
from worker.client.files import Counts

LINE_S = 5.0


class Meter:
    """Rates of this run: what an earlier run did counts as done, not as quick."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._before = Counts()
        self._first: int | None = None
        self.total = 0
        self.read = 0
        self.counts = Counts()

    def begin(self, total: int, counts: Counts) -> None:
        """The job begins, or goes on."""
        self._began_s = time.monotonic()
        self.total, self._before, self.counts = total, counts, counts

    def move(self, read: int, counts: Counts) -> None:
        """So much of the input is read."""
        if self._first is None:
            self._first = read if self._before.records else 0
        self.read, self.counts = read, counts

    @property
    def rate(self) -> float:
        """Records a second."""
        return (self.counts.records - self._before.records) / max(time.monotonic() - self._began_s, 1e-3)

    @property
    def left_s(self) -> float | None:
        """Seconds to the end, by the bytes read; None while nothing can be said."""
        done = self.read - (self._first or 0)
        if done <= 0:
            return None
        return (self.total - self.read) * (time.monotonic() - self._began_s) / done

    def sentence(self) -> str:
        """All of it in one line."""
        share = self.read / self.total if self.total else 1
        left = self.left_s
        ends = "" if left is None else f", about {_clock(left)} left"
        rejected = f", {self.counts.rejected:,} rejected" if self.counts.rejected else ""
        return f"{self.counts.records:,} records ({share:.0%}), {self.rate:,.0f} a second{ends}{rejected}"


class Ticker:
    """Lines on stderr."""

    def __init__(self, every_s: float = LINE_S) -> None:
        self._every_s = every_s
        self._meter = Meter()
        self._said_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        """Nothing is left to do."""

    def began(self, total: int, counts: Counts) -> None:
        """See `Watcher`."""
        self._meter.begin(total, counts)
        if counts.records:
            say(f"going on after {counts.records:,} records")

    def moved(self, read: int, counts: Counts) -> None:
        """See `Watcher`."""
        self._meter.move(read, counts)
        self._say(self._meter.sentence())

    def waits(self, why: str) -> None:
        """See `Watcher`."""
        self._say(f"waiting: {why}")

    def _say(self, text: str) -> None:
        if time.monotonic() - self._said_s >= self._every_s:
            self._said_s = time.monotonic()
            say(text)


class Bar:
    """A bar on the terminal."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=None)

    @staticmethod
    def fits() -> bool:
        """Whether there is a terminal to draw it on."""
        return sys.stderr.isatty()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *about: object) -> None:
        """Leave the bar as it is."""
        self._progress.stop()

    def began(self, total: int, counts: Counts) -> None:
        """See `Watcher`."""
        self._meter.begin(total, counts)
        self._progress.update(self._task, total=total)

    def moved(self, read: int, counts: Counts) -> None:
        """See `Watcher`."""
        self._meter.move(read, counts)
        rejected = f", {counts.rejected:,} rejected" if counts.rejected else ""
        text = f"{counts.records:,} records, {self._meter.rate:,.0f}/s{rejected}"
        self._progress.update(self._task, completed=read, description=text)

    def waits(self, why: str) -> None:
        """See `Watcher`."""
        self._progress.update(self._task, description=f"waiting: {why}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
