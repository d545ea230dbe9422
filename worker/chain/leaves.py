"""Audit leaves of what happens without a request (S16): in the form of all others, under the fleet's own name."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from uuid import UUID

from worker.model.alarms import PinLocked, RowReverted
from worker.model.effects import Announce, Leaf, Settlement
from worker.model.fields import Answer
from worker.model.words import FLEET_TENANT, RowRef

ACTOR = "keyriver"
"""Who acts when nobody asked at that moment; the officer who set a time stands in the event of his command."""
PIN_LOCKED = "keyriver.pin.locked.v1"
SET_BACK = "keyriver.row.reverted.v1"
OK = "OK"
DONE: Mapping[str, int] = MappingProxyType({OK: 1})


def own_leaf(  # noqa: PLR0913, PLR0917 - a leaf has so many parts
    id_: UUID,
    tenant: str,
    at_ms: int,
    type_: str,
    name: str,
    counts: Mapping[str, int] = DONE,
    place: tuple[UUID, int] | None = None,
    told: Answer | None = None,
    items: bytes = b"",
) -> Leaf:
    """What became of it (`counts` by OK or code), which key version it is about, and its `name` as request.

    `items` is the digest of what was encrypted, where something was.
    """
    leaf: dict[str, object] = {
        "algorithm": "AES-256-GCM" if items else "",
        "appended_ms": at_ms,
        "client": ACTOR,
        "correlation": name,
        "counts": dict(counts),
        "form": 1,
        "items": items.hex(),
        "key": None if place is None else str(place[0]),
        "request": name,
        "signed": "",
        "source": ACTOR,
        "tenant": tenant,
        "time_ms": at_ms,
        "type": type_,
        "version": None if place is None else place[1],
    }
    if told is not None:
        leaf["told"] = told.model_dump(mode="json", exclude_none=True)
    return Leaf(id_, tenant, json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def pin_locked(ids: tuple[UUID, UUID], at_ms: int, who: str) -> Settlement:
    """The token refused the PIN: no worker logs in again before a person has looked (S9). In the fleet's own log."""
    told = PinLocked(worker=who)
    leaf = own_leaf(ids[0], FLEET_TENANT, at_ms, PIN_LOCKED, who, {"PIN_LOCKED": 1}, told=told)
    event = Announce(ids[1], PIN_LOCKED, FLEET_TENANT, told.model_dump_json().encode())
    return Settlement(None, None, (), (), (leaf, event))


def set_back(ids: tuple[UUID, UUID], at_ms: int, who: str, ref: RowRef, revision: int) -> Settlement:
    """Somebody put an old row back, or took one away (S7). In the fleet's own log: the row's tenant is not believed."""
    told = RowReverted(table=ref.table, key=ref.key, revision=revision, worker=who)
    leaf = own_leaf(ids[0], FLEET_TENANT, at_ms, SET_BACK, f"{ref.table}/{ref.key}", {"INTEGRITY": 1}, told=told)
    event = Announce(ids[1], SET_BACK, FLEET_TENANT, told.model_dump_json().encode())
    return Settlement(None, None, (), (), (leaf, event))
