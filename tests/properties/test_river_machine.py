"""Any run of requests, retries, rotations, disables, revocations, races and crashes goes through the river."""

from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.properties.river_model import FEW, KEYS, RiverModel
from tests.unit.flow_river.rig import CARDS, PAYMENTS
from worker.flow.failpoints import NAMES, Failpoint
from worker.model.bodies import (
    ClientRevokeBody,
    DekItem,
    KeyRotateBody,
    RewrapBody,
    RewrapItem,
    UnwrapBody,
    WrapBody,
    WrapItem,
)
from worker.model.control import KeyDisableBody
from worker.model.operations import Operation
from worker.ports import StoreUnavailable

LATE = st.lists(st.integers(0, 4), min_size=2, max_size=2)
"""How many turns of the loop each settle of a race waits."""


class RiverMachine(RiverModel):
    """Rules send, deliver, break and repair."""

    @rule(
        key=KEYS,
        count=FEW,
        store=st.booleans(),
        blob=st.booleans(),
        dek=st.booleans(),
        who=st.sampled_from(("billing", "temporary")),
    )
    def generate(self, key: str, count: int, who: str, *, store: bool, blob: bool, dek: bool) -> None:
        items = [WrapItem() for _ in range(count)]
        self.send(Operation.WRAP, WrapBody(key=key, items=items, store=store, return_blob=blob, return_dek=dek), who)

    @rule(key=KEYS, deks=st.lists(st.binary(min_size=16, max_size=40), min_size=1, max_size=3))
    def bring(self, key: str, deks: list[bytes]) -> None:
        id_ = str(uuid4())
        sent = self.send(Operation.WRAP, self.rig.sealed(deks, id_, key), id_=id_)
        self.own[id_, sent.request.body] = deks

    @precondition(lambda self: self.deks)
    @rule(data=st.data())
    def unwrap(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.deks)), min_size=1, max_size=4))
        self.send(Operation.UNWRAP, UnwrapBody(items=[DekItem(id=one) for one in ids]))

    @precondition(lambda self: self.rig.memory.deks)
    @rule(data=st.data(), to=st.sampled_from((None, PAYMENTS, CARDS)), blob=st.booleans())
    def rewrap(self, data: st.DataObject, to: str | None, *, blob: bool) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.rig.memory.deks)), min_size=1, max_size=4))
        body = RewrapBody(items=[RewrapItem(id=one) for one in ids], to=to, return_blob=blob)
        self.send(Operation.REWRAP, body)

    @rule(key=st.sampled_from(("acme", "acme/eu", PAYMENTS, CARDS)))
    def rotate(self, key: str) -> None:
        self.send(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=key), "ann")

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), later=st.integers(0, 30_000))
    def retry(self, data: st.DataObject, later: int) -> None:
        self.rig.clock.ms += later
        self.enqueue(self.rig.again(self.one(data)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        self.waiting.append(self.rig.redelivered(self.one(data)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), count=FEW)
    def reuse(self, data: st.DataObject, count: int) -> None:
        """The id of an earlier request, with another body."""
        id_ = self.one(data).request.id
        self.send(Operation.WRAP, WrapBody(key=CARDS, items=[WrapItem(bits=128)] * (3 + count)), id_=id_)

    @rule()
    def revoke(self) -> None:
        self.send(Operation.CLIENT_REVOKE, ClientRevokeBody(tenant="acme", client="temporary"), "ann")
        self.revoked.add("temporary")

    @rule(key=st.sampled_from(("acme/eu", PAYMENTS, CARDS)))
    def disable(self, key: str) -> None:
        self.send(Operation.KEY_DISABLE, KeyDisableBody(tenant="acme", key=key), "ann")

    @precondition(lambda self: self.disabled())
    @rule()
    def enable(self) -> None:
        self.lift()

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 6))
    def deliver(self, count: int) -> None:
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        self.batch(batch)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 6), first=st.integers(1, 6), second=st.integers(0, 5), late=LATE)
    def race(self, count: int, first: int, second: int, late: list[int]) -> None:
        """Two workers with some of the same records, or with others."""
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        records = list({sent.record.at: sent for sent in batch}.values())
        self.contest([records[:first], records[min(second, first, len(records) - 1) :]], late)

    @rule(key=KEYS, above=st.booleans(), off=st.booleans(), late=LATE)
    def overtake(self, key: str, late: list[int], *, above: bool, off: bool) -> None:
        """A wrap, and what changes its key or the one above, at the same time in two workers."""
        self.send(Operation.WRAP, WrapBody(key=key, items=[WrapItem()], return_dek=True))
        named = "acme/eu" if above else key
        if off:
            self.send(Operation.KEY_DISABLE, KeyDisableBody(tenant="acme", key=named), "ann")
        else:
            self.send(Operation.KEY_ROTATE, KeyRotateBody(tenant="acme", key=named), "ann")
        wrap, change = self.waiting.pop(-2), self.waiting.pop()
        self.contest([[wrap], [change]], late)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 4), name=st.sampled_from([name for name in NAMES if name != "committed"]))
    def crash(self, count: int, name: str) -> None:
        """The worker dies at this point; another one takes its records."""
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        self.rig.points[name] = Failpoint("error", 1)
        self.batch(batch)
        self.rig.points.clear()
        self.rig.river = self.rig.worker()

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 4), what=st.sampled_from(("token", "bus", "store")))
    def outage(self, count: int, what: str) -> None:
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        self.rig.token.away, self.rig.bus.is_away = what == "token", what == "bus"
        self.rig.store.script = [StoreUnavailable("away")] if what == "store" else []
        self.batch(batch)
        self.rig.token.away = self.rig.bus.is_away = False
        self.rig.store.script = []

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 4), skipped=st.lists(st.booleans(), min_size=1, max_size=8))
    def hiccup(self, count: int, skipped: list[bool]) -> None:
        """The token does some operations of the batch and not others: those items stay open."""
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        self.rig.hiccups.skipped = skipped
        self.batch(batch)
        self.rig.hiccups.skipped = []


RiverMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRiver = RiverMachine.TestCase
