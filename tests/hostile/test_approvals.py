"""Four eyes against one officer who can write the database, and against services (S7, S14): nothing takes effect."""

import time
from collections.abc import AsyncIterator

import pytest

from tests.fleet import Fleet, House
from tests.hostile.docket import rows
from tests.scribe import Scribe
from worker.client.errors import Pending, RequestRefused
from worker.model.bodies import ClientAddBody
from worker.model.control import ApprovalApproveBody, ApprovalRejectBody
from worker.model.operations import Operation, Permission
from worker.model.replies import ApprovalView

HOUR_MS = 3_600_000
EDITS = {
    "another command": "body = convert_to(replace(convert_from(body, 'UTF8'), 'unwrap', 'rewrap'), 'UTF8')",
    "another operation": "operation = 'client.revoke'",
    "asked by another": "asked_by = 'bob'",
    "a longer life": "expires_ms = expires_ms + 1",
    "another row touched": "touched = array_append(touched, 'tenants t 1')",
    "another tenant": "tenant = 'fleet'",
    "decided already": "state = 'approved', decided_by = 'bob'",
    "another revision": "revision = 2",
    "no MAC": "mac = ''",
}


def adding(house: House, name: str) -> ClientAddBody:
    return ClientAddBody(
        tenant=house.tenant,
        client=name,
        public_key=house.identity.signer().public_key,
        permissions=[Permission.UNWRAP],
        reply_topics=[house.identity.reply_topic],
        not_after_ms=time.time_ns() // 1_000_000 + HOUR_MS,
    )


@pytest.fixture
async def waiting(fleet: Fleet, house: House) -> ApprovalView:
    """Alice wants a client, and Bob has not been asked."""
    with pytest.raises(Pending) as told:
        await (await fleet.officer(0)).command(Operation.CLIENT_ADD, adding(house, f"{house.tenant}-mallory"))
    return told.value.approval


@pytest.fixture
async def unchanged(fleet: Fleet, waiting: ApprovalView) -> AsyncIterator[None]:
    """Nothing of what can be made was made."""
    before = await rows(fleet)
    yield
    after = await rows(fleet)
    assert after | {"ledger": 0} == before | {"ledger": 0}


@pytest.mark.parametrize("number", [0, 1], ids=["by who asked", "by the second"])
async def test_an_edited_approval_is_refused(
    fleet: Fleet, house: House, waiting: ApprovalView, unchanged: None, number: int
) -> None:
    """Whatever is changed in the row, neither officer carries it out."""
    columns = await fleet.pool.fetchrow("SELECT * FROM keyriver.approvals WHERE id = $1", waiting.id)
    assert columns is not None
    for what, edit in EDITS.items():
        await fleet.pool.execute(f"UPDATE keyriver.approvals SET {edit} WHERE id = $1", waiting.id)  # noqa: S608
        for view in (waiting, waiting.model_copy(update={"tenant": "fleet"})):
            with pytest.raises(RequestRefused) as refused:
                await fleet.approve(view, number)
            assert refused.value.code in {"INTEGRITY", "NOT_FOUND"}, what
        await fleet.pool.execute("DELETE FROM keyriver.approvals WHERE id = $1", waiting.id)
        places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        await fleet.pool.execute(f"INSERT INTO keyriver.approvals VALUES ({places})", *columns.values())  # noqa: S608


async def test_a_rejected_one_does_not_come_back(
    fleet: Fleet, house: House, waiting: ApprovalView, unchanged: None
) -> None:
    body = ApprovalRejectBody(tenant=house.tenant, approval=waiting.id)
    await (await fleet.officer(1)).command(Operation.APPROVAL_REJECT, body)
    with pytest.raises(RequestRefused, match="CONFLICT"):
        await fleet.approve(waiting)
    await fleet.pool.execute("UPDATE keyriver.approvals SET state = 'pending' WHERE id = $1", waiting.id)
    with pytest.raises(RequestRefused, match="INTEGRITY"):
        await fleet.approve(waiting)


async def test_who_asked_and_whoever_is_no_officer_agree_to_nothing(
    fleet: Fleet, house: House, waiting: ApprovalView, unchanged: None
) -> None:
    with pytest.raises(RequestRefused, match="SECOND_OFFICER"):
        await fleet.approve(waiting, 0)
    body = ApprovalApproveBody(tenant=house.tenant, approval=waiting.id, digest=waiting.digest)
    async with Scribe(fleet, house.identity) as service:
        for tried in (body, ApprovalRejectBody(tenant=house.tenant, approval=waiting.id)):
            operation = Operation.APPROVAL_APPROVE if tried is body else Operation.APPROVAL_REJECT
            answer = await service.ask(service.draft(operation, tried.model_dump_json().encode()))
            assert (answer.code or answer.codes[0]) == "NOT_FOUND"


async def test_an_approval_that_is_sent_again_does_nothing_again(
    fleet: Fleet, house: House, waiting: ApprovalView
) -> None:
    body = ApprovalApproveBody(tenant=house.tenant, approval=waiting.id, digest=waiting.digest)
    async with Scribe(fleet, fleet.officers[1]) as bob:
        draft = bob.draft(Operation.APPROVAL_APPROVE, body.model_dump_json().encode())
        first = await bob.ask(draft)
        assert not first.code
        before = await rows(fleet)
        await fleet.send(draft.record())
        again = (await bob.answers(draft.id, 2))[-1]
        assert again == first
        anew = await bob.ask(bob.draft(Operation.APPROVAL_APPROVE, body.model_dump_json().encode()))
        assert (anew.code or anew.codes[0]) == "CONFLICT"
    assert (await rows(fleet)) | {"ledger": 0} == before | {"ledger": 0}
