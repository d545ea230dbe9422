"""Making and moving L2 and L3 keys (SECURITY S6): extractable for exactly one C_WrapKey, then proved and gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest

from worker.edges.hsm import templates
from worker.edges.hsm.ck import CKA_ID, CKM_AES_KEY_GEN, CkError
from worker.edges.hsm.crew import Crew
from worker.model.hsm import CreatedKey, CreateKey, Fault, HsmFault, RewrapKey, Wrapping


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


def rewrap_key(op: RewrapKey, source: int, target: int, crew: Crew) -> CreatedKey | HsmFault:
    """A wrapped key under another parent, proved by the way back. Raises `CkError`; leaves no object behind.

    Each object is extractable for one C_WrapKey: the first goes from the old parent to the new one, the second, made of
    what the first became, back to the old one, where the same bytes must come out (RFC 3394 and 5649 use no chance).
    """
    session, abilities = crew.session, crew.device.abilities
    if Wrapping.EXTERNAL in (op.source.wrapping, op.target.wrapping):
        return HsmFault(Fault.UNSUPPORTED, "what stands under a link's inner key is the keystore's to wrap")
    if op.wrapping not in abilities.wrapping:
        return HsmFault(Fault.UNSUPPORTED, f"the token has no {op.wrapping}")
    old, new = abilities.wrapping[op.wrapping], abilities.wrapping[abilities.preferred]
    with _extractable(op, crew, old, source, op.wrapped) as moved:
        wrapped = session.wrap(new, target, moved)
    with _extractable(op, crew, new, target, wrapped) as proof:
        back = session.wrap(old, source, proof)
    if not compare_digest(back, op.wrapped):
        return HsmFault(Fault.INTEGRITY, "the moved key is another one")
    return CreatedKey(wrapped, abilities.preferred)


@contextmanager
def _extractable(op: RewrapKey, crew: Crew, mechanism: int, parent: int, wrapped: bytes) -> Iterator[int]:
    """The key as an object that may be wrapped, for as long as that takes."""
    identity, allowed = templates.key_id(op.key, op.version), crew.device.abilities.mechanisms(op.purpose)
    template = templates.kek(op.purpose, identity, allowed, extractable=True)
    handle = crew.session.unwrap(mechanism, parent, wrapped, template)
    try:
        yield handle
    finally:
        with suppress(CkError):
            crew.session.destroy(handle)
