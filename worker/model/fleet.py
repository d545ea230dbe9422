"""The fleet's own keys (SECURITY S5): which versions there are, the officers' commands on them, and the answers."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from worker.model.fields import Answer, Base64, Body, Why
from worker.model.words import RowRef, Table


class FleetKind(StrEnum):
    """What a fleet key is for. Its versions are token objects, one label each, and count from 1."""

    ROW_MAC = "row-mac"
    INTAKE_WRAP = "intake-wrap"
    SIGNING = "signing"


class FleetKeyState(StrEnum):
    """What a version still does."""

    ACTIVE = "active"
    VERIFY_ONLY = "verify-only"
    """It reads what it made, and makes nothing more."""
    RETIRED = "retired"
    """Nothing that it made is believed any more, and the token's object is destroyed."""


@dataclass(frozen=True, slots=True)
class FleetKey:
    """One version of a fleet key that a rotation made, or ended. Before the first one there is version 1, and no row.

    Of a signing key also: its public half, that of the one before, and both keys' signatures over the rotation (S1).
    """

    TABLE: ClassVar[Table] = Table.FLEET_KEYS
    id: str
    kind: FleetKind
    number: int
    state: FleetKeyState
    since_ms: int
    revision: int
    tenant: str
    public_key: bytes = b""
    predecessor: bytes = b""
    by_predecessor: bytes = b""
    by_itself: bytes = b""

    @property
    def ref(self) -> RowRef:
        """The row's name."""
        return fleet_key_ref(self.kind, self.number)


def fleet_key_ref(kind: FleetKind, number: int) -> RowRef:
    """The row of this version."""
    return RowRef(Table.FLEET_KEYS, f"{kind}/{number}")


class FleetRotateBody(Body):
    """Make the next version of a fleet key. Needs a second officer."""

    kind: FleetKind
    why: Why = ""


class FleetRetireBody(Body):
    """Believe a version of the row MAC key no more. Needs a second officer, and is for good.

    Refused while anything rests on it; of what is forged, and so can't be given another MAC, `leaving` says how much
    may stay behind. It counts as tampered with from then on.
    """

    kind: FleetKind
    number: int = Field(ge=1, le=2**31 - 1)
    leaving: int = Field(default=0, ge=0, le=2**53)
    why: Why = ""


class FleetShowBody(Body):
    """Every version of the fleet keys, and what still rests on it."""


class FleetKeyView(Answer):
    """One version, for people. `rests`: rows whose MAC it made, or private halves of intake keys that it wraps.

    `public_key`: of a signing key, to be pinned; absent for the one that `init` told.
    """

    kind: FleetKind
    number: int
    state: FleetKeyState
    since_ms: int | None = None
    rests: int | None = None
    public_key: Base64 | None = None


class FleetKeyResult(Answer):
    """The version that a rotation made, or that was retired, and on whose word."""

    key: FleetKeyView
    who: str
    approved_by: str | None = None
    why: str = ""
    request: str
    correlation: str


class FleetShowResult(Answer):
    """All versions, each kind's oldest first."""

    keys: list[FleetKeyView]
