"""An HTTPS server on a thread of its own: the ground on which the keystores of the tests stand. Its CA is made here."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    """A CA, and a certificate of it for 127.0.0.1 and localhost."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def context(self) -> ssl.SSLContext:
        """For a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


def authority(folder: Path, name: str = "localhost", address: str = "127.0.0.1") -> Authority:
    """A new one, in this folder; its server's certificate is for this name and this address."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])
    ca = _certificate(root, root, ca_key, ca_key, x509.BasicConstraints(ca=True, path_length=0))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    places = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address(address))])
    server = _certificate(subject, root, server_key, ca_key, places)
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server-key.pem")
    made.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.cert_file.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    made.key_file.write_bytes(server_key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return made


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=subject == issuer)
    builder = builder.add_extension(ski, critical=False).add_extension(aki, critical=False)
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    return builder.sign(signer, hashes.SHA256())


@dataclass(frozen=True)
class Asked:
    """A request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Told:
    """An answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Hang:
    """No answer while the server runs."""


class Cut:
    """The connection is closed in the middle of the answer."""


Answering = Callable[[Asked], Told | Hang | Cut]


class HttpsServer:
    """Answers by `answer`, one thread per connection."""

    def __init__(self, context: ssl.SSLContext, answer: Answering) -> None:
        self.stopping = threading.Event()
        self.asked: list[Asked] = []
        self.connections = 0
        self.curt = False
        """Close each connection after its answer, without a word."""
        outer = self

        class Conversation(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                size = int(self.headers.get("content-length", "0"))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, headers, self.rfile.read(size))
                outer.asked.append(asked)
                self._tell(answer(asked))

            do_GET = do_POST = do_PUT = _serve  # noqa: N815

            def _tell(self, told: Told | Hang | Cut) -> None:
                if isinstance(told, Hang):
                    outer.stopping.wait()
                    self.close_connection = True
                    return
                whole = told if isinstance(told, Told) else Told(200, b"{}")
                self.send_response(whole.status)
                for name, value in whole.headers.items():
                    self.send_header(name, value)
                more = 100 if isinstance(told, Cut) else 0
                self.send_header("content-length", str(len(whole.body) + more))
                self.end_headers()
                self.wfile.write(whole.body)
                # Unless it was told so, the client takes it for open.
                self.close_connection = self.close_connection or isinstance(told, Cut) or outer.curt

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
                plain, address = self.socket.accept()
                outer.connections += 1
                # The handshake happens at the first read, in the connection's own thread.
                return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away is no news."""

        self._server = Server(("127.0.0.1", 0), Conversation)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @contextmanager
    def running(self) -> Iterator[str]:
        """While the block runs; yields `https://127.0.0.1:port`."""
        self._thread.start()
        try:
            yield f"https://127.0.0.1:{self.port}"
        finally:
            self.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
