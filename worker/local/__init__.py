"""The one-machine stack for the demo, development and tests: real Kafka, real Postgres, a SoftHSM2 token.

No Docker, and no root where that can be. It lives in one data directory, with its own ports, so that two checkouts run
side by side; nothing of it is meant for production.
"""

from worker.local.kafka import Kafka
from worker.local.parts import PartFailed, PartMissing, Say
from worker.local.postgres import Postgres
from worker.local.stack import PartStatus, Stack, default_folder
from worker.local.token import Token

__all__ = [
    "Kafka",
    "PartFailed",
    "PartMissing",
    "PartStatus",
    "Postgres",
    "Say",
    "Stack",
    "Token",
    "default_folder",
]
