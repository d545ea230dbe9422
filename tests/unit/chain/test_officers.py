"""Officers after init: enrolled and removed by two, and at least two remain (S14)."""

from dataclasses import replace

import pytest

from tests.unit.chain.test_client_commands import ADD, ask, code, put
from tests.unit.chain.world import NOW, World, officer
from worker.chain.approvals import digest
from worker.chain.clients import ALL_OFFICERS
from worker.model.bodies import ClientAddBody, ClientRevokeBody
from worker.model.codes import Code
from worker.model.control import ApprovalApproveBody
from worker.model.effects import PutRow, Seen
from worker.model.operations import Operation
from worker.model.rows import FLEET_TENANT, Approval, Client, Role, RowRef, Table

CARA = ADD.model_copy(update={"tenant": FLEET_TENANT, "client": "cara", "permissions": []})
WITHOUT_BEN = ClientRevokeBody(tenant=FLEET_TENANT, client="ben")


def world(*more: Client) -> World:
    made = World()
    for one in more:
        made.put(one)
    names = sorted({"ann", "ben", *(one.id for one in more)})
    made.client_pages = {ALL_OFFICERS: tuple(names)}
    return made


def test_an_officer_is_enrolled_by_two_and_may_use_no_key() -> None:
    where = world()
    made = put(where.approved(ask(where, CARA)))
    assert (made.id, made.tenant, made.role, made.permissions, made.pattern) == ("cara", "fleet", Role.OFFICER, (), "")
    assert made.enrolled_by == "ann+ben"
    allowed: ClientAddBody = ADD.model_copy(update={"tenant": FLEET_TENANT, "client": "cara"})
    assert code(where, allowed) is Code.MALFORMED


def test_nobody_approves_for_who_enrolled_him_alone() -> None:
    where = world(replace(officer("cara"), enrolled_by="ann"))
    waiting = where.run(ask(where, CARA.model_copy(update={"client": "dan"})))
    assert waiting.settlement.effects

    (row,) = [effect.row for effect in waiting.settlement.effects if isinstance(effect, PutRow)]
    assert isinstance(row, Approval)
    where.put(row)

    body = ApprovalApproveBody(tenant=FLEET_TENANT, approval=row.id, digest=digest(row))
    (step,) = where.plan(where.request(Operation.APPROVAL_APPROVE, body, "cara", "r2")).steps
    assert getattr(step, "code", None) is Code.SECOND_OFFICER


def test_of_three_one_may_go_and_the_others_must_stay_meanwhile() -> None:
    where = world(officer("cara"))
    done = where.approved(ask(where, WITHOUT_BEN))
    assert put(done).revoked
    for name in ("ann", "cara"):
        assert Seen(RowRef(Table.CLIENTS, name), 1) in done.settlement.seen


@pytest.mark.parametrize(
    "third",
    [
        None,
        replace(officer("cara"), revoked=True),
        replace(officer("cara"), not_after_ms=NOW),
        replace(officer("cara"), role=Role.SERVICE),
    ],
)
def test_of_two_who_count_none_may_go(third: Client | None) -> None:
    where = world() if third is None else world(third)
    assert code(where, WITHOUT_BEN) is Code.TOO_FEW_OFFICERS
    unread = World()
    unread.put(officer("cara"))
    assert code(unread, WITHOUT_BEN) is Code.TOO_FEW_OFFICERS, "of whom nobody asked nobody counts"


def test_who_is_gone_already_can_be_removed_again() -> None:
    where = world(replace(officer("cara"), revoked=True))
    (step,) = where.plan(ask(where, ClientRevokeBody(tenant=FLEET_TENANT, client="cara"))).steps
    assert step is not None
