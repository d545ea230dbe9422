"""Examples of the commands on campaigns, their answers and their facts."""

import json
from typing import Any

from worker.model.operations import Operation

Json = dict[str, Any]
KEY = "01936120-0000-7000-8000-000000000001"
DEK = "01936120-0000-7000-8000-0000000000d1"
CAMPAIGN = "01936120-0000-7000-8000-00000000ca01"
_ONE: Json = {"tenant": "acme", "campaign": CAMPAIGN}
VIEW: Json = {
    "id": CAMPAIGN,
    "tenant": "acme",
    "key": KEY,
    "alias": "acme/eu/payments",
    "from_version": 1,
    "to_version": 2,
    "kind": "shallow",
    "state": "running",
    "items": 1200,
    "remaining": 200,
    "moved": 1000,
    "failed": 0,
    "issued_outside": 3,
    "rate": 500.0,
    "eta_s": 0.4,
    "items_s": 0,
    "hsm_share": 100,
    "round": 1,
    "asked_by": "alice",
    "why": "once a year",
    "created_ms": 1_795_557_600_000,
    "started_ms": 1_795_557_600_000,
    "ended_ms": 0,
    "revision": 1,
}
_CERTIFICATE: Json = {
    "form": "keyriver-campaign-certificate/1",
    "fleet": "dev-example",
    "campaign": CAMPAIGN,
    "tenant": "acme",
    "key": KEY,
    "from_version": 1,
    "to_version": 2,
    "kind": "shallow",
    "covers": "stored rows: stored DEKs",
    "items": 1200,
    "issued_outside": 3,
    "exposed": 0,
    "parts": [],
    "started_ms": 1_795_557_600_000,
    "ended_ms": 1_795_557_603_000,
    "digests": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "log_size": 40,
    "log_root": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "signature": "AAAA",
}
_OVER: Json = {"remaining": 0, "moved": 1200, "rate": 0.0, "eta_s": 0.0, "revision": 3, "ended_ms": 1_795_557_603_000}
FINISHED: Json = VIEW | _OVER | {"state": "done", "certificate": json.dumps(_CERTIFICATE)}

ASKED: dict[Operation, Json] = {
    Operation.CAMPAIGN_PLAN: {"tenant": "acme", "key": "acme/eu", "from_version": 1, "kind": "deep"},
    Operation.CAMPAIGN_START: {"tenant": "acme", "key": "acme/eu/payments", "items_s": 5000, "why": "once a year"},
    Operation.CAMPAIGN_SHOW: _ONE,
    Operation.CAMPAIGN_LIST: {"tenant": "acme"},
    Operation.CAMPAIGN_PAUSE: _ONE | {"why": "month's end"},
    Operation.CAMPAIGN_RESUME: _ONE,
    Operation.CAMPAIGN_CANCEL: _ONE,
    Operation.CAMPAIGN_THROTTLE: _ONE | {"items_s": 500, "hsm_share": 50},
    Operation.CAMPAIGN_REPLAY: _ONE,
    Operation.CAMPAIGN_FAILURES: _ONE | {"limit": 100},
    Operation.CAMPAIGN_EXPOSED: _ONE | {"after": "1/4"},
}
ANSWERED: dict[Operation, list[Json]] = {
    Operation.CAMPAIGN_PLAN: [
        {
            "id": CAMPAIGN,
            "key": KEY,
            "alias": "acme/eu",
            "from_version": 1,
            "to_version": 2,
            "kind": "deep",
            "layers": [
                {"layer": "L3", "items": 4, "hsm_operations": 12},
                {"layer": "DEKs", "items": 1200, "hsm_operations": 3600},
            ],
            "issued_outside": 0,
            "rate": 10000.0,
            "measured": False,
            "seconds": 0.1204,
        }
    ],
    Operation.CAMPAIGN_START: [{"campaign": VIEW}],
    Operation.CAMPAIGN_SHOW: [{"campaign": FINISHED}],
    Operation.CAMPAIGN_LIST: [{"campaigns": [VIEW], "more": False}],
    Operation.CAMPAIGN_PAUSE: [{"campaign": VIEW | {"state": "paused", "rate": 0.0, "eta_s": 0.0}}],
    Operation.CAMPAIGN_RESUME: [{"campaign": VIEW}],
    Operation.CAMPAIGN_CANCEL: [{"campaign": VIEW | {"state": "cancelled", "rate": 0.0, "eta_s": 0.0}}],
    Operation.CAMPAIGN_THROTTLE: [{"campaign": VIEW | {"items_s": 500, "hsm_share": 50}}],
    Operation.CAMPAIGN_REPLAY: [{"code": "CAMPAIGN_STATE"}],
    Operation.CAMPAIGN_FAILURES: [
        {"failures": [{"item": DEK, "code": "UNWRAP_FAILED", "at_ms": 1_795_557_601_000}], "more": False}
    ],
    Operation.CAMPAIGN_EXPOSED: [{"exposed": [DEK], "place": "1/9"}],
}


def _told(view: Json, **more: object) -> Json:
    return {"campaign": view, "who": "keyriver", "why": "", "codes": {}} | more


STATED: dict[str, Json] = {
    "keyriver.campaign.started.v1": _told(VIEW, who="alice", why="once a year"),
    "keyriver.campaign.progress.v1": _told(VIEW),
    "keyriver.campaign.items.failed.v1": _told(VIEW | {"failed": 2}, codes={"UNWRAP_FAILED": 2}),
    "keyriver.campaign.paused.v1": _told(VIEW | {"state": "paused"}, who="alice", why="month's end"),
    "keyriver.campaign.resumed.v1": _told(VIEW, who="alice"),
    "keyriver.campaign.throttled.v1": _told(VIEW | {"items_s": 500}, who="alice"),
    "keyriver.campaign.verifying.v1": _told(VIEW | {"state": "verifying"}),
    "keyriver.campaign.completed.v1": _told(FINISHED),
    "keyriver.campaign.failed.v1": _told(VIEW | {"state": "failed", "failed": 2}, why="2 failed"),
    "keyriver.campaign.replayed.v1": _told(VIEW, who="alice"),
    "keyriver.campaign.cancelled.v1": _told(VIEW | {"state": "cancelled"}, who="alice"),
}
