"""Every secret of a fleet, taken out with the PIN for the purpose of looking for them (S6 says that who has it can)."""

from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.fleet import Fleet
from tests.vectors.raw_token import CRYPT, WRAPS, Raw, raw_session, readable
from worker.chain import blob, payload
from worker.edges.hsm import templates
from worker.edges.hsm.ck import CKA_VALUE, CKK_AES, CKO_SECRET_KEY
from worker.edges.hsm.session import NONCE_BYTES
from worker.model.hsm import Wrapping
from worker.model.rows import Suite
from worker.seal.frames import framed
from worker.seal.hpke import load_keypair
from worker.seal.identity import Identity


async def token_secrets(fleet: Fleet) -> dict[str, bytes]:
    """L2, L3 and the intake keys' private halves. No worker may be running."""
    versions = await fleet.pool.fetch(
        """SELECT v.key, v.number, v.wrapping, v.wrapped, v.parent_version, v.material, k.parent, k.layer
           FROM keyriver.versions AS v JOIN keyriver.keys AS k ON k.id = v.key ORDER BY k.layer"""
    )
    intake = await fleet.pool.fetch("SELECT sequence, wrapped_private FROM keyriver.intake_keys")
    found: dict[str, bytes] = {}
    with raw_session(fleet.token) as raw:
        handles: dict[tuple[UUID, int], int] = {}
        for row in versions:
            if row["material"] is not None:
                handles[row["key"], row["number"]] = _found(raw, row["material"].hex)
                continue
            parent = handles[row["parent"], row["parent_version"]]
            mechanism = raw.abilities.wrapping[Wrapping(row["wrapping"])]
            uses = [(use, True) for use in (*WRAPS, *CRYPT)]
            handle = raw.session.unwrap(mechanism, parent, row["wrapped"], [*readable(CKK_AES), *uses])
            handles[row["key"], row["number"]] = handle
            found[f"L{row['layer']} {row['key']}/{row['number']}"] = raw.session.attribute(handle, CKA_VALUE)
        for row in intake:
            found[f"intake {row['sequence']}"] = _unwrapped(raw, fleet, row["sequence"], row["wrapped_private"])
    return found


async def are_true(fleet: Fleet, secrets: dict[str, bytes], deks: set[bytes]) -> None:
    """The exported keys are what the fleet works with: by hand, they open what it stored down to known DEKs."""
    rows = await fleet.pool.fetch(
        "SELECT d.blob, k.tenant FROM keyriver.deks AS d JOIN keyriver.keys AS k ON k.id = d.key"
    )
    opened = set()
    for row in rows:
        one = blob.parse(row["blob"])
        key = AESGCM(secrets[f"L3 {one.key}/{one.version}"])
        opened.add(payload.unpack(key.decrypt(one.nonce, one.ciphertext, blob.aad(one.header, row["tenant"])))[0])
    assert opened >= deks
    below = await fleet.pool.fetch(
        """SELECT v.key, v.number, v.wrapped, k.parent, v.parent_version FROM keyriver.versions AS v
           JOIN keyriver.keys AS k ON k.id = v.key WHERE k.layer = 3"""
    )
    for row in below:
        upper = secrets[f"L2 {row['parent']}/{row['parent_version']}"]
        assert aes_key_unwrap_with_padding(upper, row["wrapped"]) == secrets[f"L3 {row['key']}/{row['number']}"]
    for row in await fleet.pool.fetch("SELECT sequence, suite, public_key FROM keyriver.intake_keys"):
        pair = load_keypair(Suite(row["suite"]), secrets[f"intake {row['sequence']}"])
        assert pair.public == row["public_key"]


def _found(raw: Raw, label: str) -> int:
    (handle,) = raw.session.find(templates.by_label(CKO_SECRET_KEY, label))
    return handle


def _unwrapped(raw: Raw, fleet: Fleet, sequence: int, wrapped: bytes) -> bytes:
    fleet_id = f"dev-{fleet.prefix}"
    key = _found(raw, f"keyriver/{fleet_id}/intake-wrap/{int.from_bytes(wrapped[:4], 'big')}")
    aad = framed(b"keyriver-intake-private/1", fleet_id.encode(), str(sequence).encode())
    return raw.session.decrypt(key, wrapped[4 : 4 + NONCE_BYTES], aad, wrapped[4 + NONCE_BYTES :])


def identity_secrets(identity: Identity) -> dict[str, bytes]:
    """The raw private keys of one client or officer."""
    key = load_pem_private_key(identity.private_key.encode(), password=None)
    if isinstance(key, Ed25519PrivateKey):
        signing = key.private_bytes_raw()
    else:
        assert isinstance(key, EllipticCurvePrivateKey)
        signing = key.private_numbers().private_value.to_bytes(32, "big")
    name = identity.client
    return {f"signing key of {name}": signing, f"recipient key of {name}": identity.recipient.private}
