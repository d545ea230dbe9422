"""Four eyes (S14): a command that needs a second officer becomes a row, and that row, approved, becomes the command."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from uuid import UUID

from pydantic import ValidationError

from worker.chain.importing import Importing
from worker.chain.listed import next_after, unbelieved
from worker.chain.plan import Case
from worker.chain.views import approval_view
from worker.chain.work import Commanding, Step
from worker.model.bodies import BODIES, AnyBody, ClientAddBody, ClientRevokeBody, ClientRotateBody
from worker.model.campaign_bodies import CampaignStartBody
from worker.model.codes import Code
from worker.model.control import (
    ApprovalApproveBody,
    ApprovalListBody,
    ApprovalRejectBody,
    KeyCancelDestroyBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeyEnableBody,
)
from worker.model.effects import Seen
from worker.model.facts import Facts, RowPage
from worker.model.fleet import FleetRetireBody, FleetRotateBody
from worker.model.ids import derived_id
from worker.model.importing import KeyImportBody
from worker.model.linking import LinkRestoreBody, LinkUnlinkBody, TenantMoveBody
from worker.model.operations import SECOND_OFFICER, Operation
from worker.model.outcomes import Commanded
from worker.model.policies import GrantGiveBody, PolicyAllowBody
from worker.model.regional import RegionSetBody
from worker.model.replies import ApprovalListResult, ApprovalResult, PendingResult
from worker.model.rows import Approval, ApprovalState, Client, Key, Role, Row, RowRef, Table
from worker.model.triggering import TriggerAddBody
from worker.seal.frames import framed

LIFE_MS = 24 * 3_600_000
PAGE_BYTES = 512 * 1024
"""Of commands in one page of the list."""
_FORMAT = b"keyriver-approval/1"
_ALWAYS = (
    KeyEnableBody,
    KeyDestroyBody,
    KeyCancelDestroyBody,
    ClientAddBody,
    ClientRotateBody,
    PolicyAllowBody,
    GrantGiveBody,
    LinkRestoreBody,
    LinkUnlinkBody,
    TenantMoveBody,
    FleetRotateBody,
    FleetRetireBody,
    RegionSetBody,
    TriggerAddBody,
)
CarryOut = Callable[[Case, AnyBody], Step | Code]


def needs_second(body: AnyBody, step: Commanding) -> bool:
    """Whether one officer is not enough for what the command would do.

    Stopping is one officer's, except that of a layer 1 key and that of another officer. So is an import, unless the
    fleet made the key so far. A campaign's start is a destruction's, too, if it says so.
    """
    if isinstance(body, KeyDisableBody):
        return any(isinstance(row, Key) and row.parent is None for row in step.rows)
    if isinstance(body, CampaignStartBody):
        return body.destroy_after_s > 0
    if isinstance(body, ClientRevokeBody):
        return any(isinstance(row, Client) and row.role is Role.OFFICER for row in step.rows)
    if isinstance(body, KeyImportBody):
        return isinstance(step, Importing) and step.takes_over
    return isinstance(body, _ALWAYS)


def asked(case: Case, body: AnyBody, step: Commanding) -> Commanding:
    """Instead of the command: the row that waits for a second officer.

    It rests on what the command rests on, and on who asked: an officer who is revoked meanwhile has asked nothing.
    """
    key = case.request.key
    asker = Seen(case.client.ref, case.client.revision)
    approval = Approval(
        id=derived_id(case.request.time_ms, key.tenant, key.client, key.source, key.id, "approval"),
        tenant=getattr(body, "tenant", key.tenant),
        operation=case.request.operation.value,
        body=body.model_dump_json(exclude_defaults=True).encode(),
        asked_by=case.client.id,
        request=key.id,
        asked_ms=case.facts.now_ms,
        expires_ms=case.facts.now_ms + LIFE_MS,
        touched=tuple(f"{seen.ref.table} {seen.ref.key} {seen.revision}" for seen in (asker, *step.rests)),
        state=ApprovalState.PENDING,
        decided_by="",
        revision=1,
    )
    view = approval_view(approval, digest(approval))
    return Commanding(
        op=None,
        version=None,
        rows=(approval,),
        changes=(),
        rests=step.rests,
        result=PendingResult(pending=view),
        event="keyriver.approval.requested.v1",
        told=ApprovalResult(approval=view),
    )


def approve(case: Case, body: ApprovalApproveBody, carry_out: CarryOut) -> Step | Code:
    """Carry the command out, in this order.

    1. It is pending, and the officer saw what he approves.
    2. He is another one than who asked, and was not enrolled by that one alone.
    3. It has not expired, and no row that it was planned on has moved; else that is written down, and nothing else.
    4. The command is planned anew, on the rows as they are now.
    """
    approval = _pending(case, body.tenant, body)
    if isinstance(approval, Code):  # 1
        return approval
    if body.digest != digest(approval):
        return Code.DIGEST_DIFFERS
    if approval.asked_by in (case.client.id, case.client.enrolled_by):  # 2
        return Code.SECOND_OFFICER
    if case.facts.now_ms >= approval.expires_ms:  # 3
        return ended(approval, ApprovalState.EXPIRED, "")
    if any(not _stands(case.facts, one) for one in approval.touched):
        return ended(approval, ApprovalState.VOIDED, case.client.id)
    command = command_of(approval)
    if command is None:  # 4
        return Code.INTEGRITY
    operation, inner = command
    request = replace(case.request, operation=operation, body=inner)
    step = carry_out(replace(case, request=request, approval=approval), inner)
    if not isinstance(step, Commanding):
        return step if isinstance(step, Code) else Code.CONFLICT
    return _both(ended(approval, ApprovalState.APPROVED, case.client.id), step)


def reject(case: Case, body: ApprovalRejectBody) -> Step | Code:
    """End it. Whoever asked may do that, too: it only takes something back."""
    approval = _pending(case, body.tenant, body)
    return approval if isinstance(approval, Code) else ended(approval, ApprovalState.REJECTED, case.client.id)


def list_page(case: Case, body: ApprovalListBody) -> Step | Code:
    """One page of approvals; what expired without anybody noting it is told as expired."""
    found = case.facts.pages.get(approval_paging(body), ())
    wanted = frozenset(found[: body.limit])
    known = sorted((one for one in case.facts.approvals.values() if one.ref in wanted), key=lambda one: one.id)
    fitting = _fitting(known)
    views = [approval_view(_as_of(one, case.facts.now_ms), digest(one)) for one in fitting]
    cut = len(fitting) < len(known)
    shown = [ref for ref in found[: body.limit] if not cut or ref.key <= str(fitting[-1].id)]
    more = cut or len(found) > body.limit
    return Commanded(
        ApprovalListResult(
            approvals=views, more=more, tampered=unbelieved(case.facts, shown), next_after=next_after(shown, more=more)
        )
    )


def _fitting(approvals: list[Approval]) -> list[Approval]:
    """So many of them, and one at least, as an answer has room for: bodies may be as large as requests."""
    room = PAGE_BYTES
    for count, one in enumerate(approvals):
        room -= len(one.body) + sum(map(len, one.touched))
        if room < 0 and count:
            return approvals[:count]
    return approvals


def approval_paging(body: ApprovalListBody) -> RowPage:
    """The page that this body asks for."""
    after = "" if body.after is None else str(body.after)
    return RowPage(Table.APPROVALS, body.tenant or "", after, body.limit + 1)


def approval_ref(id_: UUID) -> RowRef:
    """The row of this approval."""
    return RowRef(Table.APPROVALS, str(id_))


def ended(approval: Approval, state: ApprovalState, by: str) -> Commanding:
    """The approval in its last state, and nothing else."""
    done = replace(approval, state=state, decided_by=by, revision=approval.revision + 1)
    result = ApprovalResult(approval=approval_view(done, digest(approval)))
    return Commanding(
        op=None,
        version=None,
        rows=(done,),
        changes=(approval.ref,),
        rests=(Seen(approval.ref, approval.revision),),
        result=result,
        event=_EVENTS[state],
        told=result,
    )


_EVENTS = {
    ApprovalState.APPROVED: "keyriver.approval.approved.v1",
    ApprovalState.REJECTED: "keyriver.approval.rejected.v1",
    ApprovalState.VOIDED: "keyriver.approval.voided.v1",
    ApprovalState.EXPIRED: "keyriver.approval.expired.v1",
}


def digest(approval: Approval) -> bytes:
    """What a second officer signs: the command, who asked, the rows that it touches, and until when it holds."""
    return digest_of(
        approval.operation,
        approval.tenant,
        approval.body,
        approval.asked_by,
        approval.expires_ms,
        approval.touched,
    )


def digest_of(
    operation: str, tenant: str, body: bytes, asked_by: str, expires_ms: int, touched: tuple[str, ...]
) -> bytes:
    """SHA-256 of the length-prefixed parts; an approver computes it from what he is shown."""
    texts = (operation, tenant, asked_by, str(expires_ms), *touched)
    return sha256(framed(_FORMAT, body, *[text.encode() for text in texts])).digest()


def command_of(approval: Approval) -> tuple[Operation, AnyBody] | None:
    """The command that waits, or None if the row holds none that may."""
    try:
        operation = Operation(approval.operation)
        return (
            (operation, BODIES[operation].model_validate_json(approval.body)) if operation in SECOND_OFFICER else None
        )
    except (ValueError, ValidationError):
        return None


def _pending(case: Case, tenant: str, body: ApprovalApproveBody | ApprovalRejectBody) -> Approval | Code:
    approval = case.facts.approvals.get(body.approval)
    if approval is None:
        tampered = RowRef(Table.APPROVALS, str(body.approval)) in case.facts.tampered
        return Code.INTEGRITY if tampered else Code.NOT_FOUND
    if approval.tenant != tenant:
        return Code.NOT_FOUND
    return approval if approval.state is ApprovalState.PENDING else Code.CONFLICT


def _stands(facts: Facts, touched: str) -> bool:
    """Whether the row still has the revision that was seen."""
    table, key, revision = touched.split(" ")
    rows: dict[str, Row | None] = {
        Table.TENANTS: facts.tenants.get(key),
        Table.CLIENTS: facts.clients.get(key),
        Table.KEYS: next((row for id_, row in facts.keys.items() if str(id_) == key), None),
        Table.VERSIONS: next((row for row in facts.versions.values() if row.ref.key == key), None),
    }
    row = rows[table] if table in rows else facts.rows.get(RowRef(Table(table), key))
    return str(0 if row is None else row.revision) == revision


def _both(approved: Commanding, step: Commanding) -> Commanding:
    """The command and the approval's end, in one settlement."""
    assert isinstance(approved.result, ApprovalResult)  # noqa: S101 - `ended` made it
    return replace(
        step,
        rows=(*step.rows, *approved.rows),
        changes=(*step.changes, *approved.changes),
        rests=(*step.rests, *approved.rests),
        result=ApprovalResult(approval=approved.result.approval, result=step.result),
        told=step.told or step.result,
        also=(*step.also, (approved.event, approved.result)),
    )


def _as_of(approval: Approval, now_ms: int) -> Approval:
    over = approval.state is ApprovalState.PENDING and now_ms >= approval.expires_ms
    return replace(approval, state=ApprovalState.EXPIRED) if over else approval
