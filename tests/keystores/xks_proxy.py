"""An External Key Store proxy written from AWS's specification, version 1, and from nothing of ours.

It verifies SigV4, holds AES-256 keys and feeds its key manager the length-prefixed AAD. `mood` makes it misbehave.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import ssl
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.keystores.https_server import Asked, Cut, Hang, HttpsServer, Told

PREFIX = "/acme/kms/xks/v1"
REGION = "eu-central-1"
_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[A-Z2-7]{20,30})/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)"
    r"/kms-xks-proxy/aws4_request, ?"
    r"SignedHeaders=(?P<signed>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_PATH = re.compile(re.escape(PREFIX) + r"/keys/(?P<key>[A-Za-z0-9._-]{1,128})/(?P<do>metadata|encrypt|decrypt)")
Mood = Callable[[Asked, Told], Told | Hang | Cut]
"""What becomes of the answer that would be right."""


class Refused(Exception):
    """An answer with an error name."""

    def __init__(self, status: int, name: str) -> None:
        super().__init__(name)
        self.status, self.name = status, name


@dataclass
class ExternalKey:
    """What the key manager holds."""

    aes: AESGCM = field(default_factory=lambda: AESGCM(os.urandom(32)))
    enabled: bool = True


def new_access_key() -> tuple[str, str]:
    """Its id and its secret."""
    letters = string.ascii_uppercase + "234567"
    return "".join(secrets.choice(letters) for _ in range(20)), secrets.token_urlsafe(33)


class XksProxy:
    """State and answers; `running` serves it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.keys: dict[str, ExternalKey] = {}
        self.access: dict[str, str] = {}
        self.mood: Mood | None = None
        self.metadata = b"kept by the proxy"
        self.calls: list[str] = []
        """Names of operations that were authentic, in order."""
        self.server = HttpsServer(context, self._answer)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yields the endpoint, without the API's own path."""
        with self.server.running() as url:
            yield url + PREFIX.removesuffix("/kms/xks/v1")

    def _answer(self, asked: Asked) -> Told | Hang | Cut:
        try:
            told = _json(200, self._done(asked))
        except Refused as refused:
            told = _json(refused.status, {"errorName": refused.name, "errorMessage": "as the test wants it"})
        return told if self.mood is None else self.mood(asked, told)

    def _done(self, asked: Asked) -> dict[str, object]:
        if asked.method != "POST":
            raise Refused(405, "ValidationException")
        self._authenticate(asked)
        body = json.loads(asked.body)
        metadata = body["requestMetadata"]
        if not isinstance(metadata["kmsRequestId"], str) or not isinstance(metadata["kmsOperation"], str):
            raise Refused(400, "ValidationException")
        if asked.path == f"{PREFIX}/health":
            self.calls.append("health")
            return _HEALTH
        found = _PATH.fullmatch(asked.path)
        if found is None:
            raise Refused(404, "InvalidUriPathException")
        needed = {"awsPrincipalArn"} | ({"kmsKeyArn"} if found["do"] != "metadata" else set())
        if not needed <= metadata.keys():
            raise Refused(400, "ValidationException")
        key = self.keys.get(found["key"])
        if key is None:
            raise Refused(404, "KeyNotFoundException")
        self.calls.append(found["do"])
        return getattr(self, f"_{found['do']}")(key, body)  # type: ignore[no-any-return]

    def _metadata(self, key: ExternalKey, _body: dict[str, Any]) -> dict[str, object]:
        status = "ENABLED" if key.enabled else "DISABLED"
        return {"keySpec": "AES_256", "keyUsage": ["ENCRYPT", "DECRYPT"], "keyStatus": status}

    def _encrypt(self, key: ExternalKey, body: dict[str, Any]) -> dict[str, object]:
        _usable(key, body)
        plaintext, aad = _bytes(body["plaintext"]), _bytes(body.get("additionalAuthenticatedData", ""))
        iv = os.urandom(12)
        sealed = key.aes.encrypt(iv, plaintext, _whole_aad(aad, self.metadata))
        ciphertext, tag = sealed[:-16], sealed[-16:]
        told: dict[str, object] = {
            "ciphertext": _text(ciphertext),
            "initializationVector": _text(iv),
            "authenticationTag": _text(tag),
        }
        if self.metadata:
            told["ciphertextMetadata"] = _text(self.metadata)
        if body.get("ciphertextDataIntegrityValueAlgorithm") == "SHA_256":
            whole = aad + self.metadata + iv + ciphertext + tag
            told["ciphertextDataIntegrityValue"] = _text(hashlib.sha256(whole).digest())
        return told

    def _decrypt(self, key: ExternalKey, body: dict[str, Any]) -> dict[str, object]:
        _usable(key, body)
        aad = _whole_aad(
            _bytes(body.get("additionalAuthenticatedData", "")), _bytes(body.get("ciphertextMetadata", ""))
        )
        sealed = _bytes(body["ciphertext"]) + _bytes(body["authenticationTag"])
        try:
            plaintext = key.aes.decrypt(_bytes(body["initializationVector"]), sealed, aad)
        except InvalidTag:
            raise Refused(400, "InvalidCiphertextException") from None
        return {"plaintext": _text(plaintext)}

    def _authenticate(self, asked: Asked) -> None:
        found = _SIGNATURE.fullmatch(asked.headers.get("authorization", ""))
        if found is None or "?" in asked.path or not {"host", "x-amz-date"} <= set(found["signed"].split(";")):
            raise Refused(401, "AuthenticationFailedException")
        secret, stamp = self.access.get(found["id"]), asked.headers["x-amz-date"]
        said = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if secret is None or abs(datetime.now(UTC) - said) > timedelta(minutes=5) or found["region"] != REGION:
            raise Refused(401, "AuthenticationFailedException")
        lines = "".join(f"{name}:{asked.headers[name].strip()}\n" for name in found["signed"].split(";"))
        digest = hashlib.sha256(asked.body).hexdigest()
        canonical = f"{asked.method}\n{asked.path}\n\n{lines}\n{found['signed']}\n{digest}"
        scope = f"{found['day']}/{found['region']}/kms-xks-proxy/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = ("AWS4" + secret).encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), found["signature"]):
            raise Refused(401, "AuthenticationFailedException")


_HEALTH: dict[str, object] = {
    "xksProxyFleetSize": 2,
    "xksProxyVendor": "Acme",
    "xksProxyModel": "Proxy 1",
    "ekmVendor": "Acme HSM",
    "ekmFleetDetails": [
        {"id": "hsm-1", "model": "Luna", "healthStatus": "ACTIVE"},
        {"id": "hsm-2", "model": "Luna", "healthStatus": "DEGRADED"},
    ],
}


def _usable(key: ExternalKey, body: dict[str, Any]) -> None:
    if body["encryptionAlgorithm"] != "AES_GCM":
        raise Refused(400, "ValidationException")
    if not key.enabled:
        raise Refused(400, "InvalidStateException")


def _whole_aad(aad: bytes, metadata: bytes) -> bytes:
    """Length-prefixed, so that the two can't be swapped."""
    return len(aad).to_bytes(2, "big") + aad + bytes([len(metadata)]) + metadata


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _json(status: int, told: dict[str, object]) -> Told:
    return Told(status, json.dumps(told).encode(), {"content-type": "application/json"})
