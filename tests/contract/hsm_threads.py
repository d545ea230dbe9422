"""Two threads on two sessions, in a process of their own because the fault looked for is a crash.

`python -m tests.contract.hsm_threads MODULE LABEL PIN_FILE`; exit status 0 when every call was right.
"""

import sys
from pathlib import Path
from threading import Thread

from worker.edges.hsm import templates
from worker.edges.hsm.binding import Library
from worker.edges.hsm.ck import CKM_AES_KEY_GEN
from worker.edges.hsm.session import Session
from worker.model.hsm import Purpose

ROUNDS = 1000
NONCE, AAD, TEXT = bytes(12), b"aad", b"text"


def rounds(session: Session, finished: list[bool]) -> None:
    """Make a key, use it, destroy it, again and again."""
    for _ in range(ROUNDS):
        key = session.generate(CKM_AES_KEY_GEN, templates.kek(Purpose.WRAPS_DEKS, bytes(20), ()))
        if session.decrypt(key, NONCE, AAD, session.encrypt(key, NONCE, AAD, TEXT)) != TEXT:
            return
        session.destroy(key)
    finished.append(True)


def main(module: str, label: str, pin_file: str) -> bool:
    """Whether both threads came to their end."""
    library = Library(Path(module))
    library.initialize()
    [slot] = [token.slot for token in library.tokens() if token.label == label]
    anchor = Session(library, slot)
    anchor.login(Path(pin_file).read_text().strip().encode())
    finished: list[bool] = []
    threads = [Thread(target=rounds, args=(Session(library, slot), finished)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    library.finalize()
    return len(finished) == len(threads)


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
