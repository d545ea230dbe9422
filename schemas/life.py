"""What the examples of the life cycle share: an approval, a blast radius, a destruction, a transition."""

from base64 import b64encode
from typing import Any

from worker.chain.approvals import digest_of

Json = dict[str, Any]
ID = "01936120-0000-7000-8000-00000000a001"
KEY, L2 = (f"01936120-0000-7000-8000-00000000{last}" for last in ("0001", "0012"))
APPROVAL = "01936120-0000-7000-8000-00000000ab01"
_WAITS: Json = {
    "id": APPROVAL,
    "tenant": "acme",
    "operation": "key.enable",
    "body": '{"tenant":"acme","key":"acme/eu","revision":7,"why":"false alarm"}',
    "asked_by": "alice",
    "asked_ms": 1_795_557_600_000,
    "expires_ms": 1_795_644_000_000,
    "touched": [f"keys {L2} 7"],
}
DIGEST = b64encode(
    digest_of(
        _WAITS["operation"],
        _WAITS["tenant"],
        _WAITS["body"].encode(),
        _WAITS["asked_by"],
        _WAITS["expires_ms"],
        tuple(_WAITS["touched"]),
    )
).decode()
PENDING: Json = _WAITS | {"digest": DIGEST, "state": "pending"}
DONE: Json = PENDING | {"state": "approved", "decided_by": "bob"}
_COUNTS = {"deks": 1200, "issued_outside": 3}
BLAST: Json = {
    "tenant": "acme",
    "layers": [
        {"layer": 2, "region": "eu", "keys": 1, "versions": 1, "deks": 0, "issued_outside": 0},
        {"layer": 3, "region": "eu", "keys": 1, "versions": 2, **_COUNTS},
    ],
    "services": [{"key": KEY, "alias": "acme/eu/payments", "region": "eu", **_COUNTS}],
    "more": 0,
}
DESTRUCTION: Json = {
    "version": 1,
    "due_ms": 1_796_162_400_000,
    "recoverable_until_ms": 1_798_754_400_000,
    "deks": 0,
    "issued_outside": 0,
    "children": 0,
    "forced": False,
}


def became(was: str, now: str, **more: object) -> Json:
    """A fact about version 1."""
    return {
        "tenant": "acme",
        "key": KEY,
        "alias": "acme/eu/payments",
        "version": 1,
        "was": was,
        "now": now,
        "who": "alice",
        "why": "",
        "request": ID,
        "correlation": ID,
        "revision": 2,
        **more,
    }
