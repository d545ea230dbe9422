"""The fleet's keys as token objects: found by label, made once per version.

Creators on one machine exclude each other by the module's lock. On a network HSM two machines may still make twins of
one version; neither is ever destroyed for that (it may have made something by then): whoever reads tries all of them,
and of a signing key the one whose public half the fleet announced is used.
"""

from __future__ import annotations

import hashlib
from os import urandom
from time import monotonic
from typing import Final

from worker.edges.hsm import templates
from worker.edges.hsm.ck import (
    CKA_EC_POINT,
    CKA_ID,
    CKA_LABEL,
    CKM_AES_KEY_GEN,
    CKM_EC_KEY_PAIR_GEN,
    CKM_ECDSA,
    CKM_GENERIC_SECRET_KEY_GEN,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
    Blame,
    CkError,
)
from worker.edges.hsm.crew import Crew
from worker.edges.hsm.locks import module_lock
from worker.model.fleet import FleetKind
from worker.model.hsm import CreatedFleetKey, CreateFleetKey, Fault, HsmFault
from worker.ports import TokenUnavailable
from worker.seal.lineage import Succession

CLASSES: Final = {
    FleetKind.ROW_MAC: CKO_SECRET_KEY,
    FleetKind.INTAKE_WRAP: CKO_SECRET_KEY,
    FleetKind.SIGNING: CKO_PRIVATE_KEY,
}
_POINT_BYTES: Final = 65
MOST: Final = 1000
"""Versions of a fleet key."""


class FleetKeyMissing(TokenUnavailable):
    """The token has no such fleet key; `keyriver init` makes the first ones, `keyriver fleet rotate` others."""


def label_of(fleet: str, kind: FleetKind, version: int) -> str:
    """CKA_LABEL of one version of a fleet key."""
    return f"keyriver/{fleet}/{kind}/{version}"


class FleetObjects:
    """Handles of fleet keys, as long as one login lasts. Used by the pool's threads, one call at a time each."""

    def __init__(self, fleet: str) -> None:
        self._fleet = fleet
        self._known: dict[tuple[FleetKind, int, bytes], list[int]] = {}
        self._epoch = -1

    def handles(self, crew: Crew, kind: FleetKind, version: int) -> list[int]:
        """All objects of a version, of a signing key the private ones. Raises `FleetKeyMissing`, `CkError`."""
        return self._objects(crew, kind, version, b"")

    def signing(self, crew: Crew, version: int, public_key: bytes) -> int:
        """The private key of this public one. Raises `FleetKeyMissing`, `CkError`."""
        return self._objects(crew, FleetKind.SIGNING, version, public_key)[0]

    def exists(self, crew: Crew, kind: FleetKind, version: int) -> bool:
        """Whether the token has this version."""
        return bool(crew.find(templates.by_label(CLASSES[kind], label_of(self._fleet, kind, version))))

    def oldest(self, crew: Crew, kind: FleetKind) -> int:
        """The first version that the token has, or 0: of the row MAC key, those before it may be retired."""
        last = MOST if kind is FleetKind.ROW_MAC else 1
        return next((version for version in range(1, last + 1) if self.exists(crew, kind, version)), 0)

    def destroy(self, crew: Crew, kind: FleetKind, version: int) -> int:
        """Destroy every object of this version, twins included; how many there were. Raises `CkError`."""
        found = crew.find(templates.by_label(CLASSES[kind], label_of(self._fleet, kind, version)))
        for handle in found:
            crew.session.destroy(handle)
        return len(found)

    def points(self, crew: Crew, version: int) -> dict[bytes, bytes]:
        """The public halves of a signing key's version: each point, and the CKA_ID that its private half has, too."""
        found = crew.find(templates.by_label(CKO_PUBLIC_KEY, label_of(self._fleet, FleetKind.SIGNING, version)))
        # CKA_EC_POINT is a DER OCTET STRING around the point.
        return {_point(crew, one): crew.session.attribute(one, CKA_ID) for one in found}

    def _objects(self, crew: Crew, kind: FleetKind, version: int, point: bytes) -> list[int]:
        """Their labels are read back: a handle of another login may be anybody's."""
        label = label_of(self._fleet, kind, version)
        if self._epoch != crew.device.epoch:
            self._epoch, self._known = crew.device.epoch, {}
        known = self._known.get((kind, version, point))
        if known is not None and _all_labelled(crew, known, label):
            return known
        wanted = templates.by_label(CLASSES[kind], label)
        if point:
            identity = self.points(crew, version).get(point)
            if identity is None:
                raise FleetKeyMissing(f"the token has no {label} of the public key that the fleet announced")
            wanted.append((CKA_ID, identity))
        found = crew.find(wanted)
        if not found:
            raise FleetKeyMissing(f"the token has no {label}: run keyriver init, or restore its backup")
        self._known[kind, version, point] = found
        return found


def make(crew: Crew, fleet: str, kind: FleetKind, version: int) -> None:
    """Generate the objects of one version. Raises `CkError`."""
    restrict, session, label = crew.device.abilities.restricts, crew.session, label_of(fleet, kind, version)
    match kind:
        case FleetKind.ROW_MAC:
            session.generate(CKM_GENERIC_SECRET_KEY_GEN, templates.row_mac(label, restrict=restrict))
        case FleetKind.INTAKE_WRAP:
            session.generate(CKM_AES_KEY_GEN, templates.intake_wrap(label, restrict=restrict))
        case FleetKind.SIGNING:
            identity = label.encode() if version == 1 else label.encode() + b"/" + urandom(8).hex().encode()
            public, private = templates.signing_pair(label, identity, restrict=restrict)
            session.generate_pair(CKM_EC_KEY_PAIR_GEN, public, private)


def create_fleet_key(op: CreateFleetKey, crew: Crew, deadline: float) -> CreatedFleetKey | HsmFault:
    """Make the version unless it is there; have both signing keys sign the rotation. Raises `CkError`."""
    fleet = crew.device.fleet
    objects = FleetObjects(fleet)
    with module_lock(crew.device.module, max(0.0, deadline - monotonic())) as locked:
        if not locked:
            return HsmFault(Fault.UNAVAILABLE, "another process is creating a token object")
        if not objects.exists(crew, op.kind, op.number):
            make(crew, fleet, op.kind, op.number)
    if op.kind is not FleetKind.SIGNING:
        return CreatedFleetKey()
    old = op.predecessor or min(objects.points(crew, op.number - 1))
    new = min(objects.points(crew, op.number))
    said = Succession(fleet, op.number, old, new, op.not_before_ms)
    digest = hashlib.sha256(said.payload()).digest()
    try:
        keys = objects.signing(crew, op.number - 1, old), objects.signing(crew, op.number, new)
    except FleetKeyMissing as missing:
        return HsmFault(Fault.INTEGRITY, str(missing))
    by_old, by_new = (crew.session.sign(CKM_ECDSA, key, digest) for key in keys)
    return CreatedFleetKey(new, old, by_old, by_new)


def _point(crew: Crew, public: int) -> bytes:
    return crew.session.attribute(public, CKA_EC_POINT)[-_POINT_BYTES:]


def _all_labelled(crew: Crew, handles: list[int], label: str) -> bool:
    try:
        return all(crew.session.attribute(handle, CKA_LABEL) == label.encode() for handle in handles)
    except CkError as error:
        if error.blame is not Blame.HANDLE:
            raise
        return False
