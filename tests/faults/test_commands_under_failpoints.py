"""The life cycle's commands at every failpoint: killed at each, frozen or failing where a settlement hangs (D11).

In each run one doomed process takes the control lane's commands as one batch (disable, suspend, compromise, and two
approvals: an enable and a destruction) and another one a rotation; both stop at the same point.
"""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.fleet import Fleet, House
from tests.processes import Member, until
from tests.scribe import Draft, Scribe
from tests.stack import Services
from worker.client import Pending
from worker.flow.failpoints import NAMES
from worker.local import Token
from worker.model.bodies import CommandBody, KeyCreateBody, KeyRotateBody
from worker.model.control import (
    ApprovalApproveBody,
    KeyCompromiseBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeyEnableBody,
    KeySuspendBody,
)
from worker.model.operations import Operation
from worker.model.replies import ApprovalView, DisableResult
from worker.model.topics import Lane

RUNS = [*((point, "kill") for point in NAMES), ("executed", "freeze"), ("settled", "freeze"), ("settled", "error")]
KEYS = ("rotated", "disabled", "enabled", "compromised", "destroyed", "suspended")
LANES = ([Lane.CONTROL], [Lane.INTERACTIVE])
EVENTS = {
    "rotated": ["key.rotated", "key.deactivated"],
    "disabled": ["key.disabled"],
    "enabled": ["key.enabled", "approval.approved"],
    "compromised": ["key.compromised"],
    "destroyed": ["key.destruction.scheduled", "approval.approved"],
    "suspended": ["key.suspended"],
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One tenant that waits for its run: a key for each command, and the two approvals that bob will give."""

    house: House
    enable: ApprovalView
    destroy: ApprovalView
    events: Counter[str]

    def key(self, name: str) -> str:
        return f"{self.house.upper}/{name}"


@dataclass(frozen=True, slots=True)
class Stage:
    """What all runs share."""

    fleet: Fleet
    alice: Scribe
    bob: Scribe
    scenes: list[Scene] = field(repr=False)


@pytest.fixture(scope="module")
async def fleet(stack: Services, kryoptic: Token, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """A fleet without workers that may destroy, after a week."""
    folder = tmp_path_factory.mktemp("commands")
    async with Fleet.founded(stack, folder, kryoptic, recoverable_days=30) as founded:
        yield founded


@pytest.fixture(scope="module")
async def stage(fleet: Fleet) -> AsyncIterator[Stage]:
    founder = fleet.start()
    scenes = [await _scene(fleet) for _ in RUNS]
    assert await founder.terminated() == 0
    async with Scribe(fleet, fleet.officers[0]) as alice, Scribe(fleet, fleet.officers[1]) as bob:
        yield Stage(fleet, alice, bob, scenes)


async def _scene(fleet: Fleet) -> Scene:
    house = await fleet.tenant()
    tenant, keys = house.tenant, {name: f"{house.upper}/{name}" for name in KEYS}
    for alias in keys.values():
        await fleet.command(Operation.KEY_CREATE, KeyCreateBody(tenant=tenant, parent=house.upper, alias=alias))
    off = await fleet.command(Operation.KEY_DISABLE, KeyDisableBody(tenant=tenant, key=keys["enabled"]))
    assert isinstance(off, DisableResult)
    await fleet.command(Operation.KEY_ROTATE, KeyRotateBody(tenant=tenant, key=keys["destroyed"]))
    revision = off.key.disabled_revision or 0
    enable = KeyEnableBody(tenant=tenant, key=keys["enabled"], revision=revision)
    destroy = KeyDestroyBody(tenant=tenant, key=keys["destroyed"], version=1)
    waiting = [
        await _asked(fleet, Operation.KEY_ENABLE, enable),
        await _asked(fleet, Operation.KEY_DESTROY, destroy),
    ]
    return Scene(house, waiting[0], waiting[1], await _events(fleet, tenant))


async def _asked(fleet: Fleet, operation: Operation, body: CommandBody) -> ApprovalView:
    with pytest.raises(Pending) as pending:
        await (await fleet.officer()).command(operation, body)
    return pending.value.approval


@pytest.mark.parametrize(("point", "action"), RUNS)
async def test_each_command_takes_effect_once_and_is_answered(stage: Stage, point: str, action: str) -> None:
    # Given six commands that wait for a worker
    scene, fleet = stage.scenes.pop(), stage.fleet
    drafts = _drafts(stage, scene)
    for scribe, draft in drafts.values():
        await scribe.send(draft)
    # When the workers that take them stop at this point, and a healthy one takes over
    doomed = [fleet.start(lanes=lanes, failpoints=f"{point}={action}") for lanes in LANES]
    await _stopped(doomed, point, action)
    healthy = None if action == "error" else fleet.start()
    for scribe, draft in drafts.values():
        await scribe.answer(draft.id)
    await fleet.caught_up()
    if action == "freeze":  # what is frozen says nothing more when it goes on
        told = await _told(drafts)
        for member in doomed:
            member.thaw()
        await fleet.at_work(2, [Lane.CONTROL, Lane.INTERACTIVE])
        assert await _told(drafts) == told
    # Then every answer to a request is the same success, and its effect, fact and leaf are there once
    for name, (scribe, draft) in drafts.items():
        first, *others = await scribe.so_far(draft.id)
        assert (first.code, first.codes) == ("", [""]), name
        assert all(other == first for other in others), name
    await _adds_up(fleet, scene, drafts)
    for member in [*([] if action == "kill" else doomed), *([] if healthy is None else [healthy])]:
        assert await member.terminated() == 0, member.log[-2000:]


def _drafts(stage: Stage, scene: Scene) -> dict[str, tuple[Scribe, Draft]]:
    tenant = scene.house.tenant

    def by_alice(name: str, operation: Operation, kind: type[CommandBody]) -> tuple[Scribe, Draft]:
        body = kind.model_validate({"tenant": tenant, "key": scene.key(name), "why": "a test"})
        return stage.alice, stage.alice.draft(operation, body.model_dump_json(exclude_none=True).encode())

    def by_bob(approval: ApprovalView) -> tuple[Scribe, Draft]:
        body = ApprovalApproveBody(tenant=tenant, approval=approval.id, digest=approval.digest)
        return stage.bob, stage.bob.draft(Operation.APPROVAL_APPROVE, body.model_dump_json().encode())

    return {
        "rotated": by_alice("rotated", Operation.KEY_ROTATE, KeyRotateBody),
        "disabled": by_alice("disabled", Operation.KEY_DISABLE, KeyDisableBody),
        "compromised": by_alice("compromised", Operation.KEY_COMPROMISE, KeyCompromiseBody),
        "suspended": by_alice("suspended", Operation.KEY_SUSPEND, KeySuspendBody),
        "enabled": by_bob(scene.enable),
        "destroyed": by_bob(scene.destroy),
    }


async def _stopped(doomed: list[Member], point: str, action: str) -> None:
    """Wait until the point was really hit, by both."""
    if action == "kill":
        assert [await member.ended() for member in doomed] == [-9, -9]
    elif action == "freeze":
        await until(lambda: all(member.is_frozen for member in doomed), f"both freeze at {point}")
    else:
        said = f"FailpointError('{point}')"
        await until(lambda: all(said in member.log for member in doomed), f"both meet the error at {point}")


async def _told(drafts: dict[str, tuple[Scribe, Draft]]) -> list[int]:
    return [len(await scribe.so_far(draft.id)) for scribe, draft in drafts.values()]


async def _adds_up(fleet: Fleet, scene: Scene, drafts: dict[str, tuple[Scribe, Draft]]) -> None:
    rows = await fleet.pool.fetch(
        """SELECT a.name, k.enabled, k.latest_version, v.state
           FROM keyriver.aliases AS a JOIN keyriver.keys AS k ON k.id = a.key
           JOIN keyriver.versions AS v ON v.key = k.id AND v.number = 1 WHERE a.tenant = $1""",
        scene.house.tenant,
    )
    found = {row["name"].rpartition("/")[2]: (row["enabled"], row["latest_version"], row["state"]) for row in rows}
    assert {name: found[name] for name in KEYS} == {
        "rotated": (True, 2, "deactivated"),
        "disabled": (False, 1, "active"),
        "enabled": (True, 1, "active"),
        "compromised": (True, 1, "compromised"),
        "destroyed": (True, 2, "destroy-scheduled"),
        "suspended": (True, 1, "suspended"),
    }
    told = await _events(fleet, scene.house.tenant) - scene.events
    assert told == Counter(one for events in EVENTS.values() for one in events)
    for name, (_, draft) in drafts.items():
        leaves = """SELECT count(*) FROM keyriver.leaves WHERE convert_from(body, 'UTF8')::jsonb ->> 'request' = $1
                    AND convert_from(body, 'UTF8')::jsonb -> 'counts' ? 'OK'"""
        assert await fleet.pool.fetchval(leaves, draft.id) == 1, name


async def _events(fleet: Fleet, tenant: str) -> Counter[str]:
    rows = await fleet.pool.fetch("SELECT type FROM keyriver.outbox WHERE tenant = $1", tenant)
    types = [row["type"].removeprefix("keyriver.").removesuffix(".v1") for row in rows]
    return Counter(one for one in types if one != "hint")
