"""A client's identity as a JSON document: who it is, its signing key, and the fleet's key that it trusts.

The document holds private keys: whoever stores it makes it readable for its owner alone. No file is touched here.
"""

from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from worker.model.fields import Base64, Body, ClientName, TenantName, TopicName
from worker.model.rows import Algorithm, Suite
from worker.seal import hpke, signatures
from worker.seal.errors import BadIdentity, BadKey
from worker.seal.secrets import Unpicklable


class IdentityDocument(Body):
    """The document as it is stored. `fleet_key`: 65-byte point; `private_key`: PKCS#8 in PEM; the last key is raw."""

    client: ClientName
    tenant: TenantName
    fleet: str
    fleet_key: Base64
    algorithm: Algorithm
    private_key: str
    recipient_suite: Suite
    recipient_private_key: Base64
    reply_topic: TopicName


@dataclass(frozen=True, slots=True)
class Identity(Unpicklable):
    """Who a client is. `fleet_key` is the pinned P-256 point (65 bytes), `private_key` PKCS#8 in PEM."""

    client: str
    tenant: str
    fleet: str
    fleet_key: bytes
    algorithm: Algorithm
    private_key: str = field(repr=False)
    recipient: hpke.KeyPair = field(repr=False)
    reply_topic: str

    def signer(self) -> signatures.Signer:
        """Signs under the client's name; BadIdentity if the key is not one of the algorithm."""
        try:
            key = load_pem_private_key(self.private_key.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise _bad("private_key") from None
        if self.algorithm is Algorithm.ED25519 and isinstance(key, Ed25519PrivateKey):
            return signatures.Ed25519Signer(self.client, key)
        if self.algorithm is Algorithm.ES256 and isinstance(key, EllipticCurvePrivateKey):
            try:
                return signatures.ES256Signer(self.client, key)
            except BadKey:
                raise _bad("private_key") from None
        raise _bad("private_key")


def generate_private_key_pem(algorithm: Algorithm) -> str:
    """A new signing key from the operating system's generator, PKCS#8 in PEM."""
    key = Ed25519PrivateKey.generate() if algorithm is Algorithm.ED25519 else generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def parse_identity(document: bytes) -> Identity:
    """Read the document; BadIdentity names the field that is wrong, never its value. Its keys are tried at once."""
    try:
        read = IdentityDocument.model_validate_json(document)
    except ValidationError as error:
        raise _bad(", ".join(sorted({str(part) for one in error.errors() for part in one["loc"][:1]}))) from None
    try:
        signatures.check_public_key(Algorithm.ES256, read.fleet_key)
    except BadKey:
        raise _bad("fleet_key") from None
    try:
        recipient = hpke.load_keypair(read.recipient_suite, read.recipient_private_key)
    except BadKey:
        raise _bad("recipient_private_key") from None
    identity = Identity(
        client=read.client,
        tenant=read.tenant,
        fleet=read.fleet,
        fleet_key=read.fleet_key,
        algorithm=read.algorithm,
        private_key=read.private_key,
        recipient=recipient,
        reply_topic=read.reply_topic,
    )
    identity.signer()
    return identity


def dump_identity(identity: Identity) -> bytes:
    """The document, private keys included."""
    document = IdentityDocument(
        client=identity.client,
        tenant=identity.tenant,
        fleet=identity.fleet,
        fleet_key=identity.fleet_key,
        algorithm=identity.algorithm,
        private_key=identity.private_key,
        recipient_suite=identity.recipient.suite,
        recipient_private_key=identity.recipient.private,
        reply_topic=identity.reply_topic,
    )
    return document.model_dump_json(indent=2).encode() + b"\n"


def _bad(name: str) -> BadIdentity:
    return BadIdentity(f"the identity document is refused: {name or 'not JSON'}")
