"""What is answered and told about imports (SECURITY S12); nothing secret is in it."""

from uuid import UUID

from worker.model.fields import Answer, Base64
from worker.model.imports import ImportAlgorithm, ImportState


class ImportParametersResult(Answer):
    """What a customer wraps his key for (S12). `public_key` is a DER SubjectPublicKeyInfo.

    `signature` (64 bytes, r then s) is that of the fleet's P-256 key over the statement `keyriver-import/1`.
    """

    fleet: str
    tenant: str
    key: UUID
    parameters: UUID
    algorithm: ImportAlgorithm
    public_key: Base64
    serial: str
    expires_ms: int
    signature: Base64


class ImportFact(Answer):
    """A fact about import parameters: given out, refused an import, expired; who did it, and by which request."""

    tenant: str
    key: UUID
    alias: str
    parameters: UUID
    algorithm: ImportAlgorithm
    expires_ms: int
    state: ImportState
    failures: int
    who: str
    why: str
    request: str
    correlation: str
    revision: int
