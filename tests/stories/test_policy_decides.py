"""An officer says who may do what: rules by pattern, region, time, context and suite; grants; always two officers."""

import asyncio
import time
from uuid import UUID

import pytest

from tests.fleet import Fleet, House
from tests.processes import POLL_S
from worker.client import KeyriverClient, Pending
from worker.client.errors import RequestRefused
from worker.client.results import ItemError, Rewrapped, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, KeyCreateBody, KeyRotateBody, RewrapItem
from worker.model.control import ApprovalApproveBody, KeyCompromiseBody
from worker.model.operations import Operation, Permission
from worker.model.policies import (
    CheckResult,
    GrantGiveBody,
    GrantResult,
    GrantRevokeBody,
    PolicyAllowBody,
    PolicyCheckBody,
    PolicyListBody,
    PolicyRevokeBody,
    RuleListResult,
    RuleResult,
)
from worker.model.rows import Suite

HOUR_MS = 3_600_000
SOON = (3, 12, 48)
"""Seconds until an end that a test waits for; on a busy machine the first one may be over before anybody looked."""
UNWRAP, WRAP = Permission.UNWRAP, Permission.WRAP


async def newcomer(fleet: Fleet, house: House) -> tuple[str, KeyriverClient]:
    """A service that was registered with no permission of its own."""
    identity = await fleet.service(house.tenant, permissions=())
    return identity.client, await fleet.client(identity)


def rule(house: House, client: str, *permissions: Permission, **words: object) -> PolicyAllowBody:
    body: dict[str, object] = {"tenant": house.tenant, "client": client, "permissions": list(permissions)}
    return PolicyAllowBody.model_validate(body | {"not_after_ms": now_ms() + HOUR_MS, "why": "a story"} | words)


async def allow(fleet: Fleet, body: PolicyAllowBody) -> UUID:
    told = await fleet.command(Operation.POLICY_ALLOW, body)
    assert isinstance(told, RuleResult)
    return told.rule.id


async def dek(house: House, context: dict[str, str] | None = None) -> WrappedDek:
    (made,) = await house.client.generate(house.key, contexts=[context or {}])
    assert isinstance(made, WrappedDek)
    return made


async def told(client: KeyriverClient, made: WrappedDek, context: dict[str, str] | None = None) -> str:
    """What an unwrap ends in: nothing, or its code."""
    (got,) = await client.unwrap([DekItem(id=made.id, context=context or {})])
    assert isinstance(got, Unwrapped | ItemError)
    return got.code if isinstance(got, ItemError) else ""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_a_rule_needs_two_officers_and_one_takes_it_back(fleet: Fleet, house: House) -> None:
    # Given a service that may do nothing yet
    name, client = await newcomer(fleet, house)
    made = await dek(house)
    assert await told(client, made) == "NOT_FOUND"
    # When one officer asks for a rule, Then nothing is allowed yet, and he can't approve it himself
    officer = await fleet.officer()
    with pytest.raises(Pending) as waiting:
        await officer.command(Operation.POLICY_ALLOW, rule(house, name, UNWRAP))
    assert await told(client, made) == "NOT_FOUND"
    approval = waiting.value.approval
    body = ApprovalApproveBody(tenant=approval.tenant, approval=approval.id, digest=approval.digest)
    with pytest.raises(RequestRefused, match="SECOND_OFFICER"):
        await officer.command(Operation.APPROVAL_APPROVE, body)
    # When the other one approves, Then it is allowed
    approved = (await fleet.approve(approval)).result
    assert isinstance(approved, RuleResult)
    assert approved.rule.enrolled_by.count("+") == 1
    assert await told(client, made) == ""
    # When one officer takes it back and has read the answer, Then what is produced after that is refused
    await officer.command(Operation.POLICY_REVOKE, PolicyRevokeBody(tenant=house.tenant, rule=approved.rule.id))
    assert await told(client, made) == "NOT_FOUND"
    # And both changes stand in the list
    listed = await officer.command(Operation.POLICY_LIST, PolicyListBody(tenant=house.tenant, client=name))
    assert isinstance(listed, RuleListResult)
    assert [(one.id, one.revoked) for one in listed.rules] == [(approved.rule.id, True)]


async def test_patterns_and_contexts(fleet: Fleet, house: House) -> None:
    # Given a rule for one key of two, and only where the context names a table
    other = f"{house.upper}/other"
    await fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=other))
    name, client = await newcomer(fleet, house)
    await allow(fleet, rule(house, name, WRAP, UNWRAP, pattern=f"{house.upper}/pay*", context_keys=["table"]))
    # When it asks for DEKs with and without, Then each item has its own answer
    wrapped = await client.generate(house.key, contexts=[{"table": "a"}, {}, {"table": "b", "row": "1"}])
    assert [one.code if isinstance(one, ItemError) else "" for one in wrapped] == ["", "NOT_FOUND", ""]
    # And on the other key there is nothing for it
    (elsewhere,) = await client.generate(other, contexts=[{"table": "a"}])
    assert isinstance(elsewhere, ItemError)
    # And what it may wrap it may unwrap, with the context that the rule demands
    first = wrapped[0]
    assert isinstance(first, WrappedDek)
    assert await told(client, first, {"table": "a"}) == ""
    plain = await dek(house)
    assert await told(client, plain) == "NOT_FOUND"
    assert await told(client, plain, {"table": "a"}) == "UNWRAP_FAILED"


async def test_suites(fleet: Fleet, house: House) -> None:
    # Given a rule that demands the hybrid suite, and a client whose recipient key is a classic one
    name, client = await newcomer(fleet, house)
    made = await dek(house)
    found = await allow(fleet, rule(house, name, UNWRAP, WRAP, minimum_suite=Suite.MLKEM768_X25519))
    # When it asks for plaintext, Then it is refused; what brings no plaintext is not
    assert await told(client, made) == "NOT_FOUND"
    (blob,) = await client.generate(house.key, return_dek=False)
    assert isinstance(blob, WrappedDek)
    # And the dry run says which suite would do
    checks = {suite: await check(fleet, house, name, suite=suite) for suite in (Suite.X25519, Suite.MLKEM768_X25519)}
    assert not checks[Suite.X25519].allowed
    by = checks[Suite.MLKEM768_X25519].rule
    assert by is not None
    assert by.id == found


async def test_a_rule_ends_when_it_says(fleet: Fleet, house: House) -> None:
    # Given a rule that ends soon
    name, client = await newcomer(fleet, house)
    made = await dek(house)
    for seconds in SOON:
        await allow(fleet, rule(house, name, UNWRAP, not_after_ms=now_ms() + seconds * 1000))
        if await told(client, made) == "":
            break
    else:
        pytest.fail("the rule never held")
    # Then without anybody's doing it is over
    async with asyncio.timeout(60):
        while await told(client, made) == "":
            await asyncio.sleep(POLL_S)
    assert await told(client, made) == "NOT_FOUND"


async def test_s11_a_rewrap_to_another_key_needs_a_rule_at_both_ends(fleet: Fleet, house: House) -> None:
    # Given a DEK under one key, and a service that may take it from there
    other = f"{house.upper}/archive"
    await fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=house.tenant, parent=house.upper, alias=other))
    name, client = await newcomer(fleet, house)
    made = await dek(house)
    await allow(fleet, rule(house, name, Permission.REWRAP_FROM, pattern=house.key))
    # When it moves it, Then it is refused: it may put nothing there
    (refused,) = await client.rewrap([RewrapItem(id=made.id)], to=other)
    assert isinstance(refused, ItemError)
    # When another rule lets it, Then the DEK moves
    await allow(fleet, rule(house, name, Permission.REWRAP_TO, pattern=other))
    (moved,) = await client.rewrap([RewrapItem(id=made.id)], to=other)
    assert isinstance(moved, Rewrapped)
    # And not back, for that is the other direction
    (back,) = await client.rewrap([RewrapItem(id=made.id)], to=house.key)
    assert isinstance(back, ItemError)


async def test_a_grant_opens_a_compromised_version_for_one_client_until_it_ends(fleet: Fleet, house: House) -> None:
    # Given two clients with DEKs under a version that was compromised after a rotation
    other = await fleet.client(await fleet.service(house.tenant))
    made, second = await dek(house), await dek(house)
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=house.tenant, key=house.key))
    compromise = KeyCompromiseBody(tenant=house.tenant, key=house.key, version=1, why="seen in a log")
    await fleet.command(Operation.KEY_COMPROMISE, compromise)
    assert await told(house.client, made) == "KEY_STATE"
    # When two officers give the one a grant
    name = house.identity.client
    words = {"tenant": house.tenant, "client": name, "key": house.key, "version": 1, "why": "incident 17"}
    give = GrantGiveBody.model_validate(words | {"permissions": [UNWRAP, Permission.REWRAP], "for_s": 3600})
    with pytest.raises(Pending) as waiting:
        await (await fleet.officer()).command(Operation.GRANT_GIVE, give)
    assert await told(house.client, made) == "KEY_STATE"
    granted = (await fleet.approve(waiting.value.approval)).result
    assert isinstance(granted, GrantResult)
    # Then it opens the version for that client and no other, and only for what was there
    assert await told(house.client, made) == ""
    assert await told(other, made) == "KEY_STATE"
    (moved,) = await house.client.rewrap([RewrapItem(id=second.id)])
    assert isinstance(moved, Rewrapped)
    assert (moved.version, moved.unchanged) == (2, False)
    checked = await check(fleet, house, name, version=1)
    assert checked.allowed
    # When one officer takes it back, Then it is over
    revoke = GrantRevokeBody(tenant=house.tenant, grant=granted.grant.id)
    await (await fleet.officer()).command(Operation.GRANT_REVOKE, revoke)
    assert await told(house.client, made) == "KEY_STATE"
    # When another is given for a few seconds, Then it ends by itself
    for seconds in SOON:
        await fleet.command(Operation.GRANT_GIVE, give.model_copy(update={"for_s": seconds}))
        if await told(house.client, made) == "":
            break
    else:
        pytest.fail("the grant never held")
    async with asyncio.timeout(60):
        while await told(house.client, made) == "":
            await asyncio.sleep(POLL_S)
    assert await told(house.client, second) == "", "what was moved stays readable"


async def test_a_rule_is_taken_back_while_many_read(fleet: Fleet, house: House) -> None:
    # Given a service that reads without a pause
    name, client = await newcomer(fleet, house)
    made = await dek(house)
    found = await allow(fleet, rule(house, name, UNWRAP))
    answered = asyncio.Event()
    late: list[str] = []
    reading = asyncio.Semaphore(0)

    async def read() -> None:
        assert await told(client, made) == ""
        reading.release()
        while not answered.is_set():
            await told(client, made)
        late.append(await told(client, made))

    readers = [asyncio.create_task(read()) for _ in range(16)]
    for _ in readers:
        await reading.acquire()
    # When an officer takes its rule back
    await (await fleet.officer()).command(Operation.POLICY_REVOKE, PolicyRevokeBody(tenant=house.tenant, rule=found))
    answered.set()
    await asyncio.gather(*readers)
    # Then nothing that was produced after his answer was read succeeds
    assert late == ["NOT_FOUND"] * 16


async def check(fleet: Fleet, house: House, client: str, **words: object) -> CheckResult:
    body: dict[str, object] = {"tenant": house.tenant, "client": client, "permission": UNWRAP, "key": house.key}
    checked = await fleet.command(Operation.POLICY_CHECK, PolicyCheckBody.model_validate(body | words))
    assert isinstance(checked, CheckResult)
    return checked
