"""Bringing a key (BYOK, SECURITY S12): what import parameters are, and what became of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal
from uuid import UUID

from worker.model.words import RowRef, Table

ATTEMPTS = 5
"""So many refused imports burn the parameters."""
CHECK_VALUE_BYTES = 3
"""The key check value: the first three bytes of one zero block under AES-256 in ECB (CKA_CHECK_VALUE of PKCS#11)."""
RsaBits = Literal[3072, 4096]
_WRAPPED_BYTES = 40
"""An AES-256 key under AES-KWP (RFC 5649)."""


class ImportAlgorithm(StrEnum):
    """How the customer wraps his key. OAEP masks with MGF1 over the same hash, and has no label.

    RSA_AES_KEY_WRAP (PKCS#11 v2.40, section 2.1.21): an AES key under RSA-OAEP, then his under that, by AES-KWP.
    """

    RSAES_OAEP_SHA_256 = "RSAES_OAEP_SHA_256"
    RSA_AES_KEY_WRAP_SHA_256 = "RSA_AES_KEY_WRAP_SHA_256"
    RSAES_OAEP_SHA_1 = "RSAES_OAEP_SHA_1"
    RSA_AES_KEY_WRAP_SHA_1 = "RSA_AES_KEY_WRAP_SHA_1"

    @property
    def has_transport_key(self) -> bool:
        """Whether an AES key stands between the RSA key and the customer's."""
        return self in (ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_256, ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_1)

    @property
    def uses_sha1(self) -> bool:
        """Whether it is one of the two that only a setting allows."""
        return self in (ImportAlgorithm.RSAES_OAEP_SHA_1, ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_1)

    def blob_bytes(self, bits: int) -> int:
        """The length of a wrapped AES-256 key, for an RSA key of so many bits."""
        return bits // 8 + (_WRAPPED_BYTES if self.has_transport_key else 0)


SAFE_ALGORITHMS = frozenset(algorithm for algorithm in ImportAlgorithm if not algorithm.uses_sha1)
"""Those that need no word of a setting."""


class ImportState(StrEnum):
    """What became of import parameters."""

    OPEN = "open"
    USED = "used"
    BURNED = "burned"
    """Too many imports were refused."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Import:
    """Import parameters for one layer 1 key: an RSA key of its own in the token with this serial, good for one import.

    `public_key` is a DER SubjectPublicKeyInfo; `material` the label of the token's private half, None once it is
    destroyed. `failures` counts the imports that were refused after decryption began.
    """

    TABLE: ClassVar[Table] = Table.IMPORTS
    id: UUID
    tenant: str
    key: UUID
    algorithm: ImportAlgorithm
    bits: int
    public_key: bytes
    material: UUID | None
    serial: str
    expires_ms: int
    failures: int
    state: ImportState
    revision: int

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return RowRef(Table.IMPORTS, str(self.id))
