"""Bringing a key (S1, S12): what the fleet signs about import parameters, and how a key is wrapped for them.

The statement is text, so that a customer reads and verifies it with openssl alone (`schemas/examples/byok.sh`).
"""

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from worker.model.imports import CHECK_VALUE_BYTES, ImportAlgorithm
from worker.seal import lineage
from worker.seal.errors import BadCertificate, BadKey, BadSignature
from worker.seal.lineage import FleetKey

FORM = "keyriver-import/1"
_BLOCK = bytes(16)


@dataclass(frozen=True, slots=True)
class ImportStatement:
    """What a customer has to know of the key that he wraps his own for: whose it is, where, how, until when."""

    fleet: str
    tenant: str
    key: UUID
    parameters: UUID
    algorithm: ImportAlgorithm
    public_key: bytes
    serial: str
    expires_ms: int

    def payload(self) -> bytes:
        """The bytes that the fleet's key signs: lines of ASCII, each ended by a newline, always these in this order."""
        lines = (
            FORM,
            f"fleet: {self.fleet}",
            f"tenant: {self.tenant}",
            f"key: {self.key}",
            f"parameters: {self.parameters}",
            f"algorithm: {self.algorithm}",
            f"public-key-sha256: {sha256(self.public_key).hexdigest()}",
            f"token: {self.serial!a}",
            f"expires-ms: {self.expires_ms}",
        )
        return "".join(f"{line}\n" for line in lines).encode("ascii")

    def check(self, fleet: str, fleet_key: FleetKey, signature: bytes, now_ms: int) -> None:
        """Raise BadCertificate unless it is this fleet's, holds now, and its P-256 key signed it (64 bytes, r ‖ s)."""
        if self.fleet != fleet:
            raise BadCertificate("the import parameters are refused: they are another fleet's")
        if now_ms >= self.expires_ms:
            raise BadCertificate("the import parameters are refused: they have expired")
        try:
            public_rsa_key(self.public_key)
            lineage.verify(fleet_key, signature, self.payload(), now_ms)
        except (BadSignature, BadKey):
            raise BadCertificate("the import parameters are refused: the fleet's key did not sign them") from None


def public_rsa_key(der: bytes) -> RSAPublicKey:
    """The key in a SubjectPublicKeyInfo, or BadKey."""
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("not a public key") from None
    if not isinstance(key, RSAPublicKey):
        raise BadKey("not an RSA key")
    return key


def wrap_key(public_key: bytes, algorithm: ImportAlgorithm, key: bytes, transport: bytes) -> bytes:
    """The customer's side in Python: `key` wrapped for import. `transport`: 32 fresh random bytes, where it is used.

    Raises BadKey.
    """
    # SHA-1 is here because AWS offers it too and SoftHSM2 knows nothing else; a setting has to name it.
    digest = hashes.SHA1() if algorithm.uses_sha1 else hashes.SHA256()  # noqa: S303
    way = padding.OAEP(padding.MGF1(digest), digest, None)
    recipient = public_rsa_key(public_key)
    if not algorithm.has_transport_key:
        return recipient.encrypt(key, way)
    return recipient.encrypt(transport, way) + keywrap.aes_key_wrap_with_padding(transport, key)


def check_value(key: bytes) -> bytes:
    """The key check value of an AES key: the first three bytes of a zero block under it, in ECB (CKA_CHECK_VALUE)."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block, as the standard has it
    return (encryptor.update(_BLOCK) + encryptor.finalize())[:CHECK_VALUE_BYTES]
