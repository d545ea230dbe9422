"""`python -m worker.local parts|up|down|status|token`: the stack without the rest of the product.

`parts` fetches what is missing; `token` makes the SoftHSM2 token alone (a container has its services elsewhere).
"""

import sys

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
    """Run one command."""
    stack = Stack(default_folder(), say)
    match command:
        case "parts":
            parts(say)
        case "up":
            Stack.up(stack.folder, say)
        case "down":
            stack.down()
        case "token":
            softhsm.token(stack.token_folder)
        case "status":
            for part in stack.status():
                say(f"{part.name:9} {'ready' if part.ready else 'not up':7} {part.where}")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(" ".join(sys.argv[1:]), lambda text: print(text, file=sys.stderr))
    except (PartMissing, PartFailed) as failure:
        sys.exit(str(failure))
