"""A world whose tenant acme keeps its L1 outside; its L2 is wrapped twice."""

from dataclasses import replace
from typing import Any

from tests.unit.chain.test_life_commands import puts
from tests.unit.chain.test_switch_and_approvals import approve, result
from tests.unit.chain.world import EU, LIMITS, NOW, PAYMENTS, ROOT, World, uid
from worker.chain.lifecycle import Use
from worker.chain.plan import Conclusion
from worker.chain.resolve import Usable
from worker.model.bodies import AnyBody, KeyCreateBody, KeyRotateBody
from worker.model.codes import Code
from worker.model.control import KeyDestroyBody
from worker.model.hsm import Wrapping
from worker.model.keystores import KeystoreAddress, Provider
from worker.model.linking import (
    KeystoreTarget,
    LinkBody,
    LinkCreateBody,
    LinkCutBody,
    LinkDeclareBody,
    LinkListBody,
    LinkRestoreBody,
    LinkShowBody,
    LinkUnlinkBody,
    TenantMoveBody,
)
from worker.model.operations import Operation
from worker.model.replies import PendingResult
from worker.model.rows import Approval, Key, Link, Origin, RowRef, Table
from worker.model.words import LinkState

TARGET = KeystoreTarget(provider=Provider.XKS, endpoint="https://keys.example", key="k1", credential="acme")
ADDRESS = KeystoreAddress(Provider.XKS, "https://keys.example", "k1", "acme")
DIGEST = b"d" * 32
LINK = Link(
    uid(70),
    "acme",
    ROOT,
    1,
    Provider.XKS,
    "https://keys.example",
    "k1",
    "acme",
    LinkState.LINKED,
    uid(1001),
    "token-1",
    "7",
    sovereign=False,
    created_ms=NOW,
    revision=4,
)
OPERATIONS: dict[type[AnyBody], Operation] = {
    LinkCreateBody: Operation.LINK_CREATE,
    LinkShowBody: Operation.LINK_SHOW,
    LinkListBody: Operation.LINK_LIST,
    LinkCutBody: Operation.LINK_CUT,
    LinkRestoreBody: Operation.LINK_RESTORE,
    LinkUnlinkBody: Operation.LINK_UNLINK,
    LinkDeclareBody: Operation.LINK_DECLARE,
    TenantMoveBody: Operation.TENANT_MOVE,
    KeyCreateBody: Operation.KEY_CREATE,
    KeyRotateBody: Operation.KEY_ROTATE,
    KeyDestroyBody: Operation.KEY_DESTROY,
}


def outer_world() -> World:
    """Acme's L1 stays outside; its L2 is wrapped twice."""
    made = World(limits=replace(LIMITS, recoverable_ms=1000))
    made.put(
        LINK,
        replace(made.key(ROOT), origin=Origin.EXTERNAL),
        replace(made.version(ROOT), wrapping=Wrapping.EXTERNAL, link=LINK.id),
        replace(made.version(EU), wrapped=b"outer", digest=DIGEST),
    )
    return made


def asked(where: World, body: AnyBody, id_: str = "r1") -> Conclusion:
    return where.run(where.request(OPERATIONS[type(body)], body, "ann", id_))


def approved(where: World, body: AnyBody) -> Conclusion:
    """By both officers."""
    waiting = asked(where, body)
    assert isinstance(result(waiting), PendingResult)
    (row,) = puts(waiting)
    assert isinstance(row, Approval)
    where.put(row)
    return approve(where, row)


def usable(where: World, key: object = PAYMENTS) -> Usable | Code:
    assert key in (ROOT, EU, PAYMENTS)
    row = where.rows[RowRef(Table.KEYS, str(key))]
    assert isinstance(row, Key)
    return where.chains().usable(row, 1, Use.UNWRAP)


def on(body: type[LinkBody], **more: object) -> Any:  # noqa: ANN401 - one of many bodies
    return body.model_validate({"tenant": "acme", "key": "acme"} | more)
