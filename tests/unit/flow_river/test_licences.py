"""Rules and grants in the river: what is taken back is refused from the next settlement on, and no row is believed."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.unit.flow_river.parts import NOW
from tests.unit.flow_river.rig import CARDS, PAYMENTS, Rig
from worker.client.answers import Refusal
from worker.model.bodies import DekItem, KeyRotateBody, UnwrapBody, WrapBody, WrapItem
from worker.model.control import KeyCompromiseBody
from worker.model.facts import StoredRow
from worker.model.operations import Operation, Permission
from worker.model.policies import (
    CheckResult,
    GrantGiveBody,
    GrantListBody,
    GrantListResult,
    GrantResult,
    GrantRevokeBody,
    PolicyAllowBody,
    PolicyCheckBody,
    PolicyListBody,
    PolicyRevokeBody,
    RuleListResult,
    RuleResult,
)
from worker.model.replies import WrapResult
from worker.model.rows import Grant, Row, RowRef, Rule, Table
from worker.seal.identity import Identity

END = NOW + 10**9


async def allowed(rig: Rig, client: str, **changes: Any) -> UUID:  # noqa: ANN401 - fields of the body
    body: dict[str, Any] = {"tenant": "acme", "client": client, "permissions": ["unwrap"], "not_after_ms": END}
    told = await rig.command(Operation.POLICY_ALLOW, PolicyAllowBody.model_validate(body | changes))
    assert isinstance(told, RuleResult)
    return told.rule.id


async def granted(rig: Rig, client: str, **changes: Any) -> UUID:  # noqa: ANN401 - fields of the body
    body: dict[str, Any] = {"tenant": "acme", "client": client, "key": PAYMENTS, "permissions": ["unwrap"]}
    body |= {"for_s": 3600, "why": "incident 17"}
    told = await rig.command(Operation.GRANT_GIVE, GrantGiveBody.model_validate(body | changes))
    assert isinstance(told, GrantResult)
    return told.grant.id


async def made() -> tuple[Rig, Identity, UnwrapBody]:
    """A reader whose own row allows nothing, and something to read."""
    rig = await Rig.made()
    reader = await rig.add("reader", permissions=[])
    told = await rig.ask(Operation.WRAP, WrapBody(key=PAYMENTS, items=[WrapItem(context={"table": "a"})]))
    (wrapped,) = told.results
    assert isinstance(wrapped, WrapResult)
    return rig, reader, UnwrapBody(items=[DekItem(id=wrapped.id, context={"table": "a"})])


async def codes(rig: Rig, reader: Identity, body: UnwrapBody) -> list[str]:
    return (await rig.ask(Operation.UNWRAP, body, reader)).codes


def edit(rig: Rig, ref: RowRef, **changes: Any) -> None:  # noqa: ANN401 - columns of the row
    """What a database's owner can do: the row changes, its MAC can't."""
    stored = rig.memory.rows[ref]
    row: Row = replace(stored.row, **changes)
    del rig.memory.rows[ref]
    rig.memory.rows[row.ref] = StoredRow(row, stored.mac_version, stored.mac)


async def test_a_rule_opens_and_its_revocation_closes() -> None:
    rig, reader, body = await made()
    assert await codes(rig, reader, body) == ["NOT_FOUND"]
    rule = await allowed(rig, "reader", context_keys=["table"], pattern="acme/eu/p*")
    assert await codes(rig, reader, body) == [""]
    await rig.command(Operation.POLICY_REVOKE, PolicyRevokeBody(tenant="acme", rule=rule))
    assert await codes(rig, reader, body) == ["NOT_FOUND"]


async def test_a_rule_that_is_taken_back_while_a_request_flows_is_refused_at_its_settlement() -> None:
    rig, reader, body = await made()
    rule = await allowed(rig, "reader")
    sent = rig.draft(Operation.UNWRAP, body, reader)

    async def meanwhile() -> None:
        other = rig.river
        rig.river = rig.worker()
        await rig.command(Operation.POLICY_REVOKE, PolicyRevokeBody(tenant="acme", rule=rule))
        rig.river = other

    rig.store.script = [meanwhile]
    await rig.run(sent)
    (told,) = rig.told(sent)
    assert told.codes == ["NOT_FOUND"]
    assert told.deks == [b""]


async def test_a_grant_that_is_taken_back_while_a_request_flows_is_refused_at_its_settlement() -> None:
    rig, _, body = await made()
    await rig.command(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=PAYMENTS))
    await rig.command(Operation.KEY_COMPROMISE, KeyCompromiseBody(tenant="acme", key=PAYMENTS, version=1))
    assert await codes(rig, rig.billing, body) == ["KEY_STATE"]
    grant = await granted(rig, "billing", version=1)
    assert await codes(rig, rig.billing, body) == [""]
    sent = rig.draft(Operation.UNWRAP, body)

    async def meanwhile() -> None:
        other = rig.river
        rig.river = rig.worker()
        await rig.command(Operation.GRANT_REVOKE, GrantRevokeBody(tenant="acme", grant=grant))
        rig.river = other

    rig.store.script = [meanwhile]
    await rig.run(sent)
    assert rig.told(sent)[0].codes == ["KEY_STATE"]


async def test_a_grant_ends_by_itself() -> None:
    rig, reader, body = await made()
    await granted(rig, "reader", for_s=60)
    assert await codes(rig, reader, body) == [""]
    rig.clock.ms += 60_000
    assert await codes(rig, reader, body) == ["NOT_FOUND"]


@pytest.mark.parametrize(
    "changes",
    [
        {"pattern": "acme/eu/payments"},
        {"permissions": ("unwrap",)},
        {"context_keys": ()},
        {"not_after_ms": END + 1},
        {"region": "eu"},
        {"revision": 2},
        {"enrolled_by": "ann"},
    ],
)
async def test_a_rule_that_somebody_changed_opens_nothing(changes: dict[str, Any]) -> None:
    rig, reader, body = await made()
    rule = await allowed(rig, "reader", pattern="*", permissions=["unwrap", "wrap"], context_keys=["table"])
    assert await codes(rig, reader, body) == [""]
    edit(rig, RowRef(Table.RULES, str(rule)), **changes)
    assert await codes(rig, reader, body) == ["INTEGRITY"]


async def test_a_revoked_rule_that_somebody_opened_again_opens_nothing() -> None:
    rig, reader, body = await made()
    rule = await allowed(rig, "reader")
    await rig.command(Operation.POLICY_REVOKE, PolicyRevokeBody(tenant="acme", rule=rule))
    edit(rig, RowRef(Table.RULES, str(rule)), revoked=False)
    assert await codes(rig, reader, body) == ["INTEGRITY"]


@pytest.mark.parametrize("changes", [{"client": "reader"}, {"client": "reader", "id": UUID(int=7)}])
async def test_a_rule_or_grant_of_another_client_opens_nothing(changes: dict[str, Any]) -> None:
    rig, reader, body = await made()
    await rig.add("other", permissions=[])
    rule = await allowed(rig, "other")
    edit(rig, RowRef(Table.RULES, str(rule)), **changes)
    assert await codes(rig, reader, body) == ["INTEGRITY"]
    rig, reader, body = await made()
    await rig.add("other", permissions=[])
    grant = await granted(rig, "other")
    edit(rig, RowRef(Table.GRANTS, str(grant)), **changes)
    assert await codes(rig, reader, body) == ["INTEGRITY"]


async def test_a_rule_that_vanished_only_denies() -> None:
    rig, reader, body = await made()
    rule = await allowed(rig, "reader")
    del rig.memory.rows[RowRef(Table.RULES, str(rule))]
    assert await codes(rig, reader, body) == ["NOT_FOUND"]


async def test_one_clients_bad_rule_harms_no_other() -> None:
    rig, reader, body = await made()
    rule = await allowed(rig, "reader")
    edit(rig, RowRef(Table.RULES, str(rule)), why="x")
    bad, good = rig.draft(Operation.UNWRAP, body, reader), rig.draft(Operation.UNWRAP, body)
    await rig.run(bad, good)
    assert [rig.told(one)[0].codes for one in (bad, good)] == [["INTEGRITY"], [""]]
    await allowed(rig, "reader", why="another")
    assert await codes(rig, reader, body) == [""]


async def test_lists_and_the_dry_run() -> None:
    rig, *_ = await made()
    rule, grant = await allowed(rig, "reader"), await granted(rig, "reader", key=CARDS)
    listed = await rig.command(Operation.POLICY_LIST, PolicyListBody(tenant="acme", client="reader"))
    assert isinstance(listed, RuleListResult)
    assert [one.id for one in listed.rules] == [rule]
    given = await rig.command(Operation.GRANT_LIST, GrantListBody(tenant="acme"))
    assert isinstance(given, GrantListResult)
    assert [one.id for one in given.grants] == [grant]
    body = PolicyCheckBody(tenant="acme", client="reader", permission=Permission.UNWRAP, key=CARDS)
    told = await rig.command(Operation.POLICY_CHECK, body)
    assert isinstance(told, CheckResult)
    assert told.rule is not None
    assert told.rule.id == rule
    await rig.command(Operation.POLICY_REVOKE, PolicyRevokeBody(tenant="acme", rule=rule))
    told = await rig.command(Operation.POLICY_CHECK, body)
    assert isinstance(told, CheckResult)
    assert told.grant is not None
    assert told.grant.id == grant


async def test_a_service_commands_no_policy() -> None:
    rig, reader, _ = await made()
    body = PolicyAllowBody(tenant="acme", client="reader", permissions=[Permission.UNWRAP], not_after_ms=END)
    refused = await rig.ask(Operation.POLICY_ALLOW, body, reader)
    assert isinstance(refused.error, Refusal)
    assert refused.code == "NOT_FOUND"
    assert not [row for row in rig.memory.rows.values() if isinstance(row.row, Rule | Grant)]
