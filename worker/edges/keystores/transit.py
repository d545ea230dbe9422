"""A customer's key in the transit engine of OpenBao or Vault, over its HTTP API.

The key is of a type with associated data (AES-256-GCM or ChaCha20-Poly1305) and not derived. The outer blob:

    blob    = %x02 ciphertext
    ciphertext = "vault:v" 1*DIGIT ":" base64     ; as the engine made it, its key version in it
"""

import json
import re
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.edges.keystores.bytes64 import Bytes64, encoded
from worker.edges.keystores.credentials import TransitCredential
from worker.edges.keystores.https import Answer, Https
from worker.model.keystores import (
    KeystoreAddress,
    KeystoreFault,
    KeystoreForbidden,
    KeystoreKey,
    KeystoreRefused,
    KeystoreThrottled,
    KeystoreUnreachable,
)

T = TypeVar("T", bound=BaseModel)
FORM: Final = b"\2"
_BASE64: Final = rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_CIPHERTEXT: Final = re.compile(rb"vault:v(?P<version>[1-9][0-9]{0,8}):" + _BASE64)
_TYPES: Final = frozenset({"aes256-gcm96", "chacha20-poly1305"})


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _Key(_Loose):
    type: str
    latest_version: int
    min_decryption_version: int = 1
    derived: bool = False
    soft_deleted: bool = False
    """OpenBao's switch: the key is there and may not be used."""


class _Sealed(_Loose):
    ciphertext: str


class _Opened(_Loose):
    plaintext: Bytes64 = Field(repr=False)


class _Self(_Loose):
    display_name: str
    ttl: int


class _Data(_Loose):
    data: dict[str, object] = Field(repr=False)


class TransitKeystore:
    """Implements `worker.ports.Keystore`."""

    def __init__(self, where: KeystoreAddress, credential: TransitCredential, https: Https) -> None:
        self._where, self._https = where, https
        self._root = f"{urlsplit(where.endpoint).path}/v1"
        self._base = f"{self._root}/{credential.mount.strip('/')}"
        self._headers = {"x-vault-token": credential.token.get_secret_value(), "x-vault-request": "true"}
        if credential.namespace:
            self._headers["x-vault-namespace"] = credential.namespace

    async def describe(self) -> KeystoreKey:
        """See `worker.ports.Keystore.describe`."""
        key = await self._key()
        return KeystoreKey(self._where.key, str(key.latest_version), not key.soft_deleted)

    async def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore.encrypt`."""
        asked = {"plaintext": encoded(plaintext), **_associated(aad)}
        made = (await self._use(_Sealed, "encrypt", asked)).ciphertext.encode()
        if _CIPHERTEXT.fullmatch(made) is None:
            raise KeystoreUnreachable("a malformed answer: ciphertext")
        return FORM + made

    async def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore.decrypt`."""
        found = _CIPHERTEXT.fullmatch(ciphertext[1:])
        if ciphertext[:1] != FORM or found is None:
            raise KeystoreRefused("not a blob of a transit engine")
        asked = {"ciphertext": found[0].decode(), **_associated(aad)}
        return (await self._use(_Opened, "decrypt", asked, int(found["version"]))).plaintext

    async def look(self) -> str:
        """Whether the server knows our token, for `doctor`; it names no key. Raises `KeystoreFault`."""
        answer = await self._https.exchange("GET", f"{self._root}/auth/token/lookup-self", self._headers)
        told = _read(_Self, answer)
        return f"token {told.display_name}, " + (f"{told.ttl} s left" if told.ttl else "without an end")

    async def close(self) -> None:
        """See `worker.ports.Keystore.close`."""
        await self._https.close()

    async def _key(self) -> _Key:
        answer = await self._https.exchange("GET", f"{self._base}/keys/{self._where.key}", self._headers)
        if answer.status == 404:  # noqa: PLR2004
            raise KeystoreForbidden("there is no such key")
        key = _read(_Key, answer)
        if key.type not in _TYPES or key.derived:
            raise KeystoreRefused(f"a key of type {sorted(_TYPES)} that is not derived is needed")
        return key

    async def _use(self, form: type[T], operation: str, asked: Mapping[str, str], version: int = 0) -> T:
        body = json.dumps(asked, separators=(",", ":")).encode()
        headers = self._headers | {"content-type": "application/json"}
        answer = await self._https.exchange("POST", f"{self._base}/{operation}/{self._where.key}", headers, body)
        if answer.status in (400, 404):
            raise await self._why(version)
        return _read(form, answer)

    async def _why(self, version: int) -> KeystoreFault:
        """400 is said of a missing key, a disabled version and a bad ciphertext alike; the key tells which it is."""
        try:
            key = await self._key()
        except KeystoreFault as fault:
            return fault
        if key.soft_deleted:
            return KeystoreForbidden("the key is deleted, softly")
        if 0 < version < key.min_decryption_version:
            return KeystoreForbidden(f"version {version} of the key may not decrypt any more")
        return KeystoreRefused("400: the bytes are not of this key and this AAD")


def _read(form: type[T], answer: Answer) -> T:
    if answer.status == 200:  # noqa: PLR2004
        try:
            return form.model_validate(_Data.model_validate_json(answer.body).data)
        except ValidationError:
            raise KeystoreUnreachable("a malformed answer") from None
    raise _fault_of(answer)


def _fault_of(answer: Answer) -> KeystoreFault:
    """By the status alone: the engine's texts are no interface."""
    match answer.status:
        case 401 | 403:
            return KeystoreForbidden(str(answer.status))
        case 429:
            return KeystoreThrottled("429", answer.retry_after_s)
        case 400 | 404 | 405 | 413 | 501:
            return KeystoreRefused(str(answer.status))
        case status:
            return KeystoreUnreachable(f"answered {status}")


def _associated(aad: bytes) -> dict[str, str]:
    return {"associated_data": encoded(aad)} if aad else {}
