"""Examples of HYOK: links to customers' keystores, and the move of a tenant's L1."""

from typing import Any

from worker.model.operations import Operation

Json = dict[str, Any]
_ID = "01936120-0000-7000-8000-0000000001a1"
_L1 = "01936120-0000-7000-8000-000000000011"
_KEYSTORE: Json = {
    "provider": "xks",
    "endpoint": "https://keys.acme.example/proxy",
    "key": "kek-2026",
    "credential": "acme",
}
_LINK: Json = {
    "id": _ID,
    "tenant": "acme",
    "key": _L1,
    "version": 1,
    "provider": "xks",
    "endpoint": _KEYSTORE["endpoint"],
    "external_key": "kek-2026",
    "credential": "acme",
    "external_version": "",
    "state": "linked",
    "sovereign": True,
    "created_ms": 1_795_471_200_000,
    "revision": 1,
}
_CUT = _LINK | {"state": "cut", "cut_revision": 2, "revision": 2}
_GONE = _LINK | {"state": "unlinked", "revision": 4}
_MOVED = _LINK | {"version": 2, "sovereign": False}
_STANDING: list[Json] = [
    {"version": 1, "state": "deactivated", "children": 3},
    {"version": 2, "state": "active", "link": _ID, "children": 0},
]
_END: Json = {"due_ms": 1_795_557_600_000, "recoverable_until_ms": 1_803_333_600_000, "children": 0, "forced": False}
_ON: Json = {"tenant": "acme", "key": "acme"}

ASKED: dict[Operation, Json] = {
    Operation.LINK_CREATE: {"tenant": "acme", "layers": 3, "keystore": _KEYSTORE},
    Operation.LINK_SHOW: _ON,
    Operation.LINK_LIST: {"limit": 100},
    Operation.LINK_CUT: _ON | {"why": "a rehearsal"},
    Operation.LINK_RESTORE: _ON | {"revision": 2},
    Operation.LINK_UNLINK: _ON | {"version": 1, "force": "acme", "why": "the customer leaves"},
    Operation.LINK_DECLARE: _ON | {"version": 2},
    Operation.TENANT_MOVE: _ON | {"keystore": _KEYSTORE},
}
ANSWERED: dict[Operation, list[Json]] = {
    Operation.LINK_CREATE: [{"link": _LINK}],
    Operation.LINK_SHOW: [{"link": _MOVED, "versions": _STANDING, "could_be_sovereign": False}],
    Operation.LINK_LIST: [{"links": [_LINK], "more": False}],
    Operation.LINK_CUT: [{"link": _CUT}],
    Operation.LINK_RESTORE: [{"code": "KEYSTORE_FORBIDDEN"}],
    Operation.LINK_UNLINK: [{"link": _GONE, "end": _END}],
    Operation.LINK_DECLARE: [{"link": _MOVED | {"sovereign": True}}],
    Operation.TENANT_MOVE: [
        {"tenant": "acme", "moved_key": _L1, "to_version": 2, "link": _MOVED, "versions": _STANDING}
    ],
}


def _became(was: str, now: str, revision: int, **more: object) -> Json:
    return {
        "tenant": "acme",
        "link": _ID,
        "key": _L1,
        "alias": "acme",
        "version": 1,
        "was": was,
        "now": now,
        "who": "alice",
        "why": "a rehearsal",
        "request": "01936120-0000-7000-8000-00000000a001",
        "correlation": "01936120-0000-7000-8000-00000000a001",
        "revision": revision,
    } | more


STATED: dict[str, Json] = {
    "keyriver.link.created.v1": _became("", "linked", 1),
    "keyriver.link.severed.v1": _became("linked", "cut", 2),
    "keyriver.link.restored.v1": _became("cut", "linked", 3, approved_by="bob"),
    "keyriver.link.unlinked.v1": _became("linked", "unlinked", 4, approved_by="bob", end=_END),
    "keyriver.link.sovereign.v1": _became("linked", "sovereign", 2, recoverable_until_ms=1_803_333_600_000),
    "keyriver.link.rotated.v1": _became("6", "7", 2, who="keyriver", why="the customer's keystore says so"),
    "keyriver.tenant.moved.v1": ANSWERED[Operation.TENANT_MOVE][0],
}
