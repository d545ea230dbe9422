"""The HSM batch stage against a plain python-pkcs11 loop and the C ceiling; the pool on a slow token against C.

`python -m bench.hsm`. The C parts are left out, loudly, where there is no compiler.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from uuid import uuid4

import pkcs11

from bench.report import Figure, figure, report
from worker.chain import payload
from worker.edges.hsm import HsmConfig, Pin, Token, open_token
from worker.local import Token as LocalToken
from worker.local import softhsm
from worker.model.hsm import (
    CreatedKey,
    CreateKey,
    CreateMaster,
    HsmOp,
    Kek,
    Purpose,
    UnwrapDek,
    WrapDek,
    WrappedDek,
    Wrapping,
)

BATCH, ROUNDS, DELAY_US, C_SECONDS = 256, 40, 1000, 1.0
AAD, DIGEST, DEK_BYTES = bytes(64), sha256(b"").digest(), 32
TEXT = payload.pack(bytes(DEK_BYTES), DIGEST)
HERE = Path(__file__).parent
SHIM_SOURCE, CEILING_SOURCE = HERE.parent / "tests/shim/shim.c", HERE / "c_ceiling.c"


def compiled(folder: Path) -> tuple[Path, Path] | None:
    """The shim and the C ceiling; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        print("LEFT OUT, no C compiler: the C ceiling and the slow token")
        return None
    shim, ceiling = folder / "shim.so", folder / "ceiling"
    shared = "-shared", "-fPIC", "-fvisibility=hidden"
    subprocess.run([compiler, "-O2", *shared, "-o", shim, SHIM_SOURCE, "-ldl", "-lpthread"], check=True)
    subprocess.run([compiler, "-O2", "-o", ceiling, CEILING_SOURCE, "-ldl", "-lpthread"], check=True)
    return shim, ceiling


def c_rate(ceiling: Path, module: Path, token: LocalToken, threads: int) -> float:
    """Encryptions a second of a C loop with so many threads."""
    sizes = [str(threads), str(C_SECONDS), str(len(TEXT)), str(len(AAD))]
    run = [str(ceiling), str(module), token.label, *sizes]
    return float(subprocess.run(run, input=token.pin_file.read_bytes(), capture_output=True, check=True).stdout)


async def opened(module: Path, token: LocalToken, sessions: int) -> tuple[Token, Kek]:
    """An open token and a KEK of the third layer."""
    pin = Pin(token.pin_file.read_text().strip())
    config = HsmConfig(module=module, fleet="dev-bench", pin=pin, label=token.label, sessions=sessions)
    made = await open_token(config, create_fleet_keys=True)
    key, material = uuid4(), uuid4()
    await made.hsm.run([CreateMaster(key, 1, material)], 30)
    kek = Kek(key, 1, 1, Purpose.WRAPS_KEYS, Wrapping.TOKEN, material=material, serial=made.serial)
    for purpose in (Purpose.WRAPS_KEYS, Purpose.WRAPS_DEKS):
        key = uuid4()
        [created] = await made.hsm.run([CreateKey(kek, key, 1, purpose)], 30)
        assert isinstance(created, CreatedKey), created
        kek = Kek(key, 1, 1, purpose, created.wrapping, created.wrapped, kek)
    return made, kek


def plain_key(module: Path, token: LocalToken) -> Any:  # noqa: ANN401 - python-pkcs11 types its keys loosely
    """An AES session key of python-pkcs11, which initialises its own copy of the module."""
    session = (
        pkcs11.lib(str(module))
        .get_token(token_label=token.label)
        .open(user_pin=token.pin_file.read_text().strip(), rw=True)
    )
    return session.generate_key(pkcs11.KeyType.AES, 256, store=False)


def plain_loop(key: Any) -> tuple[Callable[[], None], Callable[[], None]]:  # noqa: ANN401
    """The rival: encrypt, and decrypt, one by one; nonces and payloads stand ready."""
    nonces = [os.urandom(12) for _ in range(BATCH)]
    gcm, parameters = pkcs11.Mechanism.AES_GCM, pkcs11.GCMParams
    sealed = [key.encrypt(TEXT, mechanism=gcm, mechanism_param=parameters(nonce, AAD)) for nonce in nonces]

    def encrypt() -> None:
        for nonce in nonces:
            key.encrypt(TEXT, mechanism=gcm, mechanism_param=parameters(nonce, AAD))

    def decrypt() -> None:
        for nonce, text in zip(nonces, sealed, strict=True):
            key.decrypt(text, mechanism=gcm, mechanism_param=parameters(nonce, AAD))

    return encrypt, decrypt


def timed(call: Callable[[], None]) -> float:
    """Microseconds per operation of one batch."""
    began = perf_counter()
    call()
    return (perf_counter() - began) / BATCH * 1e6


async def timed_run(call: Callable[[], Awaitable[object]]) -> float:
    """The same for a coroutine."""
    began = perf_counter()
    await call()
    return (perf_counter() - began) / BATCH * 1e6


async def batch_stage(folder: Path, token: LocalToken, ceiling: Path | None) -> list[Figure]:
    """Wrap (the draw of DEKs and nonces included) and unwrap at batch 256, rounds interleaved with the rival's."""
    made, kek = await opened(token.module, token, 1)
    wraps: list[HsmOp] = [WrapDek(kek, AAD, DIGEST, DEK_BYTES)] * BATCH
    wrapped = [one for one in await made.hsm.run(wraps, 30) if isinstance(one, WrappedDek)]
    unwraps: list[HsmOp] = [UnwrapDek(kek, AAD, one.nonce, one.ciphertext) for one in wrapped]
    assert len(unwraps) == BATCH
    encrypt, decrypt = plain_loop(plain_key(Path(shutil.copy(token.module, folder / "plain.so")), token))
    ours_wrap, ours_unwrap, plain_encrypt, plain_decrypt = [], [], [], []
    for _ in range(ROUNDS):
        ours_wrap.append(await timed_run(lambda: made.hsm.run(wraps, 30)))
        plain_encrypt.append(timed(encrypt))
        ours_unwrap.append(await timed_run(lambda: made.hsm.run(unwraps, 30)))
        plain_decrypt.append(timed(decrypt))
    await made.close()
    # The quickest round of each: what a loaded machine adds to a round says nothing about either.
    wrap, unwrap, encrypt_us, decrypt_us = map(min, (ours_wrap, ours_unwrap, plain_encrypt, plain_decrypt))
    figures = [
        figure("hsm wrap stage, batch 256", wrap, "µs/op", "plain python-pkcs11 encrypt loop", encrypt_us),
        figure("hsm unwrap stage, batch 256", unwrap, "µs/op", "plain python-pkcs11 decrypt loop", decrypt_us),
    ]
    if ceiling:
        c = 1e6 / max(c_rate(ceiling, token.module, token, 1) for _ in range(3))
        figures.append(figure("hsm wrap stage, batch 256", wrap, "µs/op", "C encrypt loop", c))
        figures.append(figure("plain python-pkcs11 encrypt loop", encrypt_us, "µs/op", "C encrypt loop", c))
    return figures


async def slow_token(shim: Path, ceiling: Path, token: LocalToken) -> list[Figure]:
    """Operations a second with 1 ms in every crypto call, on 1, 4 and 16 sessions, against C with as many threads."""
    os.environ |= {"SHIM_MODULE": str(token.module), "SHIM_DELAY_US": str(DELAY_US)}
    figures = []
    for sessions in (1, 4, 16):
        made, kek = await opened(shim, token, sessions)
        rates, rivals = [], []
        for _ in range(3):
            rates.append(await pool_rate(made, kek, sessions))
            rivals.append(c_rate(ceiling, shim, token, sessions))
        await made.close()
        name, against = f"hsm wraps, 1 ms a call, {sessions} sessions", f"C, {sessions} threads"
        figures.append(figure(name, median(rates), "ops/s", against, median(rivals)))
    return figures


async def pool_rate(made: Token, kek: Kek, batches: int) -> float:
    """Wraps a second of so many batches of 1,000 at once."""
    ops: list[HsmOp] = [WrapDek(kek, AAD, DIGEST, DEK_BYTES)] * 1000
    began = perf_counter()
    done = await asyncio.gather(*(made.hsm.run(ops, 60) for _ in range(batches)))
    rate = batches * len(ops) / (perf_counter() - began)
    assert all(isinstance(one, WrappedDek) for batch in done for one in batch)
    return rate


async def run() -> list[Figure]:
    """All figures of the HSM edge."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        token = softhsm.token(folder / "token")
        os.environ |= token.env
        parts = compiled(folder)
        figures = await batch_stage(folder, token, parts[1] if parts else None)
        if parts:
            figures += await slow_token(*parts, token)
        return figures


def main() -> list[Figure]:
    """Print the table and write the figures."""
    return report(asyncio.run(run()))


if __name__ == "__main__":
    main()
