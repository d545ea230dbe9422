"""One customer key behind each kind of keystore, with the customer's own hands on it."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.keystores import customer
from tests.keystores.https_server import Authority
from tests.keystores.openbao import OpenBao
from tests.keystores.transit_server import NamedKey, TransitServer
from tests.keystores.xks_proxy import REGION, ExternalKey, XksProxy, new_access_key
from worker.edges.hsm import CustomerTokens, Pin, TokenCredential
from worker.edges.keystores import HttpsKeystores, read_credentials
from worker.edges.keystores.fake import FakeKeystore
from worker.local import Token
from worker.model.keystores import KeystoreAddress, Provider
from worker.ports import Keystore

BUDGET_S = 20.0
"""Long: a busy machine must not decide what a test says."""
CREDENTIAL = "acme"


class Rig(Protocol):
    """A keystore and its owner. `has_versions`: whether it tells versions apart."""

    has_versions: bool

    def keystore(self, key: str) -> Keystore:
        """The worker's view of one key, which may not be there."""
        ...

    def create(self, key: str) -> None:
        """The owner makes a key."""
        ...

    def switch(self, key: str, *, on: bool) -> None:
        """The owner forbids the use of the key, or allows it again."""
        ...

    def rotate(self, key: str) -> None:
        """The owner makes a new version."""
        ...

    def destroy(self, key: str) -> None:
        """The owner deletes it."""
        ...


def written(folder: Path, name: str, **told: object) -> Path:
    """A credential file of mode 0400."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400), "w") as new:
        json.dump(told, new)
    return path


@dataclass
class FakeRig:
    """In memory."""

    has_versions: bool = True
    stores: dict[str, FakeKeystore] = field(default_factory=dict)

    def keystore(self, key: str) -> Keystore:
        """See `Rig`."""
        return self.stores.setdefault(key, FakeKeystore(key, exists=False))

    def create(self, key: str) -> None:
        """See `Rig`."""
        self.stores[key] = FakeKeystore(key)

    def switch(self, key: str, *, on: bool) -> None:
        """See `Rig`."""
        self.stores[key].enabled = on

    def rotate(self, key: str) -> None:
        """See `Rig`."""
        self.stores[key].rotate()

    def destroy(self, key: str) -> None:
        """See `Rig`."""
        self.stores[key].exists = False


@dataclass
class XksRig:
    """Behind a proxy of the tests'."""

    proxy: XksProxy
    endpoint: str
    opened: HttpsKeystores
    has_versions: bool = False

    def keystore(self, key: str) -> Keystore:
        """See `Rig`."""
        return self.opened.open(KeystoreAddress(Provider.XKS, self.endpoint, key, CREDENTIAL))

    def create(self, key: str) -> None:
        """See `Rig`."""
        self.proxy.keys[key] = ExternalKey()

    def switch(self, key: str, *, on: bool) -> None:
        """See `Rig`."""
        self.proxy.keys[key].enabled = on

    def rotate(self, key: str) -> None:
        """The proxy keeps old material and tells nobody; nothing to see."""

    def destroy(self, key: str) -> None:
        """See `Rig`."""
        del self.proxy.keys[key]


@contextmanager
def xks(folder: Path, authority: Authority, budget_s: float = BUDGET_S) -> Iterator[XksRig]:
    """A proxy that knows two access keys of ours."""
    proxy = XksProxy(authority.context())
    pairs = [new_access_key(), new_access_key()]
    proxy.access.update(pairs)
    current, following = ({"access_key_id": each[0], "secret_access_key": each[1]} for each in pairs)
    with proxy.running() as endpoint:
        written(
            folder,
            CREDENTIAL,
            provider="xks",
            endpoints=[endpoint],
            region=REGION,
            current=current,
            next=following,
            ca_file=str(authority.ca_file),
        )
        opened = HttpsKeystores(read_credentials(folder), [endpoint], "dev-test", budget_s)
        yield XksRig(proxy, endpoint, opened)


@dataclass
class TransitRig:
    """Behind a transit engine of the tests'."""

    server: TransitServer
    endpoint: str
    opened: HttpsKeystores
    has_versions: bool = True

    def keystore(self, key: str) -> Keystore:
        """See `Rig`."""
        return self.opened.open(KeystoreAddress(Provider.TRANSIT, self.endpoint, key, CREDENTIAL))

    def create(self, key: str) -> None:
        """See `Rig`."""
        self.server.keys[key] = NamedKey()

    def switch(self, key: str, *, on: bool) -> None:
        """See `Rig`."""
        self.server.keys[key].soft_deleted = not on

    def rotate(self, key: str) -> None:
        """See `Rig`."""
        self.server.keys[key].versions.append(AESGCM(os.urandom(32)))

    def destroy(self, key: str) -> None:
        """See `Rig`."""
        del self.server.keys[key]


@contextmanager
def transit(folder: Path, authority: Authority, budget_s: float = BUDGET_S) -> Iterator[TransitRig]:
    """Our own server."""
    server = TransitServer(authority.context())
    with server.running() as endpoint:
        yield TransitRig(server, endpoint, _transit_keystores(folder, authority, endpoint, server.token, budget_s))


def _transit_keystores(
    folder: Path, authority: Authority, endpoint: str, token: str, budget_s: float
) -> HttpsKeystores:
    ca_file = str(authority.ca_file)
    written(folder, CREDENTIAL, provider="transit", endpoints=[endpoint], token=token, ca_file=ca_file)
    return HttpsKeystores(read_credentials(folder), [endpoint], "dev-test", budget_s)


@dataclass
class OpenBaoRig:
    """Behind the real thing."""

    bao: OpenBao
    opened: HttpsKeystores
    has_versions: bool = True

    def keystore(self, key: str) -> Keystore:
        """See `Rig`."""
        return self.opened.open(KeystoreAddress(Provider.TRANSIT, self.bao.url, key, CREDENTIAL))

    def create(self, key: str) -> None:
        """See `Rig`."""
        self.bao.call("POST", f"transit/keys/{key}", type="aes256-gcm96")

    def switch(self, key: str, *, on: bool) -> None:
        """See `Rig`."""
        if on:
            self.bao.call("POST", f"transit/keys/{key}/soft-delete-restore", x=1)
        else:
            self.bao.call("DELETE", f"transit/keys/{key}/soft-delete")

    def rotate(self, key: str) -> None:
        """See `Rig`."""
        self.bao.call("POST", f"transit/keys/{key}/rotate", x=1)

    def destroy(self, key: str) -> None:
        """See `Rig`."""
        self.bao.call("POST", f"transit/keys/{key}/config", deletion_allowed=True)
        self.bao.call("DELETE", f"transit/keys/{key}")


def openbao(folder: Path, authority: Authority, bao: OpenBao) -> OpenBaoRig:
    """A running server."""
    return OpenBaoRig(bao, _transit_keystores(folder, authority, bao.url, bao.token, BUDGET_S))


@dataclass
class TokenRig:
    """In a token."""

    token: Token
    opened: CustomerTokens
    has_versions: bool = True

    @property
    def endpoint(self) -> str:
        """Module and label."""
        return f"customer/{self.token.label}"

    def keystore(self, key: str) -> Keystore:
        """See `Rig`."""
        return self.opened.open(KeystoreAddress(Provider.PKCS11, self.endpoint, key, CREDENTIAL))

    def create(self, key: str) -> None:
        """See `Rig`."""
        customer.ask(self.token, "create", key, id=secrets.token_hex(4))

    def switch(self, key: str, *, on: bool) -> None:
        """See `Rig`."""
        customer.ask(self.token, "switch", key, on=on)

    def rotate(self, key: str) -> None:
        """A second object with the label; the first keeps CKA_DECRYPT alone."""
        self.create(key)

    def destroy(self, key: str) -> None:
        """See `Rig`."""
        customer.ask(self.token, "destroy", key)


def tokens(token: Token, ours: Path, timeout_s: float = BUDGET_S, pin: str = "") -> TokenRig:
    """`ours` is the worker's module."""
    given = Pin(pin or token.pin_file.read_text().strip())
    credentials = {CREDENTIAL: TokenCredential(given, [f"customer/{token.label}"])}
    return TokenRig(token, CustomerTokens({"customer": token.module}, ours, credentials, timeout_s))
