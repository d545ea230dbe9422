"""A customer's key becomes an L1 (SECURITY S12): opened, checked and kept inside the token, never in software."""

from __future__ import annotations

from worker.edges.hsm import templates
from worker.edges.hsm.ck import CKO_PRIVATE_KEY, CKO_SECRET_KEY, CKR_GENERAL_ERROR, CkError
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.masters import check_master
from worker.edges.hsm.pairs import public_key
from worker.edges.hsm.trial import Trial
from worker.model.hsm import (
    Fault,
    HsmFault,
    Purpose,
)
from worker.model.import_ops import (
    ImportedMaster,
    ImportMaster,
)
from worker.seal.importing import public_rsa_key

_REFUSED = HsmFault(Fault.BAD_CIPHERTEXT, "the blob is not such a key")
_UNSURE = CkError("an import", CKR_GENERAL_ERROR)


def import_master(op: ImportMaster, crew: Crew) -> ImportedMaster | HsmFault:
    """Keep the key as a token object. Raises `CkError`, `Away`.

    Whatever was wrong, it is tried twice, and the device is asked each time whether the fault was its own.
    """
    if op.serial != crew.device.info.serial:
        return HsmFault(Fault.ELSEWHERE, f"the import key {op.pair} is bound to the token {op.serial}")
    pair = next((one for one in _pairs(op, crew) if public_key(crew, one) == op.public_key), None)
    if pair is None:
        return HsmFault(Fault.INTEGRITY, f"the token has not the import key {op.pair}")
    for _ in range(2):
        done = _attempt(op, crew, pair)
        if done is not None:
            return done
        crew.confirm(_UNSURE)
    return _REFUSED


def _pairs(op: ImportMaster, crew: Crew) -> list[int]:
    return crew.find(templates.by_label(CKO_PRIVATE_KEY, op.pair.hex))


def _attempt(op: ImportMaster, crew: Crew, pair: int) -> ImportedMaster | HsmFault | None:
    """None where the blob, the check value or the canary is at fault."""
    identity = templates.key_id(op.key, op.version)
    there = crew.find(templates.by_label(CKO_SECRET_KEY, op.material.hex))
    modulus = public_rsa_key(op.public_key).key_size // 8
    session = crew.device.open_session()
    try:
        trial = Trial(session, crew.device.abilities, op.algorithm, pair, op.blob, modulus)
        trial.check(op.check_value)
        wrapper = trial.open_wrapper(identity)
        if op.canary:
            trial.check_canary(op.canary, wrapper)
        if trial.is_bad():
            return None
        canary = op.canary or trial.new_canary(wrapper)
        if not there:
            mechanisms = crew.device.abilities.mechanisms(Purpose.WRAPS_KEYS)
            there = [trial.open(templates.master(op.material.hex, identity, mechanisms))]
        for handle in there:
            trial.check_canary(canary, handle)
            if flaw := check_master(session, handle, identity):
                return HsmFault(Fault.INTEGRITY, f"token object {op.material}: {flaw}")
        if trial.is_bad():
            return HsmFault(Fault.INTEGRITY, f"token object {op.material} is another key")
        return ImportedMaster(crew.device.info.serial, canary)
    finally:
        session.close()
