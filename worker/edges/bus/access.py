"""How to reach the cluster: one frozen dataclass, and the reasons to tell when it can't be reached."""

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from worker.ports import BusUnavailable


class Protocol(StrEnum):
    """Kafka's `security.protocol`."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Mechanism(StrEnum):
    """Kafka's `sasl.mechanism`."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where the brokers are and how to prove who we are. Raises `ValueError`, naming the field that does not fit."""

    bootstrap: str
    protocol: Protocol = Protocol.PLAINTEXT
    mechanism: Mechanism = Mechanism.SCRAM_SHA_512
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_id: str = "keyriver"

    def __post_init__(self) -> None:
        if self.uses_sasl and not (self.username and self.password):
            raise ValueError("username and password: SASL needs both")
        if self.cert_file is not None and not self.uses_tls:
            raise ValueError("cert_file: a client certificate needs SSL or SASL_SSL")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file: one is useless without the other")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted (S17)."""
        return self.protocol in (Protocol.SSL, Protocol.SASL_SSL)

    @property
    def uses_sasl(self) -> bool:
        """Whether a name and a password prove who we are."""
        return self.protocol in (Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL)

    @property
    def is_authenticated(self) -> bool:
        """Whether the broker learns who we are, over TLS: what a production fleet must have (S17)."""
        return self.protocol is Protocol.SASL_SSL or (self.protocol is Protocol.SSL and self.cert_file is not None)

    def options(self) -> dict[str, object]:
        """Keyword arguments that every aiokafka client takes. Raises `ValueError` for a file that can't be read."""
        options: dict[str, object] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            "security_protocol": self.protocol.value,
        }
        if self.uses_tls:
            options["ssl_context"] = self._tls()
        if self.uses_sasl:
            options["sasl_mechanism"] = self.mechanism.value
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        return options

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"ca_file, cert_file or key_file can't be read: {error}") from error
        return context

    def unreachable(self, error: BaseException) -> BusUnavailable:
        """What to raise when no broker answers. aiokafka says one thing for every cause; we name the likely ones."""
        causes = ["no broker listens there"]
        if self.uses_tls:
            causes += ["its certificate is not of ca_file's authority or has another name", "it speaks plaintext there"]
        else:
            causes.append("it wants TLS there")
        if self.uses_sasl:
            causes.append("username or password is wrong, or it wants another mechanism")
        likely = "; or ".join(causes)
        return BusUnavailable(f"Kafka at {self.bootstrap} ({self.protocol}) can't be reached: {likely} ({error})")
