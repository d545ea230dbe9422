"""What the examples of imports share; keys, statement and blob are those of `tests/vectors/imports.json`."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

Json = dict[str, Any]
ID = "01936120-0000-7000-8000-00000000a001"
_VECTORS: Json = json.loads((Path(__file__).parent.parent / "tests" / "vectors" / "imports.json").read_text("utf-8"))
_SAID: Json = _VECTORS["statement"]


def _base64(text: str) -> str:
    return b64encode(bytes.fromhex(text)).decode()


PARAMETERS: Json = {"tenant": "acme", "key": "acme", "algorithm": _SAID["algorithm"], "bits": 3072}
IMPORT: Json = {
    "tenant": "acme",
    "key": "acme",
    "parameters": _SAID["parameters"],
    "algorithm": _SAID["algorithm"],
    "blob": _base64(_VECTORS["blobs"][_SAID["algorithm"]]),
    "check_value": _VECTORS["check_value"],
    "not_after_ms": 1_827_093_600_000,
}
OFFERED: Json = _SAID | {
    "public_key": _base64(_SAID["public_key"]),
    "signature": _base64(_VECTORS["signature"]),
}
IMPORT_FACT: Json = {
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
