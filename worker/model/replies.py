"""The bodies of answers, as they stand on the wire: one result per item, in order, or one error for the whole request.

Who reads an answer ignores what it doesn't know, so that workers may be newer than clients.
"""

from typing import Literal
from uuid import UUID

from pydantic import Field, create_model

from worker.model.codes import MEANINGS, Code
from worker.model.fields import Answer, Base64, Reason
from worker.model.hsm import Purpose
from worker.model.linked import LinkListResult, LinkReport, LinkResult, MoveResult, UnlinkResult
from worker.model.operations import Operation
from worker.model.rows import Algorithm, ApprovalState, Origin, Role, State, Suite


class ApprovalView(Answer):
    """A command that needs, or needed, a second officer. `body` is its JSON as text; `digest` is what he signs."""

    id: UUID
    tenant: str
    operation: str
    body: str
    asked_by: str
    asked_ms: int
    expires_ms: int
    touched: list[str]
    digest: Base64
    state: ApprovalState
    decided_by: str | None = None


class ErrorResult(Answer):
    """A refusal. `retry`: the identical request may succeed later. Readers take codes that came after them as text.

    `pending` is there with the code PENDING: what a second officer has to approve.
    """

    code: Code | str = Field(union_mode="left_to_right")
    message: str
    retry: bool
    pending: ApprovalView | None = None


ERRORS: dict[Code, ErrorResult] = {
    code: ErrorResult(code=code, message=meaning.message, retry=meaning.retry) for code, meaning in MEANINGS.items()
}


class WrapResult(Answer):
    """A wrapped DEK. `id` names the stored one; `blob` is there if it was not stored or was asked for."""

    id: UUID | None = None
    key: UUID
    version: int
    blob: Base64 | None = None


class UnwrapResult(Answer):
    """The DEK itself stands in the sealed part, in the slot of this item.

    `blob` is the DEK wrapped anew, under `blob_version`; there when that was asked for and `version` is not current.
    """

    key: UUID
    version: int
    blob: Base64 | None = None
    blob_version: int | None = None


class RewrapResult(Answer):
    """`unchanged`: it was current already; then the blob is byte-identical and was not verified."""

    id: UUID | None = None
    key: UUID
    version: int
    blob: Base64 | None = None
    unchanged: bool = False


class VersionView(Answer):
    """One version of a key, for people."""

    number: int
    state: State
    created_ms: int
    due_ms: int | None = None
    parent_version: int | None = None
    link: UUID | None = None


class KeyView(Answer):
    """One key, for people. `alias` may be empty when none names it."""

    id: UUID
    tenant: str
    alias: str
    parent: UUID | None = None
    layer: int
    purpose: Purpose
    origin: Origin
    region: str
    enabled: bool
    disabled_revision: int | None = None
    active_version: int
    versions: list[VersionView] = Field(default=[])


class TenantResult(Answer):
    """A tenant and its L1."""

    tenant: str
    layers: int
    key: KeyView


class KeyResult(Answer):
    """The key after the command."""

    key: KeyView


class KeyListResult(Answer):
    """One page of keys; `more` says that there are others after the last."""

    keys: list[KeyView]
    more: bool


class BlastLayer(Answer):
    """What a switch stops in one layer and region: keys, their versions, DEKs stored under them, blobs outside."""

    layer: int
    region: str
    keys: int
    versions: int
    deks: int
    issued_outside: int


class BlastService(Answer):
    """One key that wraps DEKs, and how many."""

    key: UUID
    alias: str
    region: str
    deks: int
    issued_outside: int


class Blast(Answer):
    """The blast radius of a key's switch. `services` are the largest ones, `more` how many are not shown."""

    tenant: str
    layers: list[BlastLayer]
    services: list[BlastService]
    more: int


class DisableResult(Answer):
    """The key's switch and what hangs on it. After a dry run `press` is the command that does it."""

    key: KeyView
    blast: Blast
    press: str | None = None


class Destruction(Answer):
    """What a destruction takes, and until when backups and topics could still bring it back (S15)."""

    version: int
    due_ms: int
    recoverable_until_ms: int
    deks: int
    issued_outside: int
    children: int
    forced: bool


class DestroyResult(Answer):
    """The key after a destruction was scheduled."""

    key: KeyView
    destruction: Destruction


class Transition(Answer):
    """A fact about one key or version: what it became, who wanted it and why, at which revision of the row."""

    tenant: str
    key: UUID
    alias: str
    version: int | None = None
    was: str
    now: str
    who: str
    approved_by: str | None = None
    reason: Reason | None = None
    why: str
    request: str
    correlation: str
    revision: int
    blast: Blast | None = None
    destruction: Destruction | None = None


class Hint(Answer):
    """Broadcast: the handles of these keys, and of all keys below them, must go. No fact, and never needed (D7)."""

    keys: list[UUID]


class PendingResult(ErrorResult):
    """What an officer is told whose command needs a second one: an error to readers that know no better."""

    code: Literal[Code.PENDING] = Code.PENDING
    message: str = MEANINGS[Code.PENDING].message
    retry: bool = False
    pending: ApprovalView


class ClientView(Answer):
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


class ClientResult(Answer):
    """The client after the command."""

    client: ClientView


class ClientListResult(Answer):
    """One page of clients."""

    clients: list[ClientView]
    more: bool


class ApprovalListResult(Answer):
    """One page of approvals."""

    approvals: list[ApprovalView]
    more: bool


class ApprovalResult(Answer):
    """The approval after the command; once it is approved, with what the approved command answers."""

    approval: ApprovalView
    result: DisableResult | DestroyResult | KeyResult | ClientResult | UnlinkResult | MoveResult | LinkResult | None = (
        None
    )


CommandResult = (
    TenantResult
    | KeyResult
    | KeyListResult
    | ClientResult
    | ClientListResult
    | DisableResult
    | DestroyResult
    | PendingResult
    | ApprovalResult
    | ApprovalListResult
    | LinkReport
    | LinkListResult
    | UnlinkResult
    | MoveResult
    | LinkResult
)
Result = ErrorResult | WrapResult | UnwrapResult | RewrapResult | CommandResult


class SealedReply(Answer):
    """DEKs in item order, sealed to the recipient key (HPKE `enc`, ciphertext); a failed item leaves an empty slot."""

    suite: Suite
    ciphertext: Base64


class Reply(Answer):
    """The answer to one request: `results`, or `error` when the request was refused as a whole."""

    results: list[Result] = Field(default=[])
    sealed: SealedReply | None = None
    error: ErrorResult | None = None


RESULTS: dict[Operation, type[Answer]] = {
    Operation.WRAP: WrapResult,
    Operation.UNWRAP: UnwrapResult,
    Operation.REWRAP: RewrapResult,
    Operation.TENANT_CREATE: TenantResult,
    Operation.KEY_CREATE: KeyResult,
    Operation.KEY_ROTATE: KeyResult,
    Operation.KEY_SHOW: KeyResult,
    Operation.KEY_LIST: KeyListResult,
    Operation.KEY_ACTIVATE: KeyResult,
    Operation.KEY_SUSPEND: KeyResult,
    Operation.KEY_RESUME: KeyResult,
    Operation.KEY_DEACTIVATE: KeyResult,
    Operation.KEY_COMPROMISE: KeyResult,
    Operation.KEY_DISABLE: DisableResult,
    Operation.KEY_ENABLE: KeyResult,
    Operation.KEY_DESTROY: DestroyResult,
    Operation.KEY_CANCEL_DESTROY: KeyResult,
    Operation.LINK_CREATE: LinkResult,
    Operation.LINK_SHOW: LinkReport,
    Operation.LINK_LIST: LinkListResult,
    Operation.LINK_CUT: LinkResult,
    Operation.LINK_RESTORE: LinkResult,
    Operation.LINK_UNLINK: UnlinkResult,
    Operation.LINK_DECLARE: LinkResult,
    Operation.TENANT_MOVE: MoveResult,
    Operation.APPROVAL_APPROVE: ApprovalResult,
    Operation.APPROVAL_REJECT: ApprovalResult,
    Operation.APPROVAL_LIST: ApprovalListResult,
    Operation.CLIENT_ADD: ClientResult,
    Operation.CLIENT_ROTATE: ClientResult,
    Operation.CLIENT_REVOKE: ClientResult,
    Operation.CLIENT_LIST: ClientListResult,
}
"""What an item of each operation's answer is, if it is no `ErrorResult`."""


def _reply_of(operation: Operation) -> type[Reply]:
    item: object = RESULTS[operation] | ErrorResult
    name = "".join(word.capitalize() for word in operation.split(".")) + "Reply"
    return create_model(name, __base__=Reply, __doc__=Reply.__doc__, results=(list[item], Field(default=[])))  # type: ignore[valid-type]


REPLIES: dict[Operation, type[Reply]] = {operation: _reply_of(operation) for operation in Operation}
"""What a reader parses each operation's answer with: the results of two operations may look alike."""
