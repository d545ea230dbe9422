"""The token refuses its PIN: a security event in the fleet's log, once per run."""

import json

from worker.edges.store.fake import FakeStore
from worker.flow.alarms import PinAlarm


async def test_it_is_told_once() -> None:
    store, refused = FakeStore(), False
    alarm = PinAlarm("host/7", lambda: refused, store)
    await alarm.turn()
    assert store.leaves == []
    refused = True
    for _ in range(2):
        await alarm.turn()
    (leaf,) = store.leaves
    told = json.loads(leaf.body)
    assert (leaf.tenant, told["counts"], told["request"]) == ("fleet", {"PIN_LOCKED": 1}, "host/7")
    (event,) = store.outbox.values()
    assert (event.type, json.loads(event.body)) == ("keyriver.pin.locked.v1", {"worker": "host/7"})
