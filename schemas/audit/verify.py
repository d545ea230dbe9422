"""Checks that a record stands in the audit log that the fleet signed. Needs Python and `cryptography`, nothing of ours.

    python verify.py PROOF.json FLEET_KEY [CHECKPOINT.json]

PROOF.json is what `keyriver audit prove` printed. FLEET_KEY is the fleet's public key in base64 as you pinned it, never
as somebody sends it along; a rotation since, or before, is believed when both its keys signed it and one is known.
CHECKPOINT.json is a record of the topic keyriver.audit.v1 that you kept: with it the proof
must lead to that very checkpoint, so nobody can show you another log. Exit code 0: the printed record stands there.
"""

import json
import sys
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256


def framed(*parts: str | bytes) -> bytes:
    """Each part as a 4-byte big-endian length and its bytes."""
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in raw)


def leaf_hash(leaf: dict[str, Any]) -> bytes:
    """RFC 9162, section 2.1.1, over the record and its place."""
    name = bytes.fromhex(leaf["id"].replace("-", ""))
    text = framed("keyriver-leaf/1", leaf["tenant"], str(leaf["index"]), name, str(leaf["at_us"]), leaf["body"])
    return sha256(b"\x00" + text).digest()


def root(found: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Where the path leads (RFC 9162, section 2.1.3.2)."""
    node, last = index, size - 1
    for step in path:
        if last == 0:
            raise ValueError("the path is too long")
        if node & 1 or node == last:
            found = sha256(b"\x01" + step + found).digest()
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = sha256(b"\x01" + found + step).digest()
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ValueError("the path is too short")
    return found


def signed(key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether this P-256 point's 64 bytes r, s are over the text."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        point = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), key)
        point.verify(encode_dss_signature(r, s), text, ECDSA(SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True


def keys_at(rotations: list[dict[str, Any]], fleet: str, pinned: bytes, at_ms: int) -> set[bytes]:
    """The fleet's signing keys that the pinned one leads to, less those that had ended five minutes before."""
    known, ended = {pinned}, set[bytes]()
    for _ in rotations:
        for said in rotations:
            old, new = b64decode(said["predecessor"]), b64decode(said["public_key"])
            since = said["not_before_ms"]
            text = framed("keyriver-fleet-key/1", fleet, str(said["number"]), old, new, str(since))
            both = signed(old, b64decode(said["by_predecessor"]), text), signed(new, b64decode(said["by_itself"]), text)
            if all(both) and {old, new} & known:
                known |= {old, new}
                ended |= {old} if at_ms > since + 5 * 60_000 else set()
    return known - ended


def verify(proof: dict[str, Any], fleet_key: bytes, checkpoint: dict[str, Any] | None = None) -> None:
    """Raise an exception unless all of it holds."""
    leaf, said = proof["leaf"], proof["checkpoint"]
    if checkpoint is not None and any(checkpoint[name] != said[name] for name in ("fleet", "tenant", "size", "root")):
        raise ValueError("the proof is for another checkpoint than yours")
    if leaf["tenant"] != said["tenant"] or not 0 <= leaf["index"] < said["size"]:
        raise ValueError("the record is not of this checkpoint")
    signed_root, path = b64decode(said["root"]), [b64decode(step) for step in proof["path"]]
    if root(leaf_hash(leaf), leaf["index"], said["size"], path) != signed_root:
        raise ValueError("the path does not lead from the record to the checkpoint")
    size, time, previous = (str(said[name]) for name in ("size", "time_ms", "previous_size"))
    text = framed("keyriver-checkpoint/1", said["fleet"], said["tenant"], size, signed_root, time, previous)
    keys = keys_at(proof.get("rotations", []), said["fleet"], fleet_key, said["time_ms"])
    if not any(signed(key, b64decode(said["signature"]), text) for key in keys):
        raise ValueError("the fleet's key did not sign the checkpoint")


if __name__ == "__main__":
    files = [json.loads(Path(name).read_text(encoding="utf-8")) for name in (sys.argv[1], *sys.argv[3:4])]
    verify(files[0], b64decode(sys.argv[2]), *files[1:])
    print(json.dumps(files[0]["leaf"], indent=2))
