"""Workers that say all they can: debug logs of every library, the repr of all that flows by, and a crash on a mark."""

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from secrets import token_bytes
from typing import Any, NoReturn

from tests import member
from worker.flow import answering, river, voice
from worker.watch.logs import set_up_logs

MARK = ("x-crashes", b"1")
VOICES = "HOSTILE_VOICES"
"""A file to which the private keys of the workers' certificates go, which are nowhere but in their memory."""
log = logging.getLogger(__name__)


class Crash(Exception):
    """An error that nobody handles."""


def plain(env: Mapping[str, str], log_file: str, words: list[str]) -> None:
    """Without any redaction; a marked request crashes it with plaintext DEKs in its hands."""
    answer = answering.Answering.answer

    def crash(self: Any, plan: Any, outcomes: Any) -> Any:  # noqa: ANN401 - passed on as it came
        if MARK in plan.request.record.headers:
            _crash(plan, outcomes)
        return answer(self, plan, outcomes)

    vars(answering)["Answering"].answer = crash
    _talk(log_all)
    member.born(env, log_file, words)


def redacting(env: Mapping[str, str], log_file: str, words: list[str]) -> None:
    """As `keyriver run` logs, at its most talkative."""
    _talk(lambda: set_up_logs("debug"))
    member.born(env, log_file, words)


def leaking(env: Mapping[str, str], log_file: str, words: list[str]) -> None:
    """Dies at once, with a secret in its last words: what the search must find."""

    async def run(*_: object) -> None:
        await asyncio.sleep(0)
        raise Crash(os.environ["HOSTILE_SECRET"])

    vars(member)["run"] = run
    member.born(env, log_file, words)


def _crash(*hands: object) -> NoReturn:
    """The interpreter's traceback with the repr of all that was in hands, then an abort as by a native library."""
    faulthandler.enable()
    try:
        raise Crash(*map(repr, hands))  # noqa: TRY301 - with a frame that held them
    except Crash:
        sys.excepthook(*sys.exc_info())
    os.abort()


def log_all() -> None:
    """Every logger at debug, as it is."""
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger("aiokafka").setLevel(logging.DEBUG)


def _talk(set_up: Callable[[], None]) -> None:
    run: Callable[..., Awaitable[None]] = member.run
    settle: Callable[..., Awaitable[Any]] = river.River._settle

    async def running(*words: object) -> None:
        set_up()
        await run(*words)

    async def settling(self: object, concluded: object) -> object:
        log.debug("settling %r", concluded)
        return await settle(self, concluded)

    def drawn(size: int) -> bytes:
        value = token_bytes(size)
        with Path(os.environ[VOICES]).open("ab") as file:
            file.write(value)
        return value

    vars(member)["run"] = running
    vars(river)["River"]._settle = settling
    vars(voice)["token_bytes"] = drawn
