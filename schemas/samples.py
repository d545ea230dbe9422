"""One example of every message, signed and sealed with the test keys of `tests/vectors`, so that each one verifies.

A record's value is the payload as compact JSON in UTF-8; its headers are text here.
"""

import json
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import campaigns, fleet, imports, linking, policing, regional, triggering
from schemas.life import APPROVAL, BLAST, DESTRUCTION, DIGEST, DONE, PENDING, became
from worker.chain.conclude import HINT
from worker.model.operations import SERVICE_OPERATIONS, Operation
from worker.model.replies import ERRORS, REPLIES
from worker.model.requests import Recipient
from worker.model.rows import Suite
from worker.model.sequences import SEQUENCE
from worker.seal.claims import EventClaims, ReplyClaims, RequestClaims, recipient_claim, signed_digest
from worker.seal.signatures import Ed25519Signer, sign_jws

Json = dict[str, Any]
VECTORS = Path(__file__).parent.parent / "tests" / "vectors"
FLEET = "dev-example"
REPLY_TOPIC = "keyriver.replies.v1"
TIME = "2026-11-24T22:00:00Z"
ID = "01936120-0000-7000-8000-00000000a001"
KEY, L1, L2, DEK = (f"01936120-0000-7000-8000-00000000{last}" for last in ("0001", "0011", "0012", "00d1"))


@dataclass(frozen=True, slots=True)
class Sample:
    """One record."""

    type: str
    headers: dict[str, str]
    payload: Json

    @property
    def value(self) -> bytes:
        """The record's value."""
        return compact(self.payload)


def compact(payload: Json) -> bytes:
    """JSON without spaces, in UTF-8."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def _vectors(name: str) -> Json:
    read: Json = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return read


def _base64(text: str) -> str:
    return b64encode(bytes.fromhex(text)).decode()


KEYS = _vectors("keys")
SEALED = {case["name"]: _base64(case["sealed"]) for case in _vectors("hpke")["cases"]}
BLOB = _base64(_vectors("blob")["cases"][1]["blob"])
RECIPIENT = Recipient(Suite.X25519, bytes.fromhex(KEYS["recipients"]["x25519"]["public"]))


def signer(name: str) -> Ed25519Signer:
    """One of the Ed25519 test keys."""
    key = KEYS["signers"][name]
    return Ed25519Signer(key["kid"], Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key["private"])))


L1_VIEW: Json = {
    "id": L1,
    "tenant": "acme",
    "alias": "acme",
    "layer": 1,
    "purpose": "wraps-keys",
    "origin": "generated",
    "region": "",
    "enabled": True,
    "active_version": 1,
    "versions": [{"number": 1, "state": "active", "created_ms": 1_795_471_200_000}],
}
KEY_VIEW = L1_VIEW | {
    "id": KEY,
    "alias": "acme/eu/payments",
    "parent": L2,
    "layer": 3,
    "purpose": "wraps-deks",
    "active_version": 2,
    "versions": [
        {"number": 1, "state": "deactivated", "created_ms": 1_795_471_200_000},
        {"number": 2, "state": "active", "created_ms": 1_795_557_600_000},
    ],
}
CLIENT_VIEW: Json = {
    "id": "payments",
    "tenant": "acme",
    "role": "service",
    "algorithm": "Ed25519",
    "permissions": ["wrap", "unwrap"],
    "pattern": "acme/eu/*",
    "reply_topics": [REPLY_TOPIC],
    "not_after_ms": 1_827_093_600_000,
    "revoked": False,
}
L2_VIEW = L1_VIEW | {"id": L2, "alias": "acme/eu", "parent": L1, "layer": 2}
_PUBLIC = _base64(KEYS["signers"]["client"]["public"])

ASKED: dict[Operation, Json] = fleet.ASKED | {
    Operation.WRAP: {
        "key": "acme/eu/payments",
        "items": [{"bits": 256, "context": {"table": "customers", "row": "17"}}],
        "return_dek": True,
    },
    Operation.UNWRAP: {
        "items": [
            {"id": DEK, "context": {"table": "customers", "row": "17"}},
            {"id": DEK, "context": {"table": "another"}},
            {"blob": BLOB},
        ],
        "rewrap": True,
    },
    Operation.REWRAP: {"items": [{"id": DEK}, {"blob": BLOB}]},
    Operation.TENANT_CREATE: {"tenant": "acme", "layers": 3, "minimum_suite": "x25519"},
    Operation.KEY_CREATE: {"tenant": "acme", "parent": "acme/eu", "alias": "acme/eu/payments"},
    Operation.KEY_ROTATE: {"tenant": "acme", "key": "acme/eu/payments"},
    Operation.KEY_SHOW: {"tenant": "acme", "key": "acme/eu/payments"},
    Operation.KEY_LIST: {"tenant": "acme", "limit": 2},
    Operation.KEY_ACTIVATE: {"tenant": "acme", "key": "acme/eu/payments", "version": 2, "at_ms": 1_795_557_600_000},
    Operation.KEY_SUSPEND: {"tenant": "acme", "key": "acme/eu/payments", "why": "an audit"},
    Operation.KEY_RESUME: {"tenant": "acme", "key": "acme/eu/payments", "version": 2},
    Operation.KEY_DEACTIVATE: {"tenant": "acme", "key": "acme/eu/payments", "version": 2},
    Operation.KEY_COMPROMISE: {"tenant": "acme", "key": "acme/eu/payments", "version": 1, "why": "seen in a log"},
    Operation.KEY_DISABLE: {"tenant": "acme", "key": "acme/eu", "dry_run": True},
    Operation.KEY_ENABLE: {"tenant": "acme", "key": "acme/eu", "revision": 7, "why": "false alarm"},
    Operation.KEY_DESTROY: {"tenant": "acme", "key": "acme/eu/payments", "version": 1, "grace_s": 604_800},
    Operation.KEY_CANCEL_DESTROY: {"tenant": "acme", "key": "acme/eu/payments", "version": 1},
    Operation.APPROVAL_APPROVE: {"tenant": "acme", "approval": APPROVAL, "digest": DIGEST},
    Operation.APPROVAL_REJECT: {"tenant": "acme", "approval": APPROVAL, "why": "not now"},
    Operation.APPROVAL_LIST: {"tenant": "acme"},
    Operation.CLIENT_ADD: {
        "tenant": "acme",
        "client": "payments",
        "algorithm": "Ed25519",
        "public_key": _PUBLIC,
        "permissions": ["wrap", "unwrap"],
        "pattern": "acme/eu/*",
        "reply_topics": [REPLY_TOPIC],
        "recipient_suite": "x25519",
        "recipient_key": b64encode(RECIPIENT.public_key).decode(),
        "not_after_ms": 1_827_093_600_000,
    },
    Operation.CLIENT_ROTATE: {
        "tenant": "acme",
        "client": "payments",
        "algorithm": "Ed25519",
        "public_key": _base64(KEYS["signers"]["officer"]["public"]),
    },
    Operation.CLIENT_REVOKE: {"tenant": "acme", "client": "payments"},
    Operation.CLIENT_LIST: {"tenant": "acme"},
    **campaigns.ASKED,
    **imports.ASKED,
    **linking.ASKED,
    **regional.ASKED,
    **policing.ASKED,
    **triggering.ASKED,
}
CALLERS_OWN: Json = {
    "key": "acme/eu/payments",
    "items": [{"context": {"table": "customers", "row": "17"}}, {}],
    "sealed": {"sequence": 7, "ciphertext": SEALED["wrap request, x25519"]},
    "store": False,
}
_PLACE: Json = {"key": KEY, "version": 2}
_OLD_PLACE: Json = {"key": KEY, "version": 1}
ANSWERED: dict[Operation, list[Json]] = fleet.ANSWERED | {
    Operation.WRAP: [{"id": DEK, **_PLACE}],
    Operation.UNWRAP: [_PLACE, {"code": "UNWRAP_FAILED"}, {**_OLD_PLACE, "blob": BLOB, "blob_version": 2}],
    Operation.REWRAP: [{"id": DEK, **_PLACE, "unchanged": True}, {**_PLACE, "blob": BLOB, "unchanged": False}],
    Operation.TENANT_CREATE: [{"tenant": "acme", "layers": 3, "key": L1_VIEW}],
    Operation.KEY_CREATE: [{"key": KEY_VIEW}],
    Operation.KEY_ROTATE: [{"key": KEY_VIEW}],
    Operation.KEY_SHOW: [{"key": KEY_VIEW}],
    Operation.KEY_LIST: [{"keys": [L1_VIEW, KEY_VIEW], "more": True}],
    Operation.KEY_ACTIVATE: [{"key": KEY_VIEW}],
    Operation.KEY_SUSPEND: [{"key": KEY_VIEW}],
    Operation.KEY_RESUME: [{"key": KEY_VIEW}],
    Operation.KEY_DEACTIVATE: [{"key": KEY_VIEW}],
    Operation.KEY_COMPROMISE: [{"key": KEY_VIEW}],
    Operation.KEY_DISABLE: [
        {"key": L2_VIEW, "blast": BLAST, "press": "keyriver key disable acme/eu --tenant acme"},
    ],
    Operation.KEY_ENABLE: [{"code": "PENDING", "pending": PENDING}],
    Operation.KEY_DESTROY: [{"key": KEY_VIEW, "destruction": DESTRUCTION}],
    Operation.KEY_CANCEL_DESTROY: [{"key": KEY_VIEW}],
    Operation.APPROVAL_APPROVE: [{"approval": DONE, "result": {"key": L2_VIEW}}],
    Operation.APPROVAL_REJECT: [{"approval": PENDING | {"state": "rejected", "decided_by": "bob"}}],
    Operation.APPROVAL_LIST: [{"approvals": [PENDING], "more": False}],
    Operation.CLIENT_ADD: [{"client": CLIENT_VIEW}],
    Operation.CLIENT_ROTATE: [{"client": CLIENT_VIEW}],
    Operation.CLIENT_REVOKE: [{"client": CLIENT_VIEW | {"revoked": True}}],
    Operation.CLIENT_LIST: [{"clients": [CLIENT_VIEW], "more": False}],
    **campaigns.ANSWERED,
    **imports.ANSWERED,
    **linking.ANSWERED,
    **regional.ANSWERED,
    **policing.ANSWERED,
    **triggering.ANSWERED,
}
STATED: dict[str, Json] = fleet.STATED | {
    "keyriver.tenant.created.v1": ANSWERED[Operation.TENANT_CREATE][0],
    "keyriver.key.created.v1": {"key": KEY_VIEW},
    "keyriver.key.rotated.v1": {"key": KEY_VIEW},
    "keyriver.key.activation.scheduled.v1": became("pre-active", "pre-active, due"),
    "keyriver.key.activated.v1": became("pre-active", "active"),
    "keyriver.key.suspended.v1": became("active", "suspended"),
    "keyriver.key.resumed.v1": became("suspended", "active"),
    "keyriver.key.deactivated.v1": became("active", "deactivated"),
    "keyriver.key.compromised.v1": became("active", "compromised", reason="compromise", why="seen in a log"),
    "keyriver.key.disabled.v1": became("enabled", "disabled", blast=BLAST),
    "keyriver.key.enabled.v1": became("disabled", "enabled", approved_by="bob"),
    "keyriver.key.destruction.scheduled.v1": became(
        "deactivated", "destroy-scheduled", approved_by="bob", destruction=DESTRUCTION
    ),
    "keyriver.key.destruction.cancelled.v1": became("destroy-scheduled", "deactivated", approved_by="bob"),
    "keyriver.key.activation.lapsed.v1": became("pre-active, due", "pre-active"),
    "keyriver.key.destruction.begun.v1": became("destroy-scheduled", "destroyed"),
    "keyriver.key.destroyed.v1": became("destroy-scheduled", "destroyed", destruction=DESTRUCTION),
    "keyriver.approval.requested.v1": {"approval": PENDING},
    "keyriver.approval.approved.v1": {"approval": DONE},
    "keyriver.approval.rejected.v1": {"approval": PENDING | {"state": "rejected", "decided_by": "bob"}},
    "keyriver.approval.voided.v1": {"approval": PENDING | {"state": "voided", "decided_by": "bob"}},
    "keyriver.approval.expired.v1": {"approval": PENDING | {"state": "expired"}},
    "keyriver.pin.locked.v1": {"worker": "host-7/4242"},
    "keyriver.hint.v1": {"keys": [KEY]},
    "keyriver.client.added.v1": {"client": CLIENT_VIEW},
    "keyriver.client.rotated.v1": {"client": CLIENT_VIEW},
    "keyriver.client.revoked.v1": {"client": CLIENT_VIEW | {"revoked": True}},
    "keyriver.key.retired.v1": became("deactivated", "deactivated", why="nothing stored is left under version 1"),
    **campaigns.STATED,
    **imports.STATED,
    **linking.STATED,
    **regional.STATED,
    **policing.STATED,
    **triggering.STATED,
}


def samples() -> dict[str, Sample]:
    """All examples, by the name of their file."""
    found = {}
    for operation in Operation:
        asked, digest = request(operation, ASKED[operation])
        found[asked.type] = asked
        found[operation.reply_type] = reply(operation, digest)
    found["keyriver.wrap.v1.sealed"] = request(Operation.WRAP, CALLERS_OWN)[0]
    found |= {type_: event(type_, payload) for type_, payload in STATED.items()}
    for case in _vectors("announcements")["cases"]:
        name = {"certificate": "keyriver.certificate.v1", "intake": "keyriver.intake-key.v1"}[case["kind"]]
        found[name] = Sample(name, {"content-type": "application/json"}, json.loads(case["value"]))
    others = {
        "keyriver.fleet-key.v1": _vectors("fleet")["rotation"]["value"],
        "keyriver.checkpoint.v1": _vectors("audit")["checkpoints"][1]["value"],
    }
    kind = {"content-type": "application/json"}
    return found | {name: Sample(name, kind, json.loads(value)) for name, value in others.items()}


def request(operation: Operation, payload: Json) -> tuple[Sample, bytes]:
    """A signed request, and the digest of what was signed."""
    is_services = operation in SERVICE_OPERATIONS
    tenant, client, name = ("acme", "payments", "client") if is_services else ("fleet", "alice", "officer")
    recipient = RECIPIENT if payload.get("return_dek") or operation is Operation.UNWRAP else None
    claims = RequestClaims(
        fleet=FLEET,
        tenant=tenant,
        client=client,
        topic=f"keyriver.{operation.topic}",
        id=ID,
        type=operation.request_type,
        source=f"/{client}",
        time=TIME,
        deadline="",
        reply_topic=REPLY_TOPIC,
        reply_partition=None,
        recipient=recipient_claim(recipient),
        body_sha256=sha256(compact(payload)).digest(),
    )
    headers = {
        "ce_specversion": "1.0",
        "ce_id": ID,
        "ce_source": claims.source,
        "ce_type": claims.type,
        "ce_time": TIME,
        "ce_tenant": tenant,
        "ce_client": client,
        "ce_replyto": REPLY_TOPIC,
    }
    if recipient is not None:
        headers["ce_recipient"] = f"{recipient.suite}:{b64encode(recipient.public_key).decode()}"
    headers |= {
        "content-type": "application/json",
        "keyriver-signature": sign_jws(signer(name), claims.payload()),
    }
    return Sample(claims.type, headers, payload), signed_digest(claims.payload())


def reply(operation: Operation, request_sha256: bytes) -> Sample:
    """The signed answer to that operation's example."""
    results = [
        ERRORS[one["code"]].model_dump(mode="json") | one if "code" in one else one for one in ANSWERED[operation]
    ]
    sealed = SEALED.get(f"{operation} reply, x25519")
    told = REPLIES[operation].model_validate(
        {"results": results, "sealed": sealed and {"suite": "x25519", "ciphertext": sealed}}
    )
    payload = told.model_dump(mode="json", exclude_none=True)
    claims = ReplyClaims(
        fleet=FLEET,
        topic=REPLY_TOPIC,
        type=operation.reply_type,
        request_id=ID,
        request_sha256=request_sha256,
        body_sha256=sha256(compact(payload)).digest(),
    )
    return _said(claims.type, ID, claims.payload(), payload)


def event(type_: str, payload: Json) -> Sample:
    """A signed fact, or a hint."""
    topic = {HINT: "keyriver.hints.v1", SEQUENCE: "keyriver.sequences.v1"}.get(type_, "keyriver.events.v1")
    claims = EventClaims(FLEET, "acme", topic, ID, type_, TIME, sha256(compact(payload)).digest())
    sample = _said(type_, ID, claims.payload(), payload)
    return Sample(type_, sample.headers | {"ce_time": TIME, "ce_tenant": "acme"}, payload)


def _said(type_: str, id_: str, signed: bytes, payload: Json) -> Sample:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": id_,
        "ce_source": f"keyriver/{FLEET}",
        "ce_type": type_,
        "content-type": "application/json",
        "keyriver-signature": sign_jws(signer("worker"), signed),
    }
    return Sample(type_, headers, payload)
