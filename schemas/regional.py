"""Examples of regions: which tokens they are."""

from typing import Any

from worker.model.operations import Operation

Json = dict[str, Any]
_EU: Json = {"region": "eu", "serials": ["4b1f00d2c0ffee11"], "revision": 1}

ASKED: dict[Operation, Json] = {
    Operation.REGION_SET: {"region": "eu", "serials": ["4b1f00d2c0ffee11"], "why": "the token in Frankfurt"},
    Operation.REGION_LIST: {"limit": 100},
}
ANSWERED: dict[Operation, list[Json]] = {
    Operation.REGION_SET: [{"set_region": _EU}],
    Operation.REGION_LIST: [{"regions": [_EU], "more": False}],
}
STATED: dict[str, Json] = {
    "keyriver.region.changed.v1": {
        "region": "eu",
        "was": [],
        "now": ["4b1f00d2c0ffee11"],
        "who": "alice",
        "approved_by": "bob",
        "why": "the token in Frankfurt",
        "request": "01936120-0000-7000-8000-0000000000c1",
        "correlation": "01936120-0000-7000-8000-0000000000c1",
        "revision": 1,
    },
}
