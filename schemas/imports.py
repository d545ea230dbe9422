"""What the examples of imports share; keys, statement and blob are those of `tests/vectors/imports.json`."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from schemas.life import became
from worker.model.operations import Operation

Json = dict[str, Any]
ID = "01936120-0000-7000-8000-00000000a001"
_VECTORS: Json = json.loads((Path(__file__).parent.parent / "tests" / "vectors" / "imports.json").read_text("utf-8"))
_SAID: Json = _VECTORS["statement"]


def _base64(text: str) -> str:
    return b64encode(bytes.fromhex(text)).decode()


ASKED: dict[Operation, Json] = {
    Operation.KEY_IMPORT_PARAMETERS: {"tenant": "acme", "key": "acme", "algorithm": _SAID["algorithm"], "bits": 3072},
    Operation.KEY_IMPORT: {
        "tenant": "acme",
        "key": "acme",
        "parameters": _SAID["parameters"],
        "algorithm": _SAID["algorithm"],
        "blob": _base64(_VECTORS["blobs"][_SAID["algorithm"]]),
        "check_value": _VECTORS["check_value"],
        "not_after_ms": 1_827_093_600_000,
    },
}
_OFFERED: Json = _SAID | {
    "public_key": _base64(_SAID["public_key"]),
    "signature": _base64(_VECTORS["signature"]),
}
_L1_VIEW: Json = {
    "id": _SAID["key"],
    "tenant": "acme",
    "alias": "acme",
    "layer": 1,
    "purpose": "wraps-keys",
    "origin": "imported",
    "region": "",
    "enabled": True,
    "active_version": 1,
    "versions": [
        {"number": 1, "state": "active", "created_ms": 1_795_471_200_000, "not_after_ms": 1_827_093_600_000},
    ],
}
ANSWERED: dict[Operation, list[Json]] = {
    Operation.KEY_IMPORT_PARAMETERS: [_OFFERED],
    Operation.KEY_IMPORT: [{"key": _L1_VIEW}],
}
_IMPORT_FACT: Json = {
    "tenant": "acme",
    "key": _SAID["key"],
    "alias": "acme",
    "parameters": _SAID["parameters"],
    "algorithm": _SAID["algorithm"],
    "expires_ms": _SAID["expires_ms"],
    "state": "open",
    "failures": 0,
    "who": "alice",
    "why": "",
    "request": ID,
    "correlation": ID,
    "revision": 1,
}
STATED: dict[str, Json] = {
    "keyriver.key.imported.v1": became("pre-active, without material", "active"),
    "keyriver.key.material.expired.v1": became("active", "active, without material"),
    "keyriver.key.material.deleted.v1": became("active, without material", "active, without material"),
    "keyriver.import.offered.v1": _IMPORT_FACT,
    "keyriver.import.refused.v1": _IMPORT_FACT | {"failures": 5, "state": "burned", "revision": 6},
    "keyriver.import.ended.v1": _IMPORT_FACT | {"state": "used", "who": "keyriver", "revision": 3},
    "keyriver.import.expired.v1": _IMPORT_FACT | {"state": "expired", "who": "keyriver", "revision": 2},
}
