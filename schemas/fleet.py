"""Examples of the commands on the fleet's own keys, and of what is told about rows."""

from base64 import b64encode
from hashlib import sha256
from typing import Any

from worker.model.operations import Operation

Json = dict[str, Any]
_AT = 1_795_557_600_000
ID = "01936120-0000-7000-8000-00000000a001"
_MADE: Json = {"kind": "row-mac", "number": 2, "state": "active", "since_ms": _AT}
_GONE: Json = {"kind": "row-mac", "number": 1, "state": "retired"}
_SAID: Json = {"who": "alice", "why": "the yearly rotation", "request": ID, "correlation": ID}

ASKED: dict[Operation, Json] = {
    Operation.FLEET_ROTATE: {"kind": "row-mac", "why": "the yearly rotation"},
    Operation.FLEET_RETIRE: {"kind": "row-mac", "number": 1, "why": "a backup tape was lost"},
    Operation.FLEET_SHOW: {},
}
ANSWERED: dict[Operation, list[Json]] = {
    Operation.FLEET_ROTATE: [{"key": _MADE, **_SAID}],
    Operation.FLEET_RETIRE: [{"key": _GONE, **_SAID}],
    Operation.FLEET_SHOW: [
        {
            "keys": [
                {"kind": "row-mac", "number": 1, "state": "verify-only", "rests": 12},
                _MADE | {"rests": 5300},
                {"kind": "intake-wrap", "number": 1, "state": "active", "rests": 3},
                {"kind": "signing", "number": 1, "state": "active"},
            ]
        }
    ],
}
STATED: dict[str, Json] = {
    "keyriver.fleet.rotated.v1": {"key": _MADE, **_SAID, "approved_by": "bob"},
    "keyriver.fleet.retired.v1": {"key": _GONE, **_SAID, "approved_by": "bob"},
    "keyriver.row.reverted.v1": {"table": "clients", "key": "payments", "revision": 2, "worker": "host-7/4242"},
    "keyriver.sequence.v1": {
        "table": "clients",
        "key": "payments",
        "revision": 2,
        "mac_version": 1,
        "mac": b64encode(sha256(b"an example's MAC").digest()).decode(),
        "tag_version": 1,
        "tag": b64encode(sha256(b"an example's tag").digest()).decode(),
    },
}
