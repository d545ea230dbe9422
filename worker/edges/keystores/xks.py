"""A customer's key behind an External Key Store proxy (XKS, version 1): our side plays the part of the KMS."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from pydantic import BaseModel

from worker.edges.keystores.bytes64 import encoded
from worker.edges.keystores.credentials import AccessKey, XksCredential
from worker.edges.keystores.https import Answer, Https
from worker.edges.keystores.sigv4 import XKS_SERVICE, signed_headers
from worker.edges.keystores.xks_wire import PLAINTEXT_BYTES, Decrypted, Encrypted, Fleet, Metadata, Sealed, read
from worker.model.keystores import KeystoreAddress, KeystoreKey, KeystoreRefused

T = TypeVar("T", bound=BaseModel)
_ALGORITHM: Final = "AES_GCM"
_UNAUTHENTIC: Final = 401


class XksKeystore:
    """Implements `worker.ports.Keystore`."""

    def __init__(
        self, where: KeystoreAddress, credential: XksCredential, fleet: str, https: Https, now: Callable[[], datetime]
    ) -> None:
        """`fleet` tells the customer who asks; `now` is UTC."""
        self._where, self._https, self._now = where, https, now
        self._base = urlsplit(where.endpoint).path + "/kms/xks/v1"
        self._region = credential.region
        self._keys: list[AccessKey] = [credential.current, *([credential.next] if credential.next else [])]
        self._who = f"arn:keyriver:kms:{credential.region}:{fleet}"

    async def describe(self) -> KeystoreKey:
        """See `worker.ports.Keystore.describe`. The API tells no version."""
        told = await self._ask(Metadata, "metadata", {}, kmsOperation="DescribeKey")
        if told.keySpec != "AES_256" or not {"ENCRYPT", "DECRYPT"} <= set(told.keyUsage):
            raise KeystoreRefused("the external key is no AES-256 key for encryption and decryption")
        return KeystoreKey(self._where.key, "", told.keyStatus == "ENABLED")

    async def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore.encrypt`. At most 4,300 bytes."""
        if len(plaintext) > PLAINTEXT_BYTES:
            raise KeystoreRefused(f"more than {PLAINTEXT_BYTES} bytes")
        asked = {
            "plaintext": encoded(plaintext),
            "encryptionAlgorithm": _ALGORITHM,
            "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
            **_bytes(additionalAuthenticatedData=aad),
        }
        made = await self._ask(Encrypted, "encrypt", asked, kmsOperation="Encrypt", kmsKeyArn=self._arn)
        return Sealed.of(made, plaintext, aad).pack()

    async def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        """See `worker.ports.Keystore.decrypt`."""
        sealed = Sealed.unpack(ciphertext)
        asked = {
            "ciphertext": encoded(sealed.ciphertext),
            "encryptionAlgorithm": _ALGORITHM,
            "initializationVector": encoded(sealed.iv),
            "authenticationTag": encoded(sealed.tag),
            **_bytes(ciphertextMetadata=sealed.metadata, additionalAuthenticatedData=aad),
        }
        opened = await self._ask(Decrypted, "decrypt", asked, kmsOperation="Decrypt", kmsKeyArn=self._arn)
        return opened.plaintext

    async def look(self) -> str:
        """The proxy's health in a few words, for `doctor`; it names no key. Raises `KeystoreFault`."""
        asked = {"requestMetadata": {"kmsOperation": "KmsHealthCheck", "kmsRequestId": str(uuid4())}}
        answer = await self._post("/health", asked)
        told = read(Fleet, answer, "health")
        states = ", ".join(sorted({manager.healthStatus for manager in told.ekmFleetDetails}))
        return f"{told.xksProxyVendor} {told.xksProxyModel}: {states}"

    async def close(self) -> None:
        """See `worker.ports.Keystore.close`."""
        await self._https.close()

    @property
    def _arn(self) -> str:
        return f"{self._who}:key/{self._where.key}"

    async def _ask(self, form: type[T], path: str, asked: Mapping[str, str], **who: str) -> T:
        call = str(uuid4())
        metadata = {"awsPrincipalArn": f"{self._who}:worker", "kmsRequestId": call, **who}
        answer = await self._post(f"/keys/{self._where.key}/{path}", {"requestMetadata": metadata, **asked})
        return read(form, answer, f"{path} {call}")

    async def _post(self, path: str, asked: Mapping[str, object]) -> Answer:
        """With the access key that worked last; when it is refused, once with the other."""
        first, *others = self._keys
        answer = await self._once(first, path, asked)
        for other in others:
            if answer.status == _UNAUTHENTIC:
                answer = await self._once(other, path, asked)
                if answer.status != _UNAUTHENTIC:
                    self._keys = [other, first]
        return answer

    async def _once(self, key: AccessKey, path: str, asked: Mapping[str, object]) -> Answer:
        body = json.dumps(asked, separators=(",", ":")).encode()
        headers = signed_headers(
            key.access_key_id,
            key.secret_access_key.get_secret_value(),
            (self._region, XKS_SERVICE),
            (self._https.authority, self._base + path),
            body,
            self._now(),
        )
        headers["content-type"] = "application/json"
        return await self._https.exchange("POST", self._base + path, headers, body)


def _bytes(**fields: bytes) -> dict[str, str]:
    """What is empty is left out."""
    return {name: encoded(value) for name, value in fields.items() if value}
