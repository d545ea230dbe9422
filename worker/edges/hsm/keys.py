"""Making L2 and L3 keys (SECURITY S6): extractable for exactly one C_WrapKey, then proved by an unwrap and gone."""

from __future__ import annotations

from contextlib import suppress

from worker.edges.hsm import templates
from worker.edges.hsm.ck import CKA_ID, CKM_AES_KEY_GEN, CkError
from worker.edges.hsm.crew import Crew
from worker.model.hsm import CreatedKey, CreateKey, Fault, HsmFault, Wrapping


def create_key(op: CreateKey, parent: int, crew: Crew) -> CreatedKey | HsmFault:
    """A new AES-256 key wrapped under `parent`. Raises `CkError`; leaves no object behind."""
    if op.inner is not (op.parent.wrapping is Wrapping.EXTERNAL):
        return HsmFault(Fault.UNSUPPORTED, "a key under a link's inner key is wrapped by the keystore, too")
    session, abilities = crew.session, crew.device.abilities
    identity, allowed = templates.key_id(op.key, op.version), abilities.mechanisms(op.purpose)
    mechanism = abilities.wrapping[abilities.preferred]
    fresh = session.generate(CKM_AES_KEY_GEN, templates.kek(op.purpose, identity, allowed, extractable=True))
    try:
        wrapped = session.wrap(mechanism, parent, fresh)
    finally:
        with suppress(CkError):
            session.destroy(fresh)
    proof = session.unwrap(mechanism, parent, wrapped, templates.kek(op.purpose, identity, allowed))
    try:
        if session.attribute(proof, CKA_ID) != identity:
            return HsmFault(Fault.INTEGRITY, "the new key's CKA_ID was not kept")
    finally:
        with suppress(CkError):
            session.destroy(proof)
    return CreatedKey(wrapped, abilities.preferred)
