"""`python -m worker.local parts|up|down|status`: the stack without the rest of the product, and its parts fetched."""

import sys
from pathlib import Path

from worker.local import kryoptic, softhsm
from worker.local.java import class_path, java
from worker.local.kafka import KAFKA, LOGGING
from worker.local.parts import PartFailed, PartMissing, Say
from worker.local.postgres import programs
from worker.local.stack import Stack, default_folder


def parts(say: Say) -> None:
    """See to it that every part is on this machine; fast when they are. Only kryoptic may be left out, loudly."""
    java()
    programs()
    class_path(KAFKA, say)
    class_path(LOGGING, say)
    try:
        softhsm.module()
    except PartMissing:
        softhsm.fetch(say)
    if kryoptic.module() is None:
        try:
            kryoptic.build(say)
        except PartMissing as missing:
            if kryoptic.must_have():
                raise
            say(f"LEFT OUT: everything that is proved on the second token. {missing}")


def main(command: str, say: Say) -> None:
    """Run one command; unknown words raise KeyError."""
    stack = Stack(default_folder(), say)
    {"parts": lambda: parts(say), "up": lambda: _up(say), "down": stack.down, "status": lambda: _status(stack)}[command]()


def _up(say: Say) -> None:
    Stack.up(Path(default_folder()), say)


def _status(stack: Stack) -> None:
    for part in stack.status():
        stack.say(f"{part.name:9} {'ready' if part.ready else 'not up':7} {part.where}")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) == 2 else "status", lambda text: print(text, file=sys.stderr))  # noqa: T201
    except (PartMissing, PartFailed) as failure:
        sys.exit(str(failure))
