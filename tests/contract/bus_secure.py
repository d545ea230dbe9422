"""A broker with TLS, SCRAM and ACLs, beside a plaintext listener whose users may do anything (the test's own hand)."""

import datetime as dt
import ipaddress
import os
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from worker.edges.bus.access import KafkaAccess, Mechanism, Protocol
from worker.local.kafka import Kafka
from worker.local.ports import free

PASSWORD = "of-this-test-only"
_RESOURCES = {"--topic": 2, "--group": 3}
_OPERATIONS = {"Read": 3, "Write": 4, "Describe": 8, "DescribeConfigs": 10}
_LITERAL, _ALLOW = 3, 3


@dataclass(frozen=True, slots=True)
class SecureKafka(Kafka):
    """The local broker, with one more listener."""

    port: int = 0
    users: tuple[str, ...] = ()

    @property
    def certificate(self) -> Path:
        """What clients trust."""
        return self.folder / "broker.pem"

    def access(self, user: str, password: str = PASSWORD) -> KafkaAccess:
        """How this user connects."""
        where = f"127.0.0.1:{self.port}"
        return KafkaAccess(where, Protocol.SASL_SSL, Mechanism.SCRAM_SHA_512, user, password, self.certificate)

    def _write_settings(self) -> Path:
        file = Kafka._write_settings(self)
        keystore = self.folder / "keystore.pem"
        if not keystore.exists():
            _self_signed(keystore, self.certificate)
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        told = file.read_text()
        told = told.replace("listeners=PLAINTEXT:", f"listeners=SASL_SSL://127.0.0.1:{self.port},PLAINTEXT:")
        told = told.replace("map=CONTROLLER:", "map=SASL_SSL:SASL_SSL,CONTROLLER:")
        more = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "sasl.enabled.mechanisms": Mechanism.SCRAM_SHA_512.value,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": login,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(keystore),
            "inter.broker.listener.name": "PLAINTEXT",
        }
        file.write_text(told + "".join(f"{name}={value}\n" for name, value in more.items()))
        return file

    def _format(self) -> None:
        settings = str(self._write_settings())
        words = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", settings]
        for user in self.users:
            words += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={PASSWORD}]"]
        subprocess.run(self._command("kafka.tools.StorageTool", *words), check=True, capture_output=True)


def secure_kafka(folder: Path, users: tuple[str, ...]) -> SecureKafka:
    """One under this folder; not started."""
    (port,) = free(1)
    return SecureKafka(folder, port=port, users=users)


async def grant(bootstrap: str, commands: Iterable[str]) -> None:
    """Do what kafka-acls.sh would do with these commands; the tool is not among the broker's jars."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for command in commands:
            words = shlex.split(command)
            said = dict(pairwise(words))
            kind = next(name for name in _RESOURCES if name in said)
            for place, word in enumerate(words):
                if word == "--operation":
                    right = _OPERATIONS[words[place + 1]]
                    request = CreateAclsRequest(
                        _RESOURCES[kind], said[kind], _LITERAL, said["--allow-principal"], "*", right, _ALLOW
                    )
                    answer = await admin._send_request(request)
                    assert [code for code, _ in answer.creation_responses] == [0], command
    finally:
        await admin.close()


def _self_signed(keystore: Path, certificate: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(os.urandom(8), "big"))
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    certificate.write_bytes(pem)
    keystore.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
