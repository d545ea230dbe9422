"""The red button, four eyes, and what falls due."""

import json
from dataclasses import replace

import pytest

from tests.unit.chain.test_life_commands import events, puts, world
from tests.unit.chain.world import EU, NOW, PAYMENTS, ROOT, World, key_ref, uid
from worker.chain.approvals import LIFE_MS, PAGE_BYTES, approval_ref, command_of, digest
from worker.chain.clients import ALL_OFFICERS
from worker.chain.plan import Conclusion
from worker.chain.switch import SHOWN, blast_of
from worker.model.bodies import AnyBody, ClientRevokeBody
from worker.model.codes import Code
from worker.model.control import (
    ApprovalApproveBody,
    ApprovalListBody,
    ApprovalRejectBody,
    KeyDisableBody,
    KeyEnableBody,
)
from worker.model.effects import Leaf
from worker.model.facts import Below, RowPage
from worker.model.operations import Operation
from worker.model.outcomes import Commanded, Failed
from worker.model.replies import ApprovalListResult, ApprovalResult, DisableResult, PendingResult
from worker.model.rows import FLEET_TENANT, Alias, Approval, ApprovalState, Client, Key, RowRef, Table

BELOW = (
    Below(EU, "acme/eu", 2, "eu", False, 1, 0, 0),
    Below(PAYMENTS, "acme/eu/payments", 3, "eu", True, 2, 7, 1),
    Below(uid(4), "acme/eu/cards", 3, "eu", True, 1, 9, 0),
)


def asked(where: World, body: AnyBody, officer: str = "ann", id_: str = "r1") -> Conclusion:
    operation = {
        ClientRevokeBody: Operation.CLIENT_REVOKE,
        KeyDisableBody: Operation.KEY_DISABLE,
        KeyEnableBody: Operation.KEY_ENABLE,
        ApprovalApproveBody: Operation.APPROVAL_APPROVE,
        ApprovalRejectBody: Operation.APPROVAL_REJECT,
        ApprovalListBody: Operation.APPROVAL_LIST,
    }[type(body)]
    return where.run(where.request(operation, body, officer, id_))


def result(concluded: Conclusion) -> object:
    (outcome,) = concluded.outcomes
    assert isinstance(outcome, Commanded), outcome
    return outcome.result


def refusal(concluded: Conclusion) -> Code:
    (outcome,) = concluded.outcomes
    assert isinstance(outcome, Failed), outcome
    return outcome.code


def disabled(key: str = "acme/eu") -> World:
    where = world()
    where.below = {EU: BELOW}
    (row,) = puts(asked(where, KeyDisableBody(tenant="acme", key=key)))
    where.put(row)
    return where


def waiting(where: World, body: AnyBody, officer: str = "ann", id_: str = "r2") -> Approval:
    concluded = asked(where, body, officer, id_)
    assert isinstance(result(concluded), PendingResult)
    assert events(concluded) == ["approval.requested"]
    (row,) = puts(concluded)
    assert isinstance(row, Approval)
    where.put(row)
    return row


def approve(where: World, row: Approval, officer: str = "ben") -> Conclusion:
    return asked(where, ApprovalApproveBody(tenant=row.tenant, approval=row.id, digest=digest(row)), officer, "r3")


# The switch.


def test_a_dry_run_tells_everything_and_changes_nothing() -> None:
    where = world()
    where.below = {EU: BELOW}
    concluded = asked(where, KeyDisableBody(tenant="acme", key="acme/eu", dry_run=True))
    told = result(concluded)
    assert isinstance(told, DisableResult)
    assert (puts(concluded), events(concluded)) == ([], [])
    assert told.press == "keyriver key disable acme/eu --tenant acme"
    layers = [
        (one.layer, one.region, one.keys, one.versions, one.deks, one.issued_outside) for one in told.blast.layers
    ]
    assert layers == [(2, "eu", 1, 1, 0, 0), (3, "eu", 2, 3, 16, 1)]
    assert [one.alias for one in told.blast.services] == ["acme/eu/cards", "acme/eu/payments"]


def test_a_long_list_of_services_is_cut_and_counted() -> None:
    many = [Below(uid(n), f"acme/{n}", 3, "", True, 1, n, 0) for n in range(SHOWN + 5)]
    blast = blast_of("acme", many)
    assert (len(blast.services), blast.more, blast.services[0].deks) == (SHOWN, 5, SHOWN + 4)


def test_pressing_again_is_a_disable_of_its_own_and_voids_an_enable_that_waits() -> None:
    where, waits = enable()
    row = where.key(EU)
    assert (row.enabled, row.disabled_revision, row.revision) == (False, 2, 2)
    again = asked(where, KeyDisableBody(tenant="acme", key="acme/eu"), id_="r9")
    assert isinstance(result(again), DisableResult)
    (pressed,) = puts(again)
    assert isinstance(pressed, Key)
    assert (pressed.enabled, pressed.disabled_revision, pressed.revision) == (False, 3, 3)
    where.put(pressed)
    assert events(approve(where, waits)) == ["approval.voided"]


@pytest.mark.parametrize(
    "body", [KeyDisableBody(tenant="acme", key="x"), KeyEnableBody(tenant="acme", key="x", revision=1)]
)
def test_an_unknown_key_has_no_switch(body: AnyBody) -> None:
    assert refusal(asked(world(), body)) is Code.NOT_FOUND


def test_an_enable_names_the_disable_that_it_lifts() -> None:
    where = disabled()
    assert refusal(asked(where, KeyEnableBody(tenant="acme", key="acme/eu", revision=1), id_="a")) is Code.CONFLICT
    assert refusal(asked(where, KeyEnableBody(tenant="acme", key="acme", revision=2), id_="b")) is Code.CONFLICT
    row = waiting(where, KeyEnableBody(tenant="acme", key="acme/eu", revision=2))
    done = approve(where, row)
    (on, decided) = puts(done)
    assert isinstance(on, Key)
    assert (on.enabled, on.disabled_revision, on.revision) == (True, 0, 3)
    assert isinstance(decided, Approval)
    assert (decided.state, decided.decided_by) == (ApprovalState.APPROVED, "ben")
    assert events(done) == ["key.enabled", "approval.approved"]
    assert {key_ref(EU), row.ref} == set(done.settlement.changes)


def test_a_layer_1_key_is_not_disabled_by_one_officer() -> None:
    where = world()
    row = waiting(where, KeyDisableBody(tenant="acme", key="acme"))
    assert row.touched == ("clients ann 1", f"keys {ROOT} 1")
    assert events(approve(where, row)) == ["key.disabled", "approval.approved", "hint"]


# Four eyes.


def enable(where: World | None = None) -> tuple[World, Approval]:
    where = where or disabled()
    return where, waiting(where, KeyEnableBody(tenant="acme", key="acme/eu", revision=2))


def test_nobody_approves_his_own_nor_whom_he_enrolled_alone() -> None:
    where, row = enable()
    assert refusal(approve(where, row, "ann")) is Code.SECOND_OFFICER
    where.put(replace(where.client("ben"), enrolled_by="ann"))
    assert refusal(approve(where, row)) is Code.SECOND_OFFICER


def test_who_approves_signs_what_he_saw() -> None:
    where, row = enable()
    body = ApprovalApproveBody(tenant="acme", approval=row.id, digest=bytes(32))
    assert refusal(asked(where, body, "ben")) is Code.DIGEST_DIFFERS


@pytest.mark.parametrize("change", ["operation", "tenant", "body", "asked_by", "expires_ms", "touched"])
def test_the_digest_covers_the_command_and_what_it_touches(change: str) -> None:
    _, row = enable()
    other = {"body": b"{}", "expires_ms": 1, "touched": ()}.get(change, "other")
    assert digest(replace(row, **{change: other})) != digest(row)  # type: ignore[arg-type]


def test_a_row_that_moved_voids_it_and_nothing_else_happens() -> None:
    where, row = enable()
    where.put(replace(where.key(EU), revision=3))
    done = approve(where, row)
    told = result(done)
    assert isinstance(told, ApprovalResult)
    assert (told.approval.state, told.result, events(done)) == (ApprovalState.VOIDED, None, ["approval.voided"])
    (decided,) = puts(done)
    where.put(decided)
    assert refusal(approve(where, row)) is Code.CONFLICT


def test_after_a_day_it_has_expired() -> None:
    where, row = enable()
    assert row.expires_ms == NOW + LIFE_MS
    row = replace(row, expires_ms=NOW)
    where.put(row)
    page = RowPage(Table.APPROVALS, "", "", 501)
    where.pages = {page: (row.ref, approval_ref(uid(99)))}
    listed = result(asked(where, ApprovalListBody(), "ben", "l"))
    assert isinstance(listed, ApprovalListResult)
    assert [(one.state, one.digest) for one in listed.approvals] == [(ApprovalState.EXPIRED, digest(row))]
    late = approve(where, row)
    assert events(late) == ["approval.expired"]
    (leaf,) = [effect for effect in late.settlement.effects if isinstance(effect, Leaf)]
    assert json.loads(leaf.body)["counts"] == {"APPROVAL_EXPIRED": 1}, "a security event"


def test_a_page_of_approvals_ends_when_an_answer_is_full() -> None:
    where, row = enable()
    large = [replace(row, id=uid(200 + number), body=b"x" * (PAGE_BYTES // 2 - 1000)) for number in range(3)]
    huge = replace(row, id=uid(300), body=b"x" * (PAGE_BYTES + 1))
    where.put(*large, huge)
    for rows, shown, more in ((large, large[:2], True), (large[:2], large[:2], False), ([huge], [huge], False)):
        where.pages = {RowPage(Table.APPROVALS, "", "", 501): tuple(one.ref for one in rows)}
        listed = result(asked(where, ApprovalListBody(), "ben", f"l{len(rows)}{shown[0].id}"))
        assert isinstance(listed, ApprovalListResult)
        assert ([one.id for one in listed.approvals], listed.more) == ([one.id for one in shown], more)


def test_it_can_be_rejected_or_taken_back() -> None:
    where, row = enable()
    for officer in ("ann", "ben"):
        body = ApprovalRejectBody(tenant="acme", approval=row.id)
        assert events(asked(where, body, officer, officer)) == ["approval.rejected"]


def test_an_approval_is_named_with_its_tenant() -> None:
    where, row = enable()
    for tenant, id_ in (("bolt", row.id), ("acme", uid(98))):
        body = ApprovalRejectBody(tenant=tenant, approval=id_)
        assert refusal(asked(where, body, "ben", str(id_) + tenant)) is Code.NOT_FOUND
    where.tamper(row.ref)
    assert refusal(approve(where, row)) is Code.INTEGRITY


def test_what_is_no_command_that_waits_is_an_integrity_error() -> None:
    where, row = enable()
    for odd in (replace(row, operation="wrap"), replace(row, body=b"{"), replace(row, operation="nothing")):
        assert command_of(odd) is None
        where.put(odd)
        assert refusal(approve(where, odd)) is Code.INTEGRITY


def test_a_command_that_can_not_be_done_any_more_is_refused_and_goes_on_waiting() -> None:
    where, row = enable()
    where.put(replace(where.key(EU), disabled_revision=9))
    assert refusal(approve(where, row)) is Code.CONFLICT


def test_a_command_with_nothing_left_to_do_is_a_conflict() -> None:
    where = world()
    where.put(replace(where.client("ben"), id="cleo"))
    where.client_pages = {ALL_OFFICERS: ("ann", "ben", "cleo")}
    row = waiting(where, ClientRevokeBody(tenant=FLEET_TENANT, client="ben"))
    where.put(replace(where.client("ben"), revoked=True))
    assert refusal(approve(where, row, "cleo")) is Code.CONFLICT


def test_who_is_revoked_meanwhile_has_asked_nothing() -> None:
    where, row = enable()
    ann = where.client("ann")
    where.put(replace(ann, revoked=True, revision=ann.revision + 1))
    assert events(approve(where, row)) == ["approval.voided"]


@pytest.mark.parametrize("gone", [Client, Alias])
def test_a_touched_row_that_is_gone_voids_it(gone: type) -> None:
    where, row = enable()
    where.put(replace(row, touched=(f"{gone.TABLE} nobody 1",)))  # type: ignore[attr-defined]
    odd = where.rows[row.ref]
    assert isinstance(odd, Approval)
    assert events(approve(where, odd)) == ["approval.voided"]


def test_a_service_approves_nothing() -> None:
    where, row = enable()
    body = ApprovalApproveBody(tenant="acme", approval=row.id, digest=digest(row))
    assert where.refusal(where.request(Operation.APPROVAL_APPROVE, body, "billing")) is Code.NOT_FOUND
    assert RowRef(Approval.TABLE, str(row.id)) == row.ref
