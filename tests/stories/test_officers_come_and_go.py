"""Officers after init: two enrol a third, two remove one of the first, and two always remain (S14)."""

import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fleet import Fleet
from tests.scribe import Scribe
from tests.stack import Services
from tests.unheard import is_dead_lettered
from worker.client.errors import Pending, RequestRefused
from worker.local import softhsm
from worker.model.bodies import ClientAddBody, ClientListBody, ClientRevokeBody, KeyRotateBody, TenantCreateBody
from worker.model.operations import Operation
from worker.model.replies import ApprovalView, ClientListResult, ClientResult
from worker.model.rows import FLEET_TENANT, Suite
from worker.seal.hpke import generate_keypair
from worker.seal.identity import Identity, generate_private_key_pem

YEAR_MS = 365 * 24 * 3_600_000


@pytest.fixture
async def fleet(stack: Services, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet of its own: its officers change."""
    module = Path(shutil.copy2(softhsm.module(), tmp_path / "module.so"))
    async with Fleet.founded(stack, tmp_path, softhsm.token(tmp_path / "token", module_file=module)) as founded:
        founded.start()
        await founded.at_work(1)
        yield founded


def officer(fleet: Fleet, name: str) -> tuple[Identity, ClientAddBody]:
    made = replace(
        fleet.officers[0],
        client=name,
        private_key=generate_private_key_pem(fleet.officers[0].algorithm),
        recipient=generate_keypair(Suite.X25519),
    )
    body = ClientAddBody(
        tenant=FLEET_TENANT,
        client=name,
        public_key=made.signer().public_key,
        permissions=[],
        reply_topics=[made.reply_topic],
        recipient_suite=made.recipient.suite,
        recipient_key=made.recipient.public,
        not_after_ms=time.time_ns() // 1_000_000 + YEAR_MS,
    )
    return made, body


async def pending(
    fleet: Fleet, number: int, operation: Operation, body: ClientAddBody | ClientRevokeBody
) -> ApprovalView:
    with pytest.raises(Pending) as told:
        await (await fleet.officer(number)).command(operation, body)
    return told.value.approval


async def test_a_third_comes_and_a_first_goes(fleet: Fleet) -> None:
    # Given Alice and Bob; When Alice wants Cara among them, Then Bob has to agree
    cara, enrolling = officer(fleet, "cara")
    asked = await pending(fleet, 0, Operation.CLIENT_ADD, enrolling)
    with pytest.raises(RequestRefused, match="SECOND_OFFICER"):
        await fleet.approve(asked, 0)
    added = (await fleet.approve(asked, 1)).result
    assert isinstance(added, ClientResult)
    assert (added.client.role, added.client.tenant) == ("officer", FLEET_TENANT)
    # And Cara commands, and approves what Alice asks for: Alice did not enrol her alone
    fleet.officers.append(cara)
    await (await fleet.officer(2)).command(Operation.TENANT_CREATE, TenantCreateBody(tenant="acme"))
    # When Alice and Cara remove Bob
    leaving = ClientRevokeBody(tenant=FLEET_TENANT, client="bob")
    removed = (await fleet.approve(await pending(fleet, 0, Operation.CLIENT_REVOKE, leaving), 2)).result
    assert isinstance(removed, ClientResult)
    assert removed.client.revoked
    # Then what Bob signs is not heard any more
    async with Scribe(fleet, fleet.officers[1]) as bob:
        rotating = KeyRotateBody(tenant="acme", key="acme").model_dump_json().encode()
        draft = bob.draft(Operation.KEY_ROTATE, rotating)
        await is_dead_lettered(fleet, bob, draft.record(), "UNAUTHENTICATED")
    # And neither Alice nor Cara can go, for two must remain
    for name in ("alice", "cara"):
        body = ClientRevokeBody(tenant=FLEET_TENANT, client=name)
        with pytest.raises(RequestRefused, match="TOO_FEW_OFFICERS"):
            await (await fleet.officer()).command(Operation.CLIENT_REVOKE, body)
    told = await (await fleet.officer()).command(Operation.CLIENT_LIST, ClientListBody(tenant=FLEET_TENANT))
    assert isinstance(told, ClientListResult)
    assert [(one.id, one.revoked) for one in told.clients] == [("alice", False), ("bob", True), ("cara", False)]


async def test_two_removals_that_race_leave_two(fleet: Fleet) -> None:
    # Given three officers, and two of them to be removed, each by two others
    cara, enrolling = officer(fleet, "cara")
    await fleet.approve(await pending(fleet, 0, Operation.CLIENT_ADD, enrolling))
    fleet.officers.append(cara)
    waiting = [
        await pending(fleet, 0, Operation.CLIENT_REVOKE, ClientRevokeBody(tenant=FLEET_TENANT, client=name))
        for name in ("bob", "cara")
    ]
    # When the first removal took effect, Then the second is void: it rested on who is gone
    await fleet.approve(waiting[1], 1)
    assert (await fleet.approve(waiting[0], 1)).approval.state == "voided"
    body = ClientRevokeBody(tenant=FLEET_TENANT, client="bob")
    with pytest.raises(RequestRefused, match="TOO_FEW_OFFICERS"):
        await (await fleet.officer()).command(Operation.CLIENT_REVOKE, body)
