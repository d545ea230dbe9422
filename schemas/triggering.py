"""Examples of reports, of the rules that answer them, and of their facts."""

from typing import Any

from schemas import campaigns
from worker.model.operations import Operation

Json = dict[str, Any]
_WHEN = 1_795_557_600_000
_NAMED: Json = {"tenant": "acme", "name": "payments-yearly"}
_RULE: Json = {
    **_NAMED,
    "event": "key-age",
    "pattern": "acme/eu/*",
    "action": "rotate",
    "period_s": 31_536_000,
    "items_s": 5000,
    "hsm_share": 50,
    "why": "crypto period",
    "enrolled_by": "alice+bob",
    "created_ms": _WHEN,
    "revoked": False,
}
_FIRED: Json = {
    "fired": "left",
    "action": "emergency",
    "triggered_key": campaigns.KEY,
    "version": 2,
    "rotated": True,
    "campaign": campaigns.VIEW,
}
_ASKED = ("event", "pattern", "action", "period_s", "items_s", "hsm_share", "why")

ASKED: dict[Operation, Json] = {
    Operation.TRIGGER: {"event": "member-left", "key": "acme/eu/payments", "occurred_ms": _WHEN, "why": "HR 4711"},
    Operation.TRIGGER_ADD: _NAMED | {name: _RULE[name] for name in _ASKED},
    Operation.TRIGGER_REMOVE: _NAMED | {"why": "another rule covers it"},
    Operation.TRIGGER_LIST: {"tenant": "acme"},
    Operation.TRIGGER_CHECK: {"tenant": "acme", "event": "key-age", "key": "acme/eu/payments"},
}
ANSWERED: dict[Operation, list[Json]] = {
    Operation.TRIGGER: [_FIRED],
    Operation.TRIGGER_ADD: [{"trigger": _RULE}],
    Operation.TRIGGER_REMOVE: [{"trigger": _RULE | {"revoked": True}}],
    Operation.TRIGGER_LIST: [{"triggers": [_RULE], "after": "acme/payments-yearly", "more": False}],
    Operation.TRIGGER_CHECK: [
        {
            "would_rotate": True,
            "rule": _RULE,
            "from_version": 1,
            "to_version": 2,
            "kind": "shallow",
            "begins": True,
            "why": "",
        }
    ],
}
_BY: Json = {"request": "r1", "correlation": "r1"}
STATED: dict[str, Json] = {
    "keyriver.trigger.added.v1": _BY
    | {"tenant": "acme", "trigger": _RULE, "who": "alice", "approved_by": "bob", "why": "crypto period", "revision": 1},
    "keyriver.trigger.removed.v1": _BY
    | {"tenant": "acme", "trigger": _RULE | {"revoked": True}, "who": "alice", "why": "", "revision": 2},
    "keyriver.trigger.fired.v1": _BY
    | {
        "tenant": "acme",
        "event": "member-left",
        "occurred_ms": _WHEN,
        "result": _FIRED,
        "who": "hr-system",
        "why": "HR 4711",
    },
}
