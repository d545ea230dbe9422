"""The bodies of answers, as they stand on the wire: one result per item, in order, or one error for the whole request."""

from uuid import UUID

from pydantic import Field

from worker.model.bodies import Base64, Body
from worker.model.codes import MEANINGS, Code
from worker.model.hsm import Purpose
from worker.model.rows import Algorithm, Origin, Role, State, Suite


class ErrorResult(Body):
    """A refusal. `retry`: the identical request may succeed later."""

    code: Code
    message: str
    retry: bool


ERRORS: dict[Code, ErrorResult] = {
    code: ErrorResult(code=code, message=meaning.message, retry=meaning.retry) for code, meaning in MEANINGS.items()
}


class WrapResult(Body):
    """A wrapped DEK. `id` names the stored one; `blob` is there if it was not stored or was asked for."""

    id: UUID | None = None
    key: UUID
    version: int
    blob: Base64 | None = None


class UnwrapResult(Body):
    """The DEK itself stands in the sealed part, in the slot of this item."""

    key: UUID
    version: int


class RewrapResult(Body):
    """`unchanged`: it was current already; then the blob is byte-identical and was not verified."""

    id: UUID | None = None
    key: UUID
    version: int
    blob: Base64 | None = None
    unchanged: bool = False


class VersionView(Body):
    """One version of a key, for people."""

    number: int
    state: State
    created_ms: int


class KeyView(Body):
    """One key, for people. `alias` may be empty when none names it."""

    id: UUID
    tenant: str
    alias: str
    parent: UUID | None
    layer: int
    purpose: Purpose
    origin: Origin
    region: str
    enabled: bool
    active_version: int
    versions: list[VersionView] = []


class TenantResult(Body):
    """A tenant and its L1."""

    tenant: str
    layers: int
    key: KeyView


class KeyResult(Body):
    """The key after the command."""

    key: KeyView


class KeyListResult(Body):
    """One page of keys; `more` says that there are others after the last."""

    keys: list[KeyView]
    more: bool


class ClientView(Body):
    """One registered client, for people."""

    id: str
    tenant: str
    role: Role
    algorithm: Algorithm
    permissions: list[str]
    pattern: str
    reply_topics: list[str]
    not_after_ms: int
    revoked: bool


class ClientResult(Body):
    """The client after the command."""

    client: ClientView


class ClientListResult(Body):
    """One page of clients."""

    clients: list[ClientView]
    more: bool


CommandResult = TenantResult | KeyResult | KeyListResult | ClientResult | ClientListResult
Result = ErrorResult | WrapResult | UnwrapResult | RewrapResult | CommandResult


class SealedReply(Body):
    """DEKs in item order, sealed to the recipient key: HPKE `enc` then ciphertext; a failed item's slot is empty (S4)."""

    suite: Suite
    ciphertext: Base64


class Reply(Body):
    """The answer to one request: `results`, or `error` when the request was refused as a whole."""

    results: list[Result] = Field(default=[])
    sealed: SealedReply | None = None
    error: ErrorResult | None = None
