"""What the river is measured against, taken in the same run: the bare cryptography, and a plain python-pkcs11 loop."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from time import process_time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.hsm import BATCH, plain_key, plain_loop
from worker.local import Token
from worker.model.rows import Suite
from worker.seal.hpke import generate_keypair, seal

ROUNDS = 10


def _best(call: Callable[[], object], count: int) -> float:
    """CPU seconds per operation, of the quickest round."""
    rounds = []
    for _ in range(ROUNDS):
        began = process_time()
        call()
        rounds.append((process_time() - began) / count)
    return min(rounds)


def public_key_rate(count: int = 100) -> float:
    """Requests a second that one core could do of the unavoidable public-key work: verify, sign, seal."""
    key, message = Ed25519PrivateKey.generate(), os.urandom(300)
    public, signature = key.public_key(), key.sign(message)
    pair = generate_keypair(Suite.X25519)

    def work() -> None:
        for _ in range(count):
            public.verify(signature, message)
            key.sign(message)
            seal(Suite.X25519, pair.public, message, message[:33])

    return 1 / _best(work, count)


def plain_rewrap_rate(folder: Path, token: Token, *, compare: bool) -> float:
    """Rewraps a second of the bare token: decrypt, encrypt, and to `compare` decrypt again, in python-pkcs11."""
    key = plain_key(Path(shutil.copy(token.module, folder / f"plain-{compare}.so")), token)
    encrypt, decrypt = plain_loop(key)

    def rewrap() -> None:
        decrypt()
        encrypt()
        if compare:
            decrypt()

    return 1 / _best(rewrap, BATCH)


def plain_encrypt_rate(folder: Path, token: Token) -> float:
    """Encryptions a second of a plain python-pkcs11 AES-GCM loop on one core."""
    encrypt, _ = plain_loop(plain_key(Path(shutil.copy(token.module, folder / "plain.so")), token))
    return 1 / _best(encrypt, BATCH)
