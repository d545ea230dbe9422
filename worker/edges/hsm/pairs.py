"""RSA key pairs of import parameters (SECURITY S12): token objects that only unwrap, found by a label of their own.

Making one takes up to some seconds, so it is done beside the pool. A pair is given out once a rehearsal has shown that
this token does with it what the algorithm wants; what it can't do is refused then, not when the customer's key comes.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from time import monotonic

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from worker.edges.hsm import templates
from worker.edges.hsm.ck import (
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKO_PRIVATE_KEY,
    CkError,
)
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.device import Device
from worker.edges.hsm.trial import Trial
from worker.model.hsm import (
    DestroyedMaster,
    Fault,
    HsmFault,
)
from worker.model.import_ops import (
    CreateImportPair,
    DestroyImportPair,
    ImportPair,
)
from worker.seal.importing import check_value, wrap_key

_AES_BYTES = 32
_GATE_S = 1.0


def have_pair(op: CreateImportPair, crew: Crew) -> ImportPair | HsmFault:
    """The pair, if it is there; else it is begun. Raises `CkError`."""
    if not crew.device.abilities.can_import(op.algorithm):
        return HsmFault(Fault.UNSUPPORTED, f"the token has not what {op.algorithm} needs")
    handles = crew.find(templates.by_label(CKO_PRIVATE_KEY, op.material.hex))
    if not handles:
        begun = crew.device.aside.begin(partial(_make, op, crew.device))
        return HsmFault(Fault.UNAVAILABLE, "the pair is being made" if begun else "another pair is being made")
    public = public_key(crew, handles[0])
    if not _rehearsed(op, crew, handles[0], public):
        with suppress(CkError):
            destroy_pair(DestroyImportPair(op.material), crew)
        return HsmFault(Fault.UNSUPPORTED, f"the token does not unwrap {op.algorithm}")
    return ImportPair(public, crew.device.info.serial)


def destroy_pair(op: DestroyImportPair, crew: Crew) -> DestroyedMaster:
    """Delete it, twins of racing makers included. Raises `CkError`; again, it finds what is left."""
    handles = crew.find(templates.by_label(CKO_PRIVATE_KEY, op.material.hex))
    for handle in handles:
        crew.session.destroy(handle)
    return DestroyedMaster(len(handles))


def public_key(crew: Crew, private: int) -> bytes:
    """The public half (DER SubjectPublicKeyInfo) of a private key, from its own attributes. Raises `CkError`."""
    modulus, exponent = (crew.session.attribute(private, number) for number in (CKA_MODULUS, CKA_PUBLIC_EXPONENT))
    numbers = RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
    return numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _make(op: CreateImportPair, device: Device) -> None:
    """On a thread of its own, inside the gate: the token is not finalised under it."""
    with device.inside(monotonic() + _GATE_S) as epoch:
        if epoch is None:
            return
        crew = Crew(device)
        crew.board(epoch)
        try:
            if crew.find(templates.by_label(CKO_PRIVATE_KEY, op.material.hex)):
                return
            public, private = templates.import_pair(op.material, op.bits, device.abilities.import_mechanisms)
            crew.session.generate_pair(CKM_RSA_PKCS_KEY_PAIR_GEN, public, private)
        finally:
            crew.session.close()  # the public half is a session object, and goes with it


def _rehearsed(op: CreateImportPair, crew: Crew, pair: int, public: bytes) -> bool:
    """A key that nobody will use, wrapped as a customer wraps his own: whether it opens in the token."""
    key, transport = crew.session.random(_AES_BYTES), crew.session.random(_AES_BYTES)
    blob = wrap_key(public, op.algorithm, key, transport)
    session = crew.device.open_session()
    try:
        trial = Trial(session, crew.device.abilities, op.algorithm, pair, blob, op.bits // 8)
        trial.check(check_value(key))
        return not trial.is_bad()
    finally:
        session.close()
