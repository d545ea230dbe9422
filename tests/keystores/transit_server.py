"""A transit engine written from the documented HTTP API of Vault and OpenBao: encrypt, decrypt, keys, lookup-self."""

import base64
import binascii
import json
import os
import re
import secrets
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.keystores.https_server import Asked, Cut, Hang, HttpsServer, Told

_PATH = re.compile(r"/v1/transit/(?P<do>keys|encrypt|decrypt)/(?P<key>[A-Za-z0-9._-]+)")
Mood = Callable[[Asked, Told], Told | Hang | Cut]


class Refused(Exception):
    """An answer with errors."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass
class NamedKey:
    """A key with its versions, counted from 1."""

    versions: list[AESGCM] = field(default_factory=lambda: [AESGCM(os.urandom(32))])
    min_decryption_version: int = 1
    type: str = "aes256-gcm96"
    derived: bool = False
    soft_deleted: bool = False

    def rotate(self) -> None:
        """A new version."""
        self.versions.append(AESGCM(os.urandom(32)))


class TransitServer:
    """State and answers; `running` serves it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.keys: dict[str, NamedKey] = {}
        self.token = "s." + secrets.token_urlsafe(24)
        self.sealed = False
        self.mood: Mood | None = None
        self.server = HttpsServer(context, self._answer)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yields the endpoint."""
        with self.server.running() as url:
            yield url

    def _answer(self, asked: Asked) -> Told | Hang | Cut:
        try:
            told = Told(200, json.dumps({"request_id": "x", "data": self._done(asked)}).encode())
        except Refused as refused:
            told = Told(refused.status, json.dumps({"errors": [refused.text] if refused.text else []}).encode())
        return told if self.mood is None else self.mood(asked, told)

    def _done(self, asked: Asked) -> dict[str, Any]:
        if self.sealed:
            raise Refused(503, "Vault is sealed")
        if not secrets.compare_digest(asked.headers.get("x-vault-token", ""), self.token):
            raise Refused(403, "permission denied")
        if asked.path == "/v1/auth/token/lookup-self":
            return {"display_name": "token-keyriver", "ttl": 3600, "policies": ["keyriver"]}
        found = _PATH.fullmatch(asked.path)
        if found is None:
            raise Refused(404)
        key = self.keys.get(found["key"])
        if found["do"] == "keys":
            return _described(key)
        if key is None or key.soft_deleted:
            raise Refused(400, "encryption key not found")
        body = json.loads(asked.body)
        return _encrypted(key, body) if found["do"] == "encrypt" else _decrypted(key, body)


def _described(key: NamedKey | None) -> dict[str, Any]:
    if key is None:
        raise Refused(404)
    return {
        "type": key.type,
        "derived": key.derived,
        "latest_version": len(key.versions),
        "min_decryption_version": key.min_decryption_version,
        "soft_deleted": key.soft_deleted,
        "supports_encryption": True,
    }


def _encrypted(key: NamedKey, body: dict[str, Any]) -> dict[str, Any]:
    nonce = os.urandom(12)
    aad = base64.b64decode(body.get("associated_data", ""))
    sealed = nonce + key.versions[-1].encrypt(nonce, base64.b64decode(body["plaintext"]), aad)
    version = len(key.versions)
    return {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}", "key_version": version}


def _decrypted(key: NamedKey, body: dict[str, Any]) -> dict[str, Any]:
    found = re.fullmatch(r"vault:v(\d+):(.+)", body["ciphertext"])
    if found is None:
        raise Refused(400, "invalid ciphertext: no prefix")
    try:
        version, sealed = int(found[1]), base64.b64decode(found[2], validate=True)
    except binascii.Error:
        raise Refused(400, "invalid ciphertext: could not decode base64") from None
    if version < key.min_decryption_version:
        raise Refused(400, "ciphertext or signature version is disallowed by policy (too old)")
    if not 1 <= version <= len(key.versions):
        raise Refused(400, "invalid ciphertext: version is too new")
    try:
        aad = base64.b64decode(body.get("associated_data", ""))
        plaintext = key.versions[version - 1].decrypt(sealed[:12], sealed[12:], aad)
    except (InvalidTag, ValueError):
        raise Refused(400, "cipher: message authentication failed") from None
    return {"plaintext": base64.b64encode(plaintext).decode()}
