"""What an attacker does to a signed record, and requests in forms that the client library never sends."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from uuid import uuid4

from tests.scribe import SIGNATURE, Draft
from worker.model.records import Outgoing
from worker.seal.signatures import sign_jws

STRUCTURED = b"application/cloudevents+json"
Alteration = Callable[[Outgoing], Outgoing]


def header(name: str, value: bytes | None) -> Alteration:
    """One header replaced, or removed."""

    def altered(record: Outgoing) -> Outgoing:
        kept = tuple(pair for pair in record.headers if pair[0] != name)
        return replace(record, headers=kept if value is None else (*kept, (name, value)))

    return altered


def added(name: str, value: bytes = b"x") -> Alteration:
    """One more header, whether there is one of this name or not."""
    return lambda record: replace(record, headers=(*record.headers, (name, value)))


def doubled(name: str) -> Alteration:
    """The header twice, both saying the same."""

    def altered(record: Outgoing) -> Outgoing:
        once = record if name in dict(record.headers) else added(name)(record)
        return added(name, dict(once.headers)[name])(once)

    return altered


def jws_header(fields: Mapping[str, object] | str) -> Alteration:
    """Another protected header before the same signature."""
    text = fields if isinstance(fields, str) else json.dumps(fields)

    def altered(record: Outgoing) -> Outgoing:
        _, _, signature = dict(record.headers)[SIGNATURE].decode().partition("..")
        encoded = urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        return header(SIGNATURE, f"{encoded}..{signature}".encode())(record)

    return altered


def anew(draft: Draft, **changes: object) -> Draft:
    """The draft under an id of its own, with these fields changed before it is signed."""
    return replace(draft, id=str(uuid4()), **changes)  # type: ignore[arg-type]


def structured(draft: Draft, **changes: object) -> Outgoing:
    """The request in structured mode, signed over what `draft` says; `changes` are made in the event, None removes."""
    claims = draft.claims()
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": claims.id,
        "source": claims.source,
        "type": claims.type,
        "time": claims.time,
        "tenant": claims.tenant,
        "client": claims.client,
        "deadline": claims.deadline,
        "replyto": claims.reply_topic,
        "data_base64": b64encode(draft.body).decode(),
    } | changes
    value = json.dumps({name: text for name, text in event.items() if text is not None}).encode()
    signature = sign_jws(draft.signer.signer(), replace(draft, body=value).claims().payload())
    headers = (("content-type", STRUCTURED), (SIGNATURE, signature.encode()))
    return Outgoing(draft.topic, b"key", value, headers)
