"""`keyriver rewrap` that ends or stops itself in the middle: `python -m tests.stories.doomed_job SIGNAL AT WORD…`.

AT is how far it comes: bytes of the unfinished output, or records that were sent to a topic. So no test has to be quick
enough to catch it in the middle.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from worker import cli
from worker.client.files.unfinished import Unfinished
from worker.client.topic_edge import Writer
from worker.model.records import Entry


def of_files(fate: Callable[[], None], at: int) -> None:
    """After the portion, or the mark, that made the output so long."""

    def dooming(step: Callable[..., None]) -> Callable[..., None]:
        def doomed(output: Any, *words: object, **more: object) -> None:  # noqa: ANN401 - passed on as it came
            step(output, *words, **more)
            if os.fstat(output._file.fileno()).st_size >= at:
                fate()

        return doomed

    for name in ("put", "mark"):
        setattr(Unfinished, name, dooming(vars(Unfinished)[name]))


def of_topics(fate: Callable[[], None], at: int) -> None:
    """In the transaction that brings the records to this number; if it is odd, before the transaction after that."""
    sent, put, count = Writer._sent, Writer.put, 0

    async def doomed(writer: Writer, entries: Sequence[Entry]) -> None:
        nonlocal count
        await sent(writer, entries)
        count += len(entries)
        if count >= at and at % 2 == 0:
            fate()

    async def begun(writer: Writer, entries: Sequence[Entry]) -> None:
        if count >= at:
            fate()
        await put(writer, entries)

    vars(sys.modules[Writer.__module__])["Writer"]._sent = doomed
    vars(sys.modules[Writer.__module__])["Writer"].put = begun


def main(sign: str, at: str, *words: str) -> None:
    """Go on as the command does, until then."""
    number = signal.Signals[sign]

    def fate() -> None:
        os.kill(os.getpid(), number)

    of_files(fate, int(at))
    of_topics(fate, int(at))
    sys.argv = ["keyriver", *words]
    cli.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
