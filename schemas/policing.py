"""Examples of rules, grants and quotas."""

from typing import Any

from schemas.life import KEY
from worker.model.operations import Operation

Json = dict[str, Any]
RULE, GRANT = (f"01936120-0000-7000-8000-00000000{last}" for last in ("ac01", "ad01"))
_RULE: Json = {
    "id": RULE,
    "tenant": "acme",
    "client": "payments",
    "permissions": ["unwrap"],
    "pattern": "acme/eu/*",
    "region": "eu",
    "not_after_ms": 1_827_093_600_000,
    "context_keys": ["table"],
    "minimum_suite": "x25519",
    "why": "reads for the quarter's report",
    "enrolled_by": "alice+bob",
    "created_ms": 1_795_557_600_000,
    "revoked": False,
}
_GRANT: Json = {
    "id": GRANT,
    "tenant": "acme",
    "client": "payments",
    "key": KEY,
    "version": 1,
    "permissions": ["rewrap"],
    "why": "incident 17: move what the application keeps",
    "given_by": "alice+bob",
    "given_ms": 1_795_557_600_000,
    "not_after_ms": 1_795_572_000_000,
    "revoked": False,
}
_QUOTA: Json = {"tenant": "acme", "per_second": 500, "burst": 2000, "why": "as agreed", "set_by": "alice"}

ASKED: dict[Operation, Json] = {
    Operation.POLICY_ALLOW: {
        "tenant": "acme",
        "client": "payments",
        "permissions": ["unwrap"],
        "pattern": "acme/eu/*",
        "region": "eu",
        "not_after_ms": 1_827_093_600_000,
        "context_keys": ["table"],
        "minimum_suite": "x25519",
        "why": "reads for the quarter's report",
    },
    Operation.POLICY_REVOKE: {"tenant": "acme", "rule": RULE, "why": "the report is done"},
    Operation.POLICY_LIST: {"tenant": "acme", "client": "payments"},
    Operation.POLICY_CHECK: {
        "tenant": "acme",
        "client": "payments",
        "permission": "unwrap",
        "key": "acme/eu/payments",
        "context_keys": ["table"],
    },
    Operation.GRANT_GIVE: {
        "tenant": "acme",
        "client": "payments",
        "key": "acme/eu/payments",
        "version": 1,
        "permissions": ["rewrap"],
        "for_s": 14_400,
        "why": "incident 17: move what the application keeps",
    },
    Operation.GRANT_REVOKE: {"tenant": "acme", "grant": GRANT},
    Operation.GRANT_LIST: {"tenant": "acme"},
    Operation.TENANT_QUOTA: {"tenant": "acme", "per_second": 500, "burst": 2000, "why": "as agreed"},
    Operation.TENANT_QUOTAS: {"tenant": "acme"},
}
ANSWERED: dict[Operation, list[Json]] = {
    Operation.POLICY_ALLOW: [{"rule": _RULE}],
    Operation.POLICY_REVOKE: [{"rule": _RULE | {"revoked": True}}],
    Operation.POLICY_LIST: [{"rules": [_RULE], "after": RULE, "more": False}],
    Operation.POLICY_CHECK: [{"allowed": True, "key": KEY, "version": 2, "rule": _RULE, "why": ""}],
    Operation.GRANT_GIVE: [{"grant": _GRANT}],
    Operation.GRANT_REVOKE: [{"grant": _GRANT | {"revoked": True}}],
    Operation.GRANT_LIST: [{"grants": [_GRANT], "after": GRANT, "more": False}],
    Operation.TENANT_QUOTA: [{"quota": _QUOTA}],
    Operation.TENANT_QUOTAS: [{"quotas": [_QUOTA, _QUOTA | {"client": "payments", "per_second": 50}], "more": False}],
}


def _changed(why: str, revision: int, **row: object) -> Json:
    by = {"who": "alice", "why": why, "request": "r1", "correlation": "r1", "revision": revision}
    return {"tenant": "acme", **row, **by}


STATED: dict[str, Json] = {
    "keyriver.rule.added.v1": _changed(_RULE["why"], 1, rule=_RULE, approved_by="bob"),
    "keyriver.rule.revoked.v1": _changed("the report is done", 2, rule=_RULE | {"revoked": True}),
    "keyriver.grant.given.v1": _changed(_GRANT["why"], 1, grant=_GRANT, approved_by="bob"),
    "keyriver.grant.revoked.v1": _changed("", 2, grant=_GRANT | {"revoked": True}),
    "keyriver.quota.set.v1": _changed("as agreed", 1, quota=_QUOTA),
}
