"""One attempt at a customer's blob, inside the token, that makes the same calls whatever is wrong with it (S9, S12).

A step that fails goes on with a decoy. So neither the number nor the order of calls tells at which step it was, and the
decision falls once, at the end. The session is the attempt's own: closing it destroys all that was made on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import TypeVar

from worker.edges.hsm import templates
from worker.edges.hsm.binding import oaep_parameters, rsa_aes_parameters
from worker.edges.hsm.ck import (
    CKG_MGF1_SHA1,
    CKG_MGF1_SHA256,
    CKM_AES_ECB,
    CKM_AES_KEY_GEN,
    CKM_RSA_AES_KEY_WRAP,
    CKM_RSA_PKCS_OAEP,
    CKM_SHA256,
    CKM_SHA_1,
    CkError,
)
from worker.edges.hsm.probe import Abilities
from worker.edges.hsm.session import Session
from worker.model.hsm import Purpose, Wrapping
from worker.model.imports import CHECK_VALUE_BYTES, ImportAlgorithm

T = TypeVar("T")
_BLOCK = bytes(16)
_WRAPPED_BYTES = 40
"""An AES-256 key under AES-KWP or AES-KW; a shorter key weighs less."""
_WAYS = {Wrapping.AES_KWP: b"\1", Wrapping.AES_KW: b"\2"}
_CANARY_BYTES = 1 + len(_BLOCK) + _WRAPPED_BYTES
_NO_ID = bytes(templates.KEY_ID_BYTES)


class Trial:
    """Opens the blob as often as it is asked to; `is_bad` says whether anything was wrong so far."""

    def __init__(
        self, session: Session, abilities: Abilities, algorithm: ImportAlgorithm, pair: int, blob: bytes, modulus: int
    ) -> None:
        """Draws the decoys and, for two-step blobs, opens the transport key. Raises `CkError` only of the former."""
        self._session, self._abilities, self._pair, self._blob = session, abilities, pair, blob
        hashes = (CKM_SHA_1, CKG_MGF1_SHA1) if algorithm.uses_sha1 else (CKM_SHA256, CKG_MGF1_SHA256)
        self._oaep, self._combined = oaep_parameters(*hashes), rsa_aes_parameters(*hashes)
        self._way = abilities.preferred
        self._mechanism = abilities.wrapping[self._way]
        self._checker = templates.checker(CKM_AES_ECB, restrict=abilities.restricts)
        self._scale = session.generate(CKM_AES_KEY_GEN, self.wrapper(_NO_ID))
        self._blank = session.generate(CKM_AES_KEY_GEN, self._checker)
        self._bad = False
        self._steps = algorithm.has_transport_key and not abilities.combined
        self._whole = algorithm.has_transport_key and abilities.combined
        self._transport, self._inner = self._scale, blob[modulus:]
        if self._steps:
            template = templates.transport(abilities.wrapping[Wrapping.AES_KWP], restrict=abilities.restricts)
            outer = blob[:modulus]
            self._transport = self._try(
                lambda: session.unwrap(CKM_RSA_PKCS_OAEP, pair, outer, template, self._oaep), self._scale
            )

    def is_bad(self) -> bool:
        """Whether anything was wrong so far."""
        return self._bad

    def wrapper(self, identity: bytes) -> templates.Template:
        """A session object that wraps keys."""
        return templates.kek(Purpose.WRAPS_KEYS, identity, self._abilities.mechanisms(Purpose.WRAPS_KEYS))

    def check(self, expected: bytes) -> None:
        """The key's check value, from a session object that only encrypts; and its length, by wrapping that once.

        The length is weighed because not every token tells it of an unwrapped key (SoftHSM2 does not), and an AES-128
        key has a check value, too. The object is extractable for that one call (S6).
        """
        checker = self._try(lambda: self.open(self._checker), self._blank)
        self._note(compare_digest(self._ecb(checker)[:CHECK_VALUE_BYTES], expected))
        weight = self._try(lambda: self._session.wrap(self._mechanism, self._scale, checker), b"")
        self._note(len(weight) == _WRAPPED_BYTES)

    def open(self, template: templates.Template) -> int:
        """The customer's key as an object of this template. Raises `CkError`."""
        session = self._session
        if self._steps:
            return session.unwrap(self._abilities.wrapping[Wrapping.AES_KWP], self._transport, self._inner, template)
        if self._whole:
            return session.unwrap(CKM_RSA_AES_KEY_WRAP, self._pair, self._blob, template, self._combined)
        return session.unwrap(CKM_RSA_PKCS_OAEP, self._pair, self._blob, template, self._oaep)

    def open_wrapper(self, identity: bytes) -> int:
        """As a session object that wraps keys; of a bad blob a decoy."""
        return self._try(lambda: self.open(self.wrapper(identity)), self._scale)

    def new_canary(self, wrapper: int) -> bytes:
        """Way ‖ a zero block under a fresh key ‖ that key wrapped: only the same wrapper opens it. Raises `CkError`."""
        fresh = self._session.generate(CKM_AES_KEY_GEN, self._checker)
        sealed = self._session.ecb(fresh, _BLOCK)
        return _WAYS[self._way] + sealed + self._session.wrap(self._mechanism, wrapper, fresh)

    def check_canary(self, canary: bytes, wrapper: int) -> None:
        """Whether this wrapper is the one that the canary was made with."""
        ways = {mark: self._abilities.wrapping.get(way, self._mechanism) for way, mark in _WAYS.items()}
        self._note(len(canary) == _CANARY_BYTES)
        mechanism = ways.get(canary[:1], self._mechanism)
        sealed, wrapped = canary[1 : 1 + len(_BLOCK)], canary[1 + len(_BLOCK) :]
        opened = self._try(lambda: self._session.unwrap(mechanism, wrapper, wrapped, self._checker), self._blank)
        self._note(compare_digest(self._ecb(opened), sealed))

    def _ecb(self, key: int) -> bytes:
        return self._try(lambda: self._session.ecb(key, _BLOCK), _BLOCK)

    def _try(self, call: Callable[[], T], decoy: T) -> T:
        try:
            return call()
        except CkError:
            self._bad = True
            return decoy

    def _note(self, good: bool) -> None:
        self._bad |= not good
