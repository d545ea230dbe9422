"""Random commands and uses go through the river on real Postgres and through a model by hand: they never differ."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.contract.life_model import OK, REWRAP_FROM, UNWRAP, WRAP, Life
from tests.unit.flow_river.rig import CARDS, PAYMENTS, Rig
from tests.unit.store.rooms import migrated
from worker.chain.plan import Limits
from worker.client.answers import Refusal, Result
from worker.client.answers import Wrap as WrapAnswer
from worker.edges.store.dues import PostgresDues
from worker.edges.store.pool import Pool
from worker.edges.store.presence import PostgresPresence
from worker.edges.store.store import PostgresStore
from worker.flow.due import DueWork
from worker.flow.trust import Trust
from worker.model.bodies import (
    CommandBody,
    DekItem,
    KeyRotateBody,
    RewrapBody,
    RewrapItem,
    UnwrapBody,
    WrapBody,
    WrapItem,
)
from worker.model.control import (
    ApprovalApproveBody,
    KeyActivateBody,
    KeyCancelDestroyBody,
    KeyCompromiseBody,
    KeyDeactivateBody,
    KeyDestroyBody,
    KeyDisableBody,
    KeyEnableBody,
    KeyResumeBody,
    KeySuspendBody,
    VersionBody,
)
from worker.model.facts import Answer, Facts, Question
from worker.model.fields import Reason
from worker.model.operations import Operation
from worker.model.replies import ApprovalResult

T = TypeVar("T")
PARENTS = {"acme": "", "acme/eu": "acme", PAYMENTS: "acme/eu", CARDS: "acme/eu"}
NAMES = st.sampled_from(tuple(PARENTS))
SERVICE = st.sampled_from((PAYMENTS, CARDS))
NUMBER = st.integers(1, 4)
CHANGE = {
    "suspend": (Operation.KEY_SUSPEND, KeySuspendBody),
    "deactivate": (Operation.KEY_DEACTIVATE, KeyDeactivateBody),
    "compromise": (Operation.KEY_COMPROMISE, KeyCompromiseBody),
}
AT_ONCE = Limits(shortest_grace_ms=0, recoverable_ms=0)
EMPTY = "TRUNCATE keyriver.tenants, keyriver.keys, keyriver.versions, keyriver.aliases, keyriver.clients, keyriver.intake_keys, keyriver.approvals, keyriver.ledger, keyriver.deks, keyriver.census"  # noqa: E501 - one statement


class Commands(RuleBasedStateMachine):
    """Each rule gives one command, or uses a key, in the store and in the model."""

    loop: asyncio.AbstractEventLoop
    pool: Pool

    def __init__(self) -> None:
        super().__init__()
        self.wait(self.pool.run(lambda connection: connection.execute(EMPTY)))
        self.rig = Rig(PostgresStore(self.pool), AT_ONCE)
        self.rig.clock.ms = time.time_ns() // 1_000_000
        self.wait(self.rig.founded())
        self.life = Life(PARENTS)
        self.revisions = dict.fromkeys(PARENTS, 0)
        self.deks: dict[UUID, tuple[str, bytes]] = {}
        self.due = DueWork(
            holder="the only one",
            serial=self.rig.token.serial,
            recoverable_ms=0,
            dues=PostgresDues(self.pool),
            presence=PostgresPresence(self.pool),
            store=self.rig.store,
            trust=Trust(self.rig.token.fleet_keys),
            fleet_keys=self.rig.token.fleet_keys,
            hsm=self.rig.token.hsm,
        )

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def ask(self, operation: Operation, body: CommandBody | VersionBody) -> Result:
        """A command's answer; where a second officer is needed, what came of it when he approved."""
        (result,) = self.wait(self.rig.ask(operation, cast("CommandBody", body), self.rig.ann)).results
        if not isinstance(result, Refusal) or result.pending is None:
            return result
        waiting = result.pending
        approve = ApprovalApproveBody(tenant=waiting.tenant, approval=waiting.id, digest=waiting.digest)
        (approved,) = self.wait(self.rig.ask(Operation.APPROVAL_APPROVE, approve, self.rig.ben)).results
        return approved.result or approved if isinstance(approved, ApprovalResult) else approved

    def agree(self, result: Result, expected: set[str]) -> None:
        assert (result.code if isinstance(result, Refusal) else OK) in expected

    @rule(name=NAMES, reason=st.sampled_from((None, Reason.COMPROMISE)), pre_active=st.booleans())
    def rotate(self, name: str, reason: Reason | None, *, pre_active: bool) -> None:
        body = KeyRotateBody.model_validate(
            {"tenant": "acme", "key": name, "pre_active": pre_active} | ({"reason": reason} if reason else {})
        )
        result = self.ask(Operation.KEY_ROTATE, body)
        self.agree(result, self.life.rotate(name, emergency=reason is not None, pre_active=pre_active))

    @rule(name=NAMES, number=NUMBER)
    def activate(self, name: str, number: int) -> None:
        result = self.ask(Operation.KEY_ACTIVATE, KeyActivateBody(tenant="acme", key=name, version=number))
        self.agree(result, self.life.activate(name, number))

    @rule(name=NAMES, number=NUMBER, what=st.sampled_from(tuple(CHANGE)))
    def change(self, name: str, number: int, what: str) -> None:
        operation, kind = CHANGE[what]
        result = self.ask(operation, kind(tenant="acme", key=name, version=number))
        self.agree(result, self.life.change(what, name, number))

    @rule(name=NAMES, number=NUMBER)
    def resume(self, name: str, number: int) -> None:
        result = self.ask(Operation.KEY_RESUME, KeyResumeBody(tenant="acme", key=name, version=number))
        self.agree(result, self.life.resume(name, number))

    @rule(name=NAMES)
    def disable(self, name: str) -> None:
        self.agree(self.ask(Operation.KEY_DISABLE, KeyDisableBody(tenant="acme", key=name)), self.life.disable(name))

    @rule(name=NAMES, off=st.sampled_from((0, 0, 0, 1)))
    def enable(self, name: str, off: int) -> None:
        body = KeyEnableBody(tenant="acme", key=name, revision=max(1, self.revisions[name] - off))
        named = body.revision == self.revisions[name]
        self.agree(self.ask(Operation.KEY_ENABLE, body), self.life.enable(name, named=named))

    @rule(name=NAMES, number=NUMBER, forced=st.booleans())
    def destroy(self, name: str, number: int, *, forced: bool) -> None:
        body = KeyDestroyBody(tenant="acme", key=name, version=number, grace_s=0, force=name if forced else None)
        self.agree(self.ask(Operation.KEY_DESTROY, body), self.life.destroy(name, number, forced=forced))

    @rule(name=NAMES, number=NUMBER)
    def cancel(self, name: str, number: int) -> None:
        result = self.ask(Operation.KEY_CANCEL_DESTROY, KeyCancelDestroyBody(tenant="acme", key=name, version=number))
        self.agree(result, self.life.cancel(name, number))

    @rule()
    def its_time_has_come(self) -> None:
        while self.wait(self.due.turn()):
            pass
        self.life.carry_out()

    @rule(name=SERVICE)
    def wrap(self, name: str) -> None:
        active = self.life.keys[name].active
        told = self.wait(self.rig.ask(Operation.WRAP, WrapBody(key=name, items=[WrapItem()], return_dek=True)))
        (result,) = told.results
        self.agree(result, self.life.refusals(name, active, WRAP) or {OK})
        if isinstance(result, WrapAnswer):
            assert result.id is not None
            self.deks[result.id] = name, told.deks[0]
            self.life.keys[name].versions[active].deks += 1

    @precondition(lambda self: self.deks)
    @rule(data=st.data())
    def unwrap(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.deks)))
        name, dek = self.deks[id_]
        told = self.wait(self.rig.ask(Operation.UNWRAP, UnwrapBody(items=[DekItem(id=id_)])))
        self.agree(told.results[0], self.life.refusals(name, self.version_of(id_), UNWRAP) or {OK})
        assert isinstance(told.results[0], Refusal) or told.deks == [dek]

    @precondition(lambda self: self.deks)
    @rule(data=st.data())
    def rewrap(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.deks)))
        name, before = self.deks[id_][0], self.version_of(id_)
        key = self.life.keys[name]
        told = self.wait(self.rig.ask(Operation.REWRAP, RewrapBody(items=[RewrapItem(id=id_)])))
        refused = self.life.refusals(name, before, REWRAP_FROM) | self.life.refusals(name, key.active, WRAP)
        self.agree(told.results[0], refused or {OK})
        if not refused:
            key.versions[before].deks -= 1
            key.versions[key.active].deks += 1

    def version_of(self, id_: UUID) -> int:
        return self.wait(self.rig.store.know(Question(deks=frozenset({id_})))).deks[id_].version

    @invariant()
    def the_store_says_the_same(self) -> None:
        question = Question(aliases=frozenset(PARENTS))
        known = self.wait(self.rig.store.know(question))
        ids = {row.name: row.key for row in self.facts(known).aliases.values()}
        facts = self.facts(self.wait(self.rig.store.know(Question(trees=frozenset(ids.values())))))
        for name, key in self.life.keys.items():
            row = facts.keys[ids[name]]
            assert (row.enabled, row.active_version, row.latest_version) == (key.enabled, key.active, max(key.versions))
            self.revisions[name] = row.disabled_revision
            for number, version in key.versions.items():
                stored = facts.versions[row.id, number]
                assert (stored.state, stored.parent_version) == (version.state, version.parent_version)
                assert bool(stored.wrapped) is (stored.state != "destroyed" and bool(key.parent))
        counted = [self.version_of(id_) for id_ in self.deks]
        assert len(counted) == sum(version.deks for key in self.life.keys.values() for version in key.versions.values())

    def facts(self, answer: Answer) -> Facts:
        facts = self.wait(Trust(self.rig.token.fleet_keys).verified(answer))
        assert not facts.tampered
        return facts


@contextmanager
def postgres(database: str) -> Iterator[tuple[asyncio.AbstractEventLoop, Pool]]:
    """Postgres on an event loop that the machine may run by hand."""
    loop = asyncio.new_event_loop()
    holding = migrated(database)
    try:
        yield loop, loop.run_until_complete(holding.__aenter__())
    finally:
        loop.run_until_complete(holding.__aexit__(None, None, None))
        loop.close()


def test_commands_do_what_the_page_says(database: str) -> None:
    with postgres(database) as (loop, pool):

        class Here(Commands):
            pass

        Here.loop, Here.pool = loop, pool
        limits = settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        )
        run_state_machine_as_test(Here, settings=limits)
