"""`keyriver approval`: commands that wait for a second officer (S14)."""

from datetime import UTC, datetime
from time import time_ns
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter

from worker.chain.approvals import digest_of
from worker.cli.body import body
from worker.cli.errors import Refused
from worker.cli.officer import As, Json, Officer
from worker.cli.output import say, show, show_json, show_table
from worker.cli.pages import every
from worker.model.control import ApprovalApproveBody, ApprovalListBody, ApprovalRejectBody
from worker.model.operations import Operation
from worker.model.replies import ApprovalListResult, ApprovalResult, ApprovalView
from worker.model.rows import ApprovalState

_PENDING_MS = 16 * 24 * 3_600_000

approval = App(
    name="approval",
    help="""Commands that need a second officer. Who asked can't approve; `--as` names the officer who signs.""",
    help_format="markdown",
)


@approval.command(name="list")
async def list_approvals(
    tenant: str | None = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="", help="Those that are decided, too.")] = False,
    signs: As = None,
    json: Json = False,
) -> None:
    """List what waits for a second officer.

    ```
    keyriver approval list
    keyriver approval list acme --all
    ```

    Args:
        tenant: Only this tenant's.
    """
    async with Officer(signs) as asking:
        found = await _all(asking, tenant, None if every else _oldest())
    shown = [one for one in found if every or one.state is ApprovalState.PENDING]
    if json:
        show_json(shown)
        return
    heads = ("ID", "STATE", "COMMAND", "ASKED BY", "UNTIL", "WHAT")
    show_table(heads, [(one.id, one.state, one.operation, one.asked_by, _until(one), one.body) for one in shown])
    if len(shown) < len(found):
        say("those that are decided are not shown; --all shows them, too")


@approval.command
async def approve(id_: UUID, /, *, signs: As = None, json: Json = False) -> None:
    """Approve a command; it is carried out at once. What is signed is the digest of what is shown here.

    ```
    keyriver approval approve 01936120-0000-7000-8000-00000000ab01 --as .keyriver/identities/bob.json
    ```

    Args:
        id_: The approval, as the pending command named it.
    """
    async with Officer(signs) as asking:
        waiting = await _found(asking, id_)
        say(f"{waiting.operation} {waiting.body}\n  asked by {waiting.asked_by}, {asking.identity.client} approves")
        asked = body(ApprovalApproveBody, tenant=waiting.tenant, approval=id_, digest=_digest(waiting))
        done = await asking.ask(Operation.APPROVAL_APPROVE, asked, ApprovalResult)
    _show(done, json=json)
    if done.approval.state is ApprovalState.VOIDED:
        raise Refused("voided: what it is about has changed since it was asked; ask for it again")
    if done.approval.state is not ApprovalState.APPROVED:
        raise Refused(f"{done.approval.state}: nothing was done; ask for it again")


@approval.command
async def reject(
    id_: UUID, /, *, why: Annotated[str, Parameter(name="--why")] = "", signs: As = None, json: Json = False
) -> None:
    """End a pending command. Whoever asked may do that, too.

    ```
    keyriver approval reject 01936120-0000-7000-8000-00000000ab01
    ```

    Args:
        id_: The approval.
        why: The reason.
    """
    async with Officer(signs) as asking:
        waiting = await _found(asking, id_)
        asked = body(ApprovalRejectBody, tenant=waiting.tenant, approval=id_, why=why)
        done = await asking.ask(Operation.APPROVAL_REJECT, asked, ApprovalResult)
    _show(done, json=json)


def teach(waiting: ApprovalView) -> str:
    """What an officer is told whose command waits."""
    return (
        f"pending: another officer runs `keyriver approval approve {waiting.id}` before {_until(waiting)}\n"
        f"  {waiting.operation} {waiting.body}\n  digest {waiting.digest.hex()}"
    )


def _oldest() -> UUID:
    """Before what pending approvals begin: ids tell when they were asked, and a request waits 14 days at most (D1)."""
    return UUID(int=(time_ns() // 1_000_000 - _PENDING_MS) << 80)


async def _all(asking: Officer, tenant: str | None, after: UUID | None) -> list[ApprovalView]:
    return await every(
        asking,
        Operation.APPROVAL_LIST,
        body(ApprovalListBody, tenant=tenant, after=after),
        ApprovalListResult,
        lambda page: page.approvals,
        lambda page: page.approvals[-1].id if page.more and page.approvals else None,
    )


async def _found(asking: Officer, id_: UUID) -> ApprovalView:
    before = UUID(int=max(0, id_.int - 1))  # a page of one, that begins with it
    page = await asking.ask(Operation.APPROVAL_LIST, body(ApprovalListBody, after=before, limit=1), ApprovalListResult)
    for one in page.approvals:
        if one.id == id_:
            return one
    raise Refused(f"there is no approval {id_}: `keyriver approval list` shows what waits")


def _digest(waiting: ApprovalView) -> bytes:
    """Of what was shown, not what the fleet says that it is."""
    made = digest_of(
        waiting.operation,
        waiting.tenant,
        waiting.body.encode(),
        waiting.asked_by,
        waiting.expires_ms,
        tuple(waiting.touched),
    )
    if made != waiting.digest:
        raise Refused(f"the digest of {waiting.id} is not that of what is shown: don't approve it")
    return made


def _show(done: ApprovalResult, *, json: bool) -> None:
    if json:
        show_json(done)
        return
    show(f"{done.approval.id}  {done.approval.state}")
    if done.result is not None:
        show(done.result.model_dump_json(indent=2, exclude_none=True))


def _until(one: ApprovalView) -> str:
    return datetime.fromtimestamp(one.expires_ms / 1000, UTC).isoformat(timespec="seconds")
