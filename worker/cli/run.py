"""`keyriver run`: the workers of one machine."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Annotated, Any, TypeVar

from cyclopts import App, Parameter

from worker.cli.body import chosen
from worker.cli.config import load
from worker.cli.errors import FOR_GOOD, plain
from worker.cli.process import serve
from worker.cli.supervisor import REFUSED, Post, Supervisor, posts
from worker.model.topics import Lane
from worker.settings import Settings
from worker.watch import set_up_logs

T = TypeVar("T")
log = logging.getLogger(__name__)
run = App(name="run", help_format="markdown")
Count = Annotated[int, Parameter(validator=lambda _type, value: _check_count(value))]
Hidden = Parameter(show=False)


@run.default
def begin(
    *,
    processes: Count = 1,
    lanes: str = "",
    index: Annotated[int, Hidden] = 0,
    supervised: Annotated[bool, Hidden] = False,
) -> int:
    """Run workers until SIGTERM or Ctrl-C, then drain: what was begun is finished, answered and committed.

    Without `--lanes` it starts so many processes for the control and interactive lanes, and one for bulk; those that
    die are started again. With `--lanes` it is one worker, in this very process: for a container of its own.

    ```
    keyriver run                                  # one worker, one bulk worker
    keyriver run --processes 4
    keyriver run --lanes control,interactive      # one process
    ```

    /livez, /readyz and /metrics are on `http_port` (0: none), of further processes on the ports after it; bulk is last.

    Args:
        processes: For control and interactive.
        lanes: Comma-separated: control, interactive, bulk.
    """
    wanted = chosen(lanes, Lane, "--lanes") if lanes else ()
    settings = load(Settings)
    set_up_logs(settings.log_level)
    if wanted:
        code = _worker(serve(settings, wanted, index, supervised=supervised))
        return code if supervised else min(code, 1)
    return asyncio.run(_supervise(processes))


def _worker(work: Coroutine[Any, Any, None]) -> int:
    try:
        _loop(work)
    except Exception as error:
        text = plain(error)
        if text is None:
            log.exception("the worker failed")
            return 1
        log.error("the worker can't go on: %s", text)  # noqa: TRY400 - a plain sentence is all there is to say
        return REFUSED if isinstance(error, FOR_GOOD) else 1
    return 0


def _loop(work: Coroutine[Any, Any, T]) -> T:
    if find_spec("uvloop") is None:
        return asyncio.run(work)
    import uvloop  # noqa: PLC0415 - there is none on some systems

    return uvloop.run(work)


async def _supervise(processes: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clean = await Supervisor(posts(processes), _command).run(stop)
    return 0 if clean else 1


def _command(post: Post) -> list[str]:
    lanes = ",".join(post.lanes)
    return [sys.executable, "-m", "worker", "run", "--lanes", lanes, "--index", str(post.index), "--supervised"]


def _check_count(value: int) -> None:
    if not 1 <= value <= 256:  # noqa: PLR2004
        raise ValueError("from 1 to 256")
