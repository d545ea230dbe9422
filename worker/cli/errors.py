"""What ends a command: the table of errors that are a user's or an operator's to mend, and how each is told."""

from worker.client import BadIdentityFile, BusDown, ClientError, NoAnswer
from worker.edges.hsm import FleetKeyMissing, PinRefused, TokenLacks
from worker.edges.store.pool import SchemaMismatch, StoreRefused
from worker.flow.fleetkeys import FleetKeysDoubted
from worker.local import PartFailed, PartMissing
from worker.model.keystores import KeystoreMisconfigured
from worker.parts import WrongFleet, WrongTopics
from worker.ports import BusUnavailable, StoreUnavailable, TokenUnavailable


class Refused(Exception):
    """The command can't be carried out; the message says why and what to do."""


class Usage(Exception):
    """The command line asks for something that does not exist."""


FOR_GOOD = (
    Refused,
    WrongFleet,
    WrongTopics,
    SchemaMismatch,
    PinRefused,
    TokenLacks,
    FleetKeyMissing,
    KeystoreMisconfigured,
)
"""Trying again changes nothing; of a wrong PIN it would even lock the token (S9)."""
_CURES: tuple[tuple[type[BaseException], str], ...] = (
    (
        NoAnswer,
        "is a worker running (`keyriver run`)? It may have taken effect: look before you repeat it",
    ),
    (BusDown, "`keyriver doctor` says what is wrong with Kafka"),
    (BadIdentityFile, ""),
    (ClientError, ""),
    (PinRefused, "correct hsm_pin_file; no login is tried again, because tokens lock after a few"),
    (FleetKeyMissing, ""),
    (KeystoreMisconfigured, ""),
    (TokenLacks, "use another token, or another version of its module"),
    (SchemaMismatch, ""),
    (WrongFleet, ""),
    (FleetKeysDoubted, "somebody changed the table fleet_keys: restore it from a backup"),
    (WrongTopics, "`keyriver topics` shows what is missing and, with `--create`, makes it"),
    (StoreRefused, "`keyriver doctor` says what is wrong with Postgres"),
    (BusUnavailable, ""),
    (StoreUnavailable, "`keyriver doctor` says what is wrong with Postgres"),
    (TokenUnavailable, "`keyriver doctor` says what is wrong with the token"),
    (PartMissing, ""),
    (PartFailed, ""),
    (Refused, ""),
)


def plain(error: BaseException) -> str | None:
    """The error as a sentence with its cure, or None if it is a defect of ours and needs its stack trace."""
    for kind, cure in _CURES:
        if isinstance(error, kind):
            return f"{error}\n  → {cure}" if cure else str(error)
    return None
