"""The certificate of a campaign that is done: canonical JSON, signed by the fleet's key, checked with the pinned one.

To accept one: 1. it is readable and of a known form, 2. it is our fleet's, 3. the fleet key signed all of it.
"""

import json

from pydantic import ValidationError

from worker.model.campaign_replies import Certificate
from worker.seal import lineage
from worker.seal.errors import BadSignature, SealError
from worker.seal.frames import framed
from worker.seal.lineage import FleetKey

FORM = "keyriver-campaign-certificate/1"


class BadCertificate(SealError):
    """The fleet never said this."""


def payload(said: Certificate) -> bytes:
    """What is signed: the form, and everything but the signature as JSON with sorted names and no spaces."""
    plain = said.model_dump(mode="json", exclude={"signature"})
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return framed(FORM.encode(), text.encode())


def signed(said: Certificate, signature: bytes) -> bytes:
    """The certificate as it is stored and shown; `signature` over `payload`: 64 bytes r ‖ s."""
    return said.model_copy(update={"signature": signature}).model_dump_json().encode()


def check(value: bytes | str, fleet: str, fleet_key: FleetKey) -> Certificate:
    """The certificate, or BadCertificate."""
    try:
        said = Certificate.model_validate_json(value)
    except ValidationError:
        raise BadCertificate("the certificate is not readable") from None
    if said.form != FORM:
        raise BadCertificate("the certificate has another form")
    if said.fleet != fleet:
        raise BadCertificate("the certificate is another fleet's")
    try:
        lineage.verify(fleet_key, said.signature, payload(said), said.ended_ms)
    except BadSignature:
        raise BadCertificate("the fleet's key did not sign the certificate") from None
    return said
