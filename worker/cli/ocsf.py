"""Audit records with the field names of the Open Cybersecurity Schema Framework, class "API Activity" (6003).

Like it, not of it: there is no source address, and what it has no name for stands under `unmapped`.
"""

import json
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from worker.model.audit import AuditLeaf, LogRow

VERSION = "1.3.0"
API_ACTIVITY, APPLICATION_ACTIVITY = 6003, 6
_ACTIVITIES = {1: "Create", 2: "Read", 3: "Update", 4: "Delete", 99: "Other"}
_VERBS = {
    "wrap": 1,
    "create": 1,
    "add": 1,
    "unwrap": 2,
    "show": 2,
    "list": 2,
    "rewrap": 3,
    "rotate": 3,
    "revoke": 4,
    "destroy": 4,
}
DONE = frozenset({"OK", "UNCHANGED", "REPEATED"})
RETRIED = frozenset({"DEFERRED", "KEK_OPENING", "THROTTLED"})


class Severity(IntEnum):
    """OCSF's severity_id."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    CRITICAL = 5


_SEVERITIES = {
    # Security events: somebody asked for what is not his, or a row, a blob or a login is not what it should be.
    "INTEGRITY": Severity.CRITICAL,
    "PIN_LOCKED": Severity.CRITICAL,
    "NOT_FOUND": Severity.MEDIUM,
    "UNWRAP_FAILED": Severity.MEDIUM,
    "KEY_DISABLED": Severity.MEDIUM,
    "KEY_STATE": Severity.MEDIUM,
    "ID_REUSED": Severity.MEDIUM,
    "STALE": Severity.MEDIUM,
    "POISON": Severity.MEDIUM,
    "APPROVAL_EXPIRED": Severity.MEDIUM,
}


def severity(words: Iterable[str]) -> Severity:
    """The worst of what became of a request's items; each word is a code, and perhaps why (`NOT_FOUND: foreign`)."""
    codes = {word.partition(":")[0] for word in words}
    found = [_SEVERITIES.get(code, Severity.LOW) for code in codes - DONE - RETRIED]
    return max(found, default=Severity.INFORMATIONAL)


def event(row: LogRow) -> dict[str, Any]:
    """One record of the log. A body that is not ours (somebody altered it) is told as it is, in hex."""
    entry, leaf = row.entry, row.leaf
    told: dict[str, Any] = {
        "class_uid": API_ACTIVITY,
        "class_name": "API Activity",
        "category_uid": APPLICATION_ACTIVITY,
        "category_name": "Application Activity",
        "metadata": {
            "version": VERSION,
            "product": {"name": "Keyriver", "vendor_name": "Keyriver"},
            "uid": str(entry.leaf),
            "sequence": entry.index,
            "tenant_uid": "" if leaf is None else leaf.tenant,
        },
    }
    body = None if leaf is None else _body(leaf)
    if leaf is None or body is None:
        lost = "gone" if leaf is None else leaf.body.hex()
        grave = {"severity_id": int(Severity.CRITICAL), "severity": "Critical", "activity_id": 99}
        return told | grave | {"message": "the record was altered or removed", "unmapped": {"body": lost}}
    told["metadata"]["correlation_uid"] = body.get("correlation", "")
    return told | _activity(body, leaf.at_us) | _actor(body, entry.hash)


def _activity(body: dict[str, Any], at_us: int) -> dict[str, Any]:
    counts = body["counts"]
    worst = severity(counts)
    failed = sorted(counts.keys() - DONE)
    verb = body["type"].removesuffix(".v1").rpartition(".")[2]
    activity = _VERBS.get(verb, 99)
    return {
        "time": at_us // 1000,
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "type_uid": API_ACTIVITY * 100 + activity,
        "severity_id": int(worst),
        "severity": worst.name.capitalize(),
        "status_id": 2 if failed else 1,
        "status": "Failure" if failed else "Success",
        "status_code": ",".join(sorted({word.partition(":")[0] for word in failed})) or "OK",
        "status_detail": ", ".join(failed),
    }


def _actor(body: dict[str, Any], digest: bytes) -> dict[str, Any]:
    key = body["key"]
    return {
        "actor": {"user": {"name": body["client"]}, "invoked_by": body["source"]},
        "api": {"operation": body["type"], "request": {"uid": body["request"]}, "service": {"name": "keyriver"}},
        "resources": [] if key is None else [{"uid": key, "type": "key", "version": str(body["version"])}],
        "unmapped": {
            "counts": body["counts"],
            "algorithm": body["algorithm"],
            "items_sha256": body["items"],
            "signed_sha256": body["signed"],
            "signed_time": body["time_ms"],
            "appended_time": body["appended_ms"],
            "leaf_hash": digest.hex(),
        },
    }


def _body(leaf: AuditLeaf) -> dict[str, Any] | None:
    """As `chain.conclude` wrote it, or None."""
    try:
        body = json.loads(leaf.body)
    except ValueError:
        return None
    wanted = {"client", "type", "source", "request", "time_ms", "appended_ms", "key", "version", "algorithm", "counts"}
    return body if isinstance(body, dict) and body.keys() >= wanted | {"items", "signed"} else None
