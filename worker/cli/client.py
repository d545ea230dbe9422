"""`keyriver client`: the services that may ask for keys."""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cyclopts import App, Parameter

from worker.cli import identities
from worker.cli.body import body, chosen
from worker.cli.errors import Refused
from worker.cli.officer import As, Json, Officer, ask
from worker.cli.output import say, show, show_json, show_table
from worker.cli.pages import every
from worker.client import NoAnswer, Pending, load_identity
from worker.model.bodies import ClientAddBody, ClientListBody, ClientRevokeBody, ClientRotateBody
from worker.model.operations import Operation, Permission
from worker.model.replies import ClientListResult, ClientResult, ClientView
from worker.model.rows import Algorithm, Suite
from worker.model.topics import DAY_MS, Topics
from worker.seal.hpke import generate_keypair
from worker.seal.identity import Identity, generate_private_key_pem

client = App(
    name="client", help="Services that may ask for keys: who they are and what they may do.", help_format="markdown"
)
PublicKey = Annotated[
    Path | None,
    Parameter(name="--public-key", help="PEM file of a key the service made itself; no identity file is written."),
]
IdentityFile = Annotated[
    Path | None,
    Parameter(name="--identity-file", help="Its identity file; else NAME.json beside the officers'."),
]


@client.command
async def add(
    tenant: str,
    name: str,
    /,
    *,
    allow: str = "wrap,unwrap",
    keys: str = "*",
    reply_topic: list[str] | None = None,
    days: int = 365,
    algorithm: Algorithm = Algorithm.ED25519,
    suite: Suite = Suite.X25519,
    public_key: PublicKey = None,
    identity_file: IdentityFile = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Register a service and write its identity file: all that it needs to sign requests and to trust answers.

    ```
    keyriver client add acme billing --keys 'acme/eu/*'
    keyriver client add acme archive --allow unwrap,rewrap --days 30
    keyriver client add acme cards --public-key cards.pem     # its private key stays where it is
    ```

    Args:
        tenant: The tenant whose keys it uses.
        name: Its name, unique in the fleet.
        allow: Comma-separated: wrap, unwrap, rewrap, rewrap-from, rewrap-to, trigger; empty where only rules allow.
        keys: A shell pattern over aliases; `*` also crosses slashes.
        reply_topic: Topics it may be answered on; else the fleet's reply topic.
        days: For how long.
        algorithm: Of the signing key that is made for it.
        suite: HPKE suite of the recipient key that is made for it.
    """
    permissions = list(chosen(allow, Permission, "--allow")) if allow else []
    async with Officer(signs) as asking:
        topics = reply_topic or [Topics(asking.reach.topic_prefix).replies]
        made = None if public_key else _new(asking.identity, tenant, name, algorithm, suite, topics[0])
        shown = _read_public(public_key) if public_key else _of(made)
        asked = body(
            ClientAddBody,
            tenant=tenant,
            client=name,
            algorithm=shown.algorithm,
            public_key=shown.raw,
            permissions=permissions,
            pattern=keys,
            reply_topics=topics,
            recipient_suite=made.recipient.suite if made else None,
            recipient_key=made.recipient.public if made else b"",
            not_after_ms=_now_ms() + days * DAY_MS,
        )
        path = identity_file or identities.path_of(asking.reach.identities, name)
        if made:
            identities.write(path, made)
        try:
            added = await asking.ask(Operation.CLIENT_ADD, asked, ClientResult)
        except (NoAnswer, Pending) as error:
            if made and isinstance(error, Pending):
                say(f"identity file: {path}\n  It is good for nothing before another officer approves the command.")
            raise  # it may be registered, now or later: its key must not be lost
        except Exception:
            if made:
                path.unlink()
            raise
    _show(added.client, json=json)
    if made:
        say(f"identity file: {path}\n  It holds private keys: hand it over to the service, and to nobody else.")


@client.command
async def rotate(
    tenant: str,
    name: str,
    /,
    *,
    algorithm: Algorithm = Algorithm.ED25519,
    public_key: PublicKey = None,
    identity_file: IdentityFile = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Give a service a new signing key. What the old one signs is refused from then on.

    ```
    keyriver client rotate acme billing
    keyriver client rotate acme cards --public-key cards-2027.pem
    ```

    Args:
        tenant: Its tenant.
        name: Its name.
        algorithm: Of the new signing key.
    """
    async with Officer(signs) as asking:
        path = identity_file or identities.path_of(asking.reach.identities, name)
        made = None if public_key else _renewed(load_identity(path), algorithm)
        shown = _read_public(public_key) if public_key else _of(made)
        asked = body(ClientRotateBody, tenant=tenant, client=name, algorithm=shown.algorithm, public_key=shown.raw)
        fresh = path.with_name(f"{path.stem}.new{path.suffix}")
        if made:
            identities.write(fresh, made)
        try:
            rotated = await asking.ask(Operation.CLIENT_ROTATE, asked, ClientResult)
        except (NoAnswer, Pending):
            if made:
                say(f"the new identity is kept in {fresh}: put it in the place of {path} once the command took effect")
            raise
        except Exception:
            if made:
                fresh.unlink()
            raise
    if made:
        fresh.replace(path)
        say(f"identity file: {path} (replaced)")
    _show(rotated.client, json=json)


@client.command
async def revoke(tenant: str, name: str, /, *, signs: As = None, json: Json = False) -> None:
    """Refuse everything that a service signs from now on. One officer is enough: stopping must be quick.

    ```
    keyriver client revoke acme billing
    ```

    Args:
        tenant: Its tenant.
        name: Its name.
    """
    asked = body(ClientRevokeBody, tenant=tenant, client=name)
    _show((await ask(signs, Operation.CLIENT_REVOKE, asked, ClientResult)).client, json=json)


@client.command(name="list")
async def list_clients(tenant: str, /, *, signs: As = None, json: Json = False) -> None:
    """List a tenant's services.

    ```
    keyriver client list acme
    ```

    Args:
        tenant: The tenant; `fleet` for the officers.
    """
    async with Officer(signs) as asking:
        clients = await every(
            asking,
            Operation.CLIENT_LIST,
            body(ClientListBody, tenant=tenant),
            ClientListResult,
            lambda page: page.clients,
            lambda page: page.clients[-1].id if page.more and page.clients else None,
        )
    if json:
        show_json(clients)
        return
    heads = ("CLIENT", "ROLE", "ALGORITHM", "MAY", "KEYS", "UNTIL", "REVOKED")
    show_table(heads, [_row(one) for one in clients])


@dataclass(frozen=True, slots=True)
class _Public:
    algorithm: Algorithm
    raw: bytes


def _read_public(path: Path) -> _Public:
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(f"{path}: not a public key in PEM") from None
    if isinstance(key, Ed25519PublicKey):
        return _Public(Algorithm.ED25519, key.public_bytes_raw())
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return _Public(Algorithm.ES256, key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    raise Refused(f"{path}: neither an Ed25519 nor a P-256 key")


def _of(identity: Identity | None) -> _Public:
    assert identity is not None  # noqa: S101 - made unless a public key was given
    return _Public(identity.algorithm, identity.signer().public_key)


def _new(by: Identity, tenant: str, name: str, algorithm: Algorithm, suite: Suite, reply_topic: str) -> Identity:
    """A fresh identity that pins the fleet key which the officer pins."""
    return Identity(
        client=name,
        tenant=tenant,
        fleet=by.fleet,
        fleet_key=by.fleet_key,
        algorithm=algorithm,
        private_key=generate_private_key_pem(algorithm),
        recipient=generate_keypair(suite),
        reply_topic=reply_topic,
    )


def _renewed(old: Identity, algorithm: Algorithm) -> Identity:
    return replace(old, algorithm=algorithm, private_key=generate_private_key_pem(algorithm))


def _row(view: ClientView) -> tuple[str, ...]:
    until = datetime.fromtimestamp(view.not_after_ms / 1000, UTC).date().isoformat()
    may = ",".join(view.permissions) or "-"
    return view.id, view.role, view.algorithm, may, view.pattern or "-", until, "REVOKED" if view.revoked else "no"


def _show(view: ClientView, *, json: bool) -> None:
    if json:
        show_json(view)
        return
    name, role, algorithm, may, keys, until, _ = _row(view)
    show(f"{name} ({role} of {view.tenant}, {algorithm}): may {may} on {keys} until {until}")
    show(f"answers go to {', '.join(view.reply_topics)}{'; REVOKED' if view.revoked else ''}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
