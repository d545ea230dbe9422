"""Checkpoints of the audit logs as bytes: what the fleet's P-256 key signs, and the JSON on `keyriver.audit.v1` (S16).

To accept one: 1. it is readable, 2. it is our fleet's, 3. its numbers are in order and its hashes have 32 bytes,
4. the pinned fleet key signed it, or one of its `lineage`. Whether the log is the one seen before is `chain.audit`'s to
check.
"""

from dataclasses import replace

from pydantic import ValidationError

from worker.model.audit import HASH_BYTES, Checkpoint, CheckpointBody
from worker.seal import lineage
from worker.seal.errors import BadSignature, SealError
from worker.seal.frames import framed
from worker.seal.lineage import FleetKey

CHECKPOINT = b"keyriver-checkpoint/1"


class BadCheckpoint(SealError):
    """The fleet never said this."""


def payload(said: Checkpoint) -> bytes:
    """What is signed: everything but the consistency proof, which proves itself."""
    return framed(
        CHECKPOINT,
        said.fleet.encode(),
        said.tenant.encode(),
        str(said.size).encode(),
        said.root,
        str(said.time_ms).encode(),
        str(said.previous_size).encode(),
    )


def to_json(said: Checkpoint) -> bytes:
    """The record's value."""
    body = CheckpointBody(
        fleet=said.fleet,
        tenant=said.tenant,
        size=said.size,
        root=said.root,
        time_ms=said.time_ms,
        previous_size=said.previous_size,
        consistency=list(said.consistency),
        signature=said.signature,
    )
    return body.model_dump_json().encode()


def check(said: Checkpoint, fleet: str, fleet_key: FleetKey) -> None:
    """Raise BadCheckpoint unless this fleet signed it."""
    if said.fleet != fleet:
        raise BadCheckpoint("the checkpoint is another fleet's")
    if not 0 <= said.previous_size < said.size:
        raise BadCheckpoint("the checkpoint's sizes are out of order")
    if any(len(each) != HASH_BYTES for each in (said.root, *said.consistency)):
        raise BadCheckpoint(f"the checkpoint's hashes must have {HASH_BYTES} bytes")
    try:
        lineage.verify(fleet_key, said.signature, payload(said), said.time_ms)
    except BadSignature:
        raise BadCheckpoint("the fleet's key did not sign the checkpoint") from None


def parse(value: bytes, fleet: str, fleet_key: FleetKey) -> Checkpoint:
    """Or BadCheckpoint."""
    try:
        body = CheckpointBody.model_validate_json(value)
    except ValidationError:
        raise BadCheckpoint("the checkpoint is not readable") from None
    said = Checkpoint(
        body.fleet,
        body.tenant,
        body.size,
        body.root,
        body.time_ms,
        body.previous_size,
        tuple(body.consistency),
        body.signature,
    )
    check(said, fleet, fleet_key)
    return said


def signed(said: Checkpoint, signature: bytes) -> Checkpoint:
    """With the fleet's signature over `payload`: 64 bytes r ‖ s."""
    return replace(said, signature=signature)
