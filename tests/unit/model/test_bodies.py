"""Bodies as the wire gives them: what is taken, and what is refused before anybody looks at it."""

import json
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from worker.model.bodies import BODIES, ClientAddBody, DekItem, RewrapItem, SealedDeks, TenantCreateBody, WrapBody
from worker.model.operations import Operation

ID = "0190a000-0000-7000-8000-000000000001"
KEYSTORE = {"provider": "xks", "endpoint": "https://k.example", "key": "k1", "credential": "acme"}
GOOD: dict[Operation, dict[str, object]] = {
    Operation.FLEET_ROTATE: {"kind": "row-mac"},
    Operation.FLEET_RETIRE: {"kind": "row-mac", "number": 1},
    Operation.FLEET_SHOW: {},
    Operation.WRAP: {"key": "acme/eu/payments", "items": [{}]},
    Operation.UNWRAP: {"items": [{"id": ID}]},
    Operation.REWRAP: {"items": [{"blob": "AAAA"}]},
    Operation.TENANT_CREATE: {"tenant": "acme"},
    Operation.KEY_CREATE: {"tenant": "acme", "parent": "acme", "alias": "acme/eu"},
    Operation.KEY_ROTATE: {"tenant": "acme", "key": "acme/eu"},
    Operation.KEY_SHOW: {"tenant": "acme", "key": ID},
    Operation.KEY_LIST: {"tenant": "acme"},
    Operation.KEY_ACTIVATE: {"tenant": "acme", "key": "acme/eu"},
    Operation.KEY_SUSPEND: {"tenant": "acme", "key": "acme/eu"},
    Operation.KEY_RESUME: {"tenant": "acme", "key": "acme/eu"},
    Operation.KEY_DEACTIVATE: {"tenant": "acme", "key": "acme/eu"},
    Operation.KEY_COMPROMISE: {"tenant": "acme", "key": "acme/eu"},
    Operation.KEY_DISABLE: {"tenant": "acme", "key": "acme/eu"},
    Operation.KEY_ENABLE: {"tenant": "acme", "key": "acme/eu", "revision": 1},
    Operation.KEY_DESTROY: {"tenant": "acme", "key": "acme/eu", "version": 1},
    Operation.KEY_CANCEL_DESTROY: {"tenant": "acme", "key": "acme/eu", "version": 1},
    Operation.LINK_CREATE: {"tenant": "acme", "keystore": KEYSTORE},
    Operation.KEY_IMPORT_PARAMETERS: {"tenant": "acme", "key": "acme"},
    Operation.KEY_IMPORT: {
        "tenant": "acme",
        "key": "acme",
        "parameters": "01936120-0000-7000-8000-00000000b001",
        "algorithm": "RSAES_OAEP_SHA_256",
        "blob": "AAAA",
        "check_value": "a1B2c3",
    },
    Operation.LINK_SHOW: {"tenant": "acme", "key": "acme"},
    Operation.LINK_LIST: {},
    Operation.LINK_CUT: {"tenant": "acme", "key": "acme"},
    Operation.LINK_RESTORE: {"tenant": "acme", "key": "acme", "revision": 2},
    Operation.LINK_UNLINK: {"tenant": "acme", "key": "acme", "version": 1},
    Operation.LINK_DECLARE: {"tenant": "acme", "key": "acme"},
    Operation.TENANT_MOVE: {"tenant": "acme", "key": "acme"},
    Operation.REGION_SET: {"region": "eu", "serials": ["4b1f"]},
    Operation.REGION_LIST: {},
    Operation.APPROVAL_APPROVE: {"tenant": "acme", "approval": ID, "digest": "AAAA"},
    Operation.APPROVAL_REJECT: {"tenant": "acme", "approval": ID},
    Operation.APPROVAL_LIST: {},
    Operation.CLIENT_ADD: {
        "tenant": "acme",
        "client": "billing",
        "public_key": "AAAA",
        "permissions": ["wrap"],
        "reply_topics": ["keyriver.replies.v1"],
        "not_after_ms": 1,
    },
    Operation.CLIENT_ROTATE: {"tenant": "acme", "client": "billing", "public_key": "AAAA"},
    Operation.CLIENT_REVOKE: {"tenant": "acme", "client": "billing"},
    Operation.CLIENT_LIST: {"tenant": "fleet"},
    Operation.POLICY_ALLOW: {"tenant": "acme", "client": "billing", "permissions": ["wrap"], "not_after_ms": 1},
    Operation.POLICY_REVOKE: {"tenant": "acme", "rule": ID},
    Operation.POLICY_LIST: {"tenant": "acme"},
    Operation.POLICY_CHECK: {"tenant": "acme", "client": "billing", "permission": "wrap", "key": "acme/eu"},
    Operation.GRANT_GIVE: {
        "tenant": "acme",
        "client": "billing",
        "key": "acme/eu",
        "permissions": ["unwrap"],
        "for_s": 1,
        "why": "x",
    },
    Operation.GRANT_REVOKE: {"tenant": "acme", "grant": ID},
    Operation.GRANT_LIST: {"tenant": "acme"},
    Operation.TENANT_QUOTA: {"tenant": "acme"},
    Operation.TENANT_QUOTAS: {"tenant": "acme"},
    Operation.TRIGGER: {"event": "schedule-due", "key": "acme/eu", "occurred_ms": 1},
    Operation.TRIGGER_ADD: {"tenant": "acme", "name": "yearly", "event": "schedule-due"},
    Operation.TRIGGER_REMOVE: {"tenant": "acme", "name": "yearly"},
    Operation.TRIGGER_LIST: {"tenant": "acme"},
    Operation.TRIGGER_CHECK: {"tenant": "acme", "event": "key-age", "key": "acme/eu"},
    Operation.CAMPAIGN_PLAN: {"tenant": "acme", "key": "acme/eu"},
    Operation.CAMPAIGN_START: {"tenant": "acme", "key": "acme/eu"},
    Operation.CAMPAIGN_LIST: {},
    **{
        operation: {"tenant": "acme", "campaign": ID}
        for operation in (
            Operation.CAMPAIGN_SHOW,
            Operation.CAMPAIGN_PAUSE,
            Operation.CAMPAIGN_RESUME,
            Operation.CAMPAIGN_CANCEL,
            Operation.CAMPAIGN_THROTTLE,
            Operation.CAMPAIGN_REPLAY,
            Operation.CAMPAIGN_FAILURES,
            Operation.CAMPAIGN_EXPOSED,
        )
    },
}
BAD: list[tuple[Operation, dict[str, object]]] = [
    (Operation.LINK_CREATE, {"keystore": KEYSTORE | {"provider": "post"}}),
    (Operation.LINK_CREATE, {"keystore": KEYSTORE | {"endpoint": "https://k.example/ x"}}),
    (Operation.LINK_CREATE, {"keystore": KEYSTORE | {"key": ""}}),
    (Operation.LINK_CREATE, {"keystore": KEYSTORE | {"credential": "../acme"}}),
    (Operation.LINK_CREATE, {"keystore": KEYSTORE | {"secret": "s"}}),
    (Operation.LINK_UNLINK, {"version": 0}),
    (Operation.REGION_SET, {"region": ""}),
    (Operation.REGION_SET, {"serials": []}),
    (Operation.REGION_SET, {"serials": ["a token"]}),
    (Operation.WRAP, {"items": []}),
    (Operation.WRAP, {"key": ""}),
    (Operation.WRAP, {"key": "ACME/eu"}),
    (Operation.WRAP, {"key": "acme eu"}),
    (Operation.WRAP, {"key": "acme/eu\n"}),
    (Operation.WRAP, {"items": [{"bits": 64}]}),
    (Operation.WRAP, {"items": [{"bits": "256"}]}),
    (Operation.WRAP, {"items": [{"context": {"a": 1}}]}),
    (Operation.WRAP, {"items": [{"context": {"a": {}}}]}),
    (Operation.WRAP, {"store": 1}),
    (Operation.WRAP, {"sealed": {"sequence": 0, "ciphertext": "AAAA"}}),
    (Operation.WRAP, {"sealed": {"sequence": 2**53, "ciphertext": "AAAA"}}),
    (Operation.UNWRAP, {"items": [{}]}),
    (Operation.UNWRAP, {"items": [{"id": ID, "blob": "AAAA"}]}),
    (Operation.UNWRAP, {"items": [{"blob": "AA=A"}]}),
    (Operation.UNWRAP, {"items": [{"blob": "AA-_"}]}),
    (Operation.UNWRAP, {"items": [{"blob": "AAA"}]}),
    (Operation.UNWRAP, {"items": [{"blob": 7}]}),
    (Operation.REWRAP, {"items": [{"id": None, "blob": None}]}),
    (Operation.REWRAP, {"items": [{"id": ID, "blob": "AAAA"}]}),
    (Operation.REWRAP, {"items": [{"blob": "AAAA", "context": {}}]}),
    (Operation.TENANT_CREATE, {"layers": 1}),
    (Operation.TENANT_CREATE, {"layers": 9}),
    (Operation.TENANT_CREATE, {"tenant": "-acme"}),
    (Operation.TENANT_CREATE, {"tenant": "a" * 64}),
    (Operation.TENANT_CREATE, {"tenant": ID}),
    (Operation.TENANT_CREATE, {"tenant": ID.replace("-", "")}),
    (Operation.TENANT_CREATE, {"tenant": "0-1-" + "a" * 30 + "--"}),
    (Operation.TENANT_CREATE, {"tenant": "acme/eu"}),
    (Operation.TENANT_CREATE, {"minimum_suite": "rsa"}),
    (Operation.KEY_CREATE, {"region": "EU"}),
    (Operation.KEY_CREATE, {"region": "e" * 33}),
    (Operation.KEY_LIST, {"limit": 0}),
    (Operation.KEY_LIST, {"limit": 1001}),
    (Operation.KEY_LIST, {"after": "x"}),
    (Operation.POLICY_ALLOW, {"permissions": []}),
    (Operation.POLICY_ALLOW, {"permissions": ["all"]}),
    (Operation.POLICY_ALLOW, {"region": "EU"}),
    (Operation.POLICY_ALLOW, {"context_keys": [""]}),
    (Operation.POLICY_ALLOW, {"context_keys": ["k"] * 17}),
    (Operation.POLICY_ALLOW, {"minimum_suite": "none"}),
    (Operation.POLICY_ALLOW, {"not_after_ms": 0}),
    (Operation.POLICY_CHECK, {"version": 0}),
    (Operation.GRANT_GIVE, {"for_s": 0}),
    (Operation.GRANT_GIVE, {"for_s": 24 * 3600 + 1}),
    (Operation.GRANT_GIVE, {"why": ""}),
    (Operation.GRANT_GIVE, {"version": 0}),
    (Operation.GRANT_GIVE, {"permissions": []}),
    (Operation.TENANT_QUOTA, {"per_second": 0}),
    (Operation.TRIGGER, {"event": "key-age"}),
    (Operation.TRIGGER, {"occurred_ms": 0}),
    (Operation.TRIGGER, {"tenant": "bolt"}),
    (Operation.TRIGGER_ADD, {"name": "a/b"}),
    (Operation.TRIGGER_ADD, {"pattern": "acme/[ab]"}),
    (Operation.TRIGGER_ADD, {"pattern": ""}),
    (Operation.TRIGGER_ADD, {"period_s": -1}),
    (Operation.TRIGGER_ADD, {"action": "fly"}),
    (Operation.TENANT_QUOTA, {"burst": 0}),
    (Operation.TENANT_QUOTA, {"per_second": 10**9 + 1}),
    (Operation.CLIENT_ADD, {"permissions": ["wrap"] * 7}),
    (Operation.CLIENT_ADD, {"permissions": ["root"]}),
    (Operation.CLIENT_ADD, {"reply_topics": []}),
    (Operation.CLIENT_ADD, {"reply_topics": ["t"] * 17}),
    (Operation.CLIENT_ADD, {"reply_topics": ["a b"]}),
    (Operation.CLIENT_ADD, {"pattern": "a" * 257}),
    (Operation.CLIENT_ADD, {"pattern": "acme/{eu}"}),
    (Operation.CLIENT_ADD, {"not_after_ms": 0}),
    (Operation.CLIENT_ADD, {"not_after_ms": 2**53}),
    (Operation.CLIENT_ADD, {"client": "Billing"}),
    (Operation.CLIENT_ADD, {"algorithm": "none"}),
    (Operation.CLIENT_LIST, {"limit": 1001}),
    (Operation.FLEET_ROTATE, {"kind": "import"}),
]


def read(operation: Operation, body: dict[str, object]) -> Any:  # noqa: ANN401 - one of twelve kinds
    return BODIES[operation].model_validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize("operation", Operation)
def test_the_smallest_body_of_each_operation(operation: Operation) -> None:
    body = read(operation, GOOD[operation])
    with pytest.raises(ValidationError, match="frozen"):
        body.tenant = "bolt"
    for name in GOOD[operation]:
        without = {field: value for field, value in GOOD[operation].items() if field != name}
        with pytest.raises(ValidationError):
            read(operation, without)
    with pytest.raises(ValidationError, match="Extra inputs"):
        read(operation, GOOD[operation] | {"surprise": 1})


@pytest.mark.parametrize(("operation", "change"), BAD)
def test_bodies_that_are_refused(operation: Operation, change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read(operation, GOOD[operation] | change)


def test_the_defaults() -> None:
    wrap = WrapBody(key="k", items=[{}])
    assert (wrap.items[0].bits, wrap.items[0].context, wrap.sealed) == (256, {}, None)
    assert (wrap.store, wrap.return_blob, wrap.return_dek) == (True, False, False)
    tenant = TenantCreateBody(tenant="acme")
    assert (tenant.layers, tenant.minimum_suite) == (3, "p256")
    added = ClientAddBody.model_validate_json(json.dumps(GOOD[Operation.CLIENT_ADD]))
    assert (added.algorithm, added.pattern, added.recipient_suite, added.recipient_key) == ("Ed25519", "*", None, b"")


def test_bytes_are_base64_in_json_and_bytes_here() -> None:
    sealed = SealedDeks(sequence=1, ciphertext=b"\xff\xfe")
    assert sealed.model_dump_json() == '{"sequence":1,"ciphertext":"//4="}'
    assert SealedDeks.model_validate_json(sealed.model_dump_json()) == sealed
    assert sealed.model_dump()["ciphertext"] == b"\xff\xfe"
    with pytest.raises(ValidationError, match="base64 text is needed"):
        SealedDeks.model_validate({"sequence": 1, "ciphertext": 7})


@pytest.mark.parametrize("kind", [DekItem, RewrapItem])
def test_an_item_is_an_id_or_a_blob(kind: type[DekItem | RewrapItem]) -> None:
    assert kind(id=UUID(ID)).blob is None
    assert kind(blob=b"").id is None
    for both in ({}, {"id": ID, "blob": b""}):
        with pytest.raises(ValidationError, match="exactly one of id and blob"):
            kind.model_validate(both)
