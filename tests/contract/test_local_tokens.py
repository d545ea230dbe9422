"""Both tokens of the one-machine stack: initialised without a PIN on a command line, apart from each other, lasting."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.local import PartFailed, Token, softhsm
from worker.local.token import _Module

STORE = "s.generate_key(KeyType.AES, 128, label='mark', store=True)"
LOOK = "print(len(list(s.get_objects({Attribute.LABEL: 'mark'}))))"
PROGRAM = """
import pathlib, sys
from pkcs11 import Attribute, KeyType, lib
pin = pathlib.Path(sys.argv[2]).read_text()
with lib(sys.argv[1]).get_token(token_label='keyriver').open(user_pin=pin, rw=True) as s:
    {}
"""


def in_another_process(token: Token, action: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(action), str(token.module), str(token.pin_file)],
        env=os.environ | token.env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_key_made_in_one_process_is_found_in_another(token: Token) -> None:
    before = int(in_another_process(token, LOOK))
    in_another_process(token, STORE)
    assert int(in_another_process(token, LOOK)) == before + 1


def test_the_pristine_copy_comes_back(token: Token) -> None:
    token.keep_pristine()
    before = in_another_process(token, LOOK)
    in_another_process(token, STORE)
    token.restore_pristine()
    assert in_another_process(token, LOOK) == before


def test_two_tokens_in_one_process_are_apart(softhsm: Token, kryoptic: Token) -> None:
    for token in (softhsm, kryoptic):
        module = _Module(str(token.module))
        module.call(0, None)
        labels = [module.label(slot) for slot in module.slots(with_token=True)]
        module.call(1, None)
        assert labels.count(b"keyriver") == 1


def test_an_initialised_token_is_kept(softhsm: Token) -> None:
    pin = softhsm.pin_file.read_bytes()
    again = softhsm_again(softhsm)
    assert again.pin_file.read_bytes() == pin


def softhsm_again(token: Token) -> Token:
    return softhsm.token(token.folder, module_file=token.module)


def test_a_token_that_broke_off_half_way_is_made_anew(tmp_path: Path) -> None:
    token = softhsm.token(tmp_path / "token")
    (token.folder / "initialised").unlink()
    again = softhsm.token(tmp_path / "token")
    assert again.exists()
    assert in_another_process(again, LOOK) == "0"


def test_a_module_that_is_none_is_refused_with_its_last_words(tmp_path: Path) -> None:
    nothing = tmp_path / "libnothing.so"
    nothing.write_bytes(b"not a library")
    with pytest.raises(PartFailed, match="could not be initialised"):
        softhsm.token(tmp_path / "token", module_file=nothing)
