"""L1: token objects, made once per label and found by it, their attributes checked before use."""

from __future__ import annotations

from time import monotonic
from typing import Final

from worker.edges.hsm import templates
from worker.edges.hsm.ck import (
    CKA_DECRYPT,
    CKA_ENCRYPT,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_SENSITIVE,
    CKM_AES_KEY_GEN,
    CKO_SECRET_KEY,
)
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.locks import module_lock
from worker.edges.hsm.session import Session
from worker.model.hsm import CreatedMaster, CreateMaster, DestroyedMaster, DestroyMaster, Fault, HsmFault, Purpose

_MUST_BE: Final = {CKA_SENSITIVE: b"\1", CKA_EXTRACTABLE: b"\0", CKA_ENCRYPT: b"\0", CKA_DECRYPT: b"\0"}


def check_master(session: Session, handle: int, identity: bytes) -> str:
    """What is wrong with a token object that should be an L1; empty when nothing is. Raises `CkError`."""
    if session.attribute(handle, CKA_ID) != identity:
        return "CKA_ID is another key's"
    for number, value in _MUST_BE.items():
        if session.attribute(handle, number) != value:
            return f"attribute {number:#x} is not as it was made"
    return ""


def create_master(op: CreateMaster, crew: Crew, deadline: float) -> CreatedMaster | HsmFault:
    """Make the object unless one with this label is there. Raises `CkError`.

    Creators on one machine exclude each other by the module's lock. On a network HSM two machines may still make twins;
    neither is ever destroyed for that (it may have wrapped something by then): whoever unwraps tries all of them.
    """
    with module_lock(crew.device.module, max(0.0, deadline - monotonic())) as locked:
        if not locked:
            return HsmFault(Fault.UNAVAILABLE, "another process is creating a token object")
        label, identity = op.material.hex, templates.key_id(op.key, op.version)
        there = crew.find(templates.by_label(CKO_SECRET_KEY, label))
        if not there:
            mechanisms = crew.device.abilities.mechanisms(Purpose.WRAPS_KEYS)
            crew.session.generate(CKM_AES_KEY_GEN, templates.master(label, identity, mechanisms))
        for handle in there:
            if flaw := check_master(crew.session, handle, identity):
                return HsmFault(Fault.INTEGRITY, f"token object {op.material}: {flaw}")
    return CreatedMaster(crew.device.info.serial)


def destroy_master(op: DestroyMaster, crew: Crew) -> DestroyedMaster | HsmFault:
    """Delete every object with this label, twins included, once all of them are known to be this key's.

    With them go objects of this key and version under other labels: what an import left that lost a race.
    Raises `CkError`; doing it again after a failure finds what is left. Another token's objects are not here, and that
    must not pass for "none is there any more".
    """
    if op.serial != crew.device.info.serial:
        return HsmFault(Fault.ELSEWHERE, f"{op.key} is bound to the token {op.serial}")
    handles = crew.find(templates.by_label(CKO_SECRET_KEY, op.material.hex))
    identity = templates.key_id(op.key, op.version)
    handles += [one for one in crew.session.find(templates.by_id(identity)) if one not in handles]
    for handle in handles:
        if flaw := check_master(crew.session, handle, identity):
            return HsmFault(Fault.INTEGRITY, f"token object {op.material}: {flaw}")
    for handle in handles:
        crew.session.destroy(handle)
    return DestroyedMaster(len(handles))
