"""What this token can do, found out by asking and by trying at start; nothing about a product is assumed."""

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from time import perf_counter

from worker.edges.hsm import templates
from worker.edges.hsm.binding import Library
from worker.edges.hsm.ck import (
    CKA_ALLOWED_MECHANISMS,
    CKM_AES_ECB,
    CKM_AES_GCM,
    CKM_AES_KEY_GEN,
    CKM_AES_KEY_WRAP,
    CKM_AES_KEY_WRAP_KWP,
    CKM_AES_KEY_WRAP_PAD,
    CKM_EC_KEY_PAIR_GEN,
    CKM_ECDSA,
    CKM_GENERIC_SECRET_KEY_GEN,
    CKM_RSA_AES_KEY_WRAP,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKM_RSA_PKCS_OAEP,
    CKM_SHA256_HMAC,
    CkError,
)
from worker.edges.hsm.session import NONCE_BYTES, TAG_BYTES, Session
from worker.model.hsm import Purpose, Wrapping
from worker.model.imports import ImportAlgorithm

_NEEDED = {
    CKM_AES_KEY_GEN: "CKM_AES_KEY_GEN",
    CKM_AES_GCM: "CKM_AES_GCM",
    CKM_GENERIC_SECRET_KEY_GEN: "CKM_GENERIC_SECRET_KEY_GEN",
    CKM_SHA256_HMAC: "CKM_SHA256_HMAC",
    CKM_EC_KEY_PAIR_GEN: "CKM_EC_KEY_PAIR_GEN",
    CKM_ECDSA: "CKM_ECDSA",
}
_ID = bytes(templates.KEY_ID_BYTES)
_NONCE, _AAD, _TEXT = bytes(range(NONCE_BYTES)), b"keyriver probe", bytes(32)
_WRAPPED_BYTES = 40
"""32 of the key and 8 of integrity; key wrap over PKCS#7 padding would make 48."""
REMOTE_FROM_S = 250e-6
"""An encryption that takes longer waits for something outside this machine, and threads help."""


class TokenLacks(Exception):
    """The token has not what Keyriver needs; the message names the mechanism."""


class Nonces(Enum):
    """Who makes the GCM nonce."""

    OURS = auto()
    """The token honours the one in the parameters."""
    WRITTEN = auto()
    """The token writes its own into the parameters (AWS CloudHSM)."""
    APPENDED = auto()
    """The token appends its own to the ciphertext (Luna in FIPS mode)."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """Of one token: mechanism ids by way of wrapping, the nonce's maker, and whether threads help."""

    wrapping: dict[Wrapping, int]
    nonces: Nonces
    restricts: bool
    """Whether CKA_ALLOWED_MECHANISMS is kept."""
    remote: bool
    imports: bool = False
    """Whether it has what an import needs besides AES key wrap: RSA-OAEP, and AES-ECB for check values."""
    combined: bool = False
    """Whether RSA_AES_KEY_WRAP is one mechanism; else its two steps are taken, inside the token as well."""

    @property
    def preferred(self) -> Wrapping:
        """How new keys are wrapped: KWP, or KW where there is no KWP."""
        return Wrapping.AES_KWP if Wrapping.AES_KWP in self.wrapping else Wrapping.AES_KW

    def mechanisms(self, purpose: Purpose) -> tuple[int, ...]:
        """What a key of this purpose may be used with; empty where the token can't be told."""
        if not self.restricts:
            return ()
        return (CKM_AES_GCM,) if purpose is Purpose.WRAPS_DEKS else tuple(self.wrapping.values())

    def can_import(self, algorithm: ImportAlgorithm) -> bool:
        """Whether it is worth a try; which hash it takes for OAEP only a try shows."""
        return self.imports and (not algorithm.has_transport_key or self.combined or Wrapping.AES_KWP in self.wrapping)

    @property
    def import_mechanisms(self) -> tuple[int, ...]:
        """What an import key may be used with; empty where the token can't be told."""
        if not self.restricts:
            return ()
        return (CKM_RSA_PKCS_OAEP, CKM_RSA_AES_KEY_WRAP) if self.combined else (CKM_RSA_PKCS_OAEP,)


def probe(library: Library, slot: int, session: Session) -> Abilities:
    """Try everything once. Raises `TokenLacks`; leaves no object behind."""
    for mechanism, name in _NEEDED.items():
        if not library.has_mechanism(slot, mechanism):
            raise TokenLacks(f"the token has no {name}")
    restricts = _restricts(session)
    wrapping = _wrapping(library, slot, session)
    nonces, seconds = _nonces(session)
    needed = (CKM_RSA_PKCS_KEY_PAIR_GEN, CKM_RSA_PKCS_OAEP, CKM_AES_ECB)
    imports = all(library.has_mechanism(slot, mechanism) for mechanism in needed)
    combined = library.has_mechanism(slot, CKM_RSA_AES_KEY_WRAP)
    return Abilities(wrapping, nonces, restricts, seconds > REMOTE_FROM_S, imports, combined)


def _restricts(session: Session) -> bool:
    try:
        key = session.generate(CKM_AES_KEY_GEN, templates.kek(Purpose.WRAPS_DEKS, _ID, (CKM_AES_GCM,)))
    except CkError:
        return False
    try:
        kept = session.attribute(key, CKA_ALLOWED_MECHANISMS)
    except CkError:
        kept = b""
    finally:
        session.destroy(key)
    return kept != b""


def _wrapping(library: Library, slot: int, session: Session) -> dict[Wrapping, int]:
    """RFC 5649 stands under 0x210B in the standard and under 0x210A in SoftHSM2: a round trip decides."""
    candidates = [
        (Wrapping.AES_KWP, CKM_AES_KEY_WRAP_KWP),
        (Wrapping.AES_KWP, CKM_AES_KEY_WRAP_PAD),
        (Wrapping.AES_KW, CKM_AES_KEY_WRAP),
    ]
    found: dict[Wrapping, int] = {}
    for way, mechanism in candidates:
        if way not in found and library.has_mechanism(slot, mechanism) and _round_trip(session, mechanism):
            found[way] = mechanism
    if not found:
        raise TokenLacks("the token has neither CKM_AES_KEY_WRAP_KWP nor CKM_AES_KEY_WRAP")
    return found


def _round_trip(session: Session, mechanism: int) -> bool:
    made = []
    try:
        made.append(session.generate(CKM_AES_KEY_GEN, templates.kek(Purpose.WRAPS_KEYS, _ID, ())))
        made.append(session.generate(CKM_AES_KEY_GEN, templates.kek(Purpose.WRAPS_DEKS, _ID, (), extractable=True)))
        wrapped = session.wrap(mechanism, *made)
        made.append(session.unwrap(mechanism, made[0], wrapped, templates.kek(Purpose.WRAPS_DEKS, _ID, ())))
        sealed = session.encrypt(made[1], _NONCE, _AAD, _TEXT)
        return len(wrapped) == _WRAPPED_BYTES and session.decrypt(made[2], *_taken(session, sealed)) == _TEXT
    except CkError:
        return False
    finally:
        for key in made:
            with suppress(CkError):
                session.destroy(key)


def _taken(session: Session, sealed: bytes) -> tuple[bytes, bytes, bytes]:
    if len(sealed) > len(_TEXT) + TAG_BYTES:
        return sealed[-NONCE_BYTES:], _AAD, sealed[:-NONCE_BYTES]
    return session.nonce(), _AAD, sealed


def _nonces(session: Session) -> tuple[Nonces, float]:
    """Who makes the nonce, and the seconds that the quickest of five encryptions takes."""
    key = session.generate(CKM_AES_KEY_GEN, templates.kek(Purpose.WRAPS_DEKS, _ID, ()))
    try:
        times = []
        for _ in range(5):
            began = perf_counter()
            sealed = session.encrypt(key, _NONCE, _AAD, _TEXT)
            times.append(perf_counter() - began)
        made = session.nonce()
        if session.decrypt(key, *_taken(session, sealed)) != _TEXT:
            raise TokenLacks("the token's CKM_AES_GCM does not decrypt what it encrypted")
    finally:
        session.destroy(key)
    if len(sealed) > len(_TEXT) + TAG_BYTES:
        return Nonces.APPENDED, min(times)
    return (Nonces.OURS if made == _NONCE else Nonces.WRITTEN), min(times)
