"""A real Apache Kafka of one node (KRaft: broker and controller in one JVM), for development and tests.

Topics are not made by themselves, time stamps are the broker's, and dead members and a killed broker are noticed
within a second or two, so that fault tests are short.
"""

import base64
import os
import socket
import struct
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from worker.local.java import class_path, java
from worker.local.parts import PartFailed, Say, silent
from worker.local.ports import forget_taken, remembered
from worker.local.process import Process

KAFKA = "org.apache.kafka:kafka_2.13:4.4.0"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
START_SECONDS = 60.0
HEAP = ("-Xms64m", "-Xmx512m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")
QUIET = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")

_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
message.max.bytes=10485760
replica.fetch.max.bytes=10485760
socket.request.max.bytes=104857600
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""

# ApiKey 3 (Metadata) version 1, correlation 1, no client id, no topics: the answer lists the brokers in service.
_METADATA = struct.pack(">hhihi", 3, 1, 1, -1, 0)


@dataclass(frozen=True, slots=True)
class Kafka:
    """The broker under `folder`; `bootstrap` is its address."""

    folder: Path
    say: Say = silent

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self._ports()['broker']}"

    @property
    def process(self) -> Process:
        """The JVM; its command line names the settings file."""
        settings = self.folder / "server.properties"
        return Process("Kafka", self.folder / "kafka.pid", self.folder / "kafka.log", str(settings))

    def start(self) -> None:
        """Format once, start if it is not running, return when the broker is in service."""
        if self.process.pid() is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            forget_taken(self._ports_file)
            if not (self.folder / "logs" / "meta.properties").exists():
                self._format()
            self.say("Kafka: starting")
            self.process.start(self._command("kafka.Kafka", str(self._write_settings())))
        self.process.await_ready(self.in_service, START_SECONDS)
        self.say(f"Kafka: ready at {self.bootstrap}")

    def stop(self) -> None:
        """Shut down in order; what was acknowledged is on disk."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def serving(self) -> bool:
        """Whether our broker runs and is in service (not somebody else's on the same port)."""
        return self.process.pid() is not None and self.in_service()

    def in_service(self) -> bool:
        """Whether the broker answers and has joined its own cluster."""
        return brokers(self._ports()["broker"]) > 0

    @property
    def _ports_file(self) -> Path:
        return self.folder / "ports.json"

    def _ports(self) -> dict[str, int]:
        return remembered(self._ports_file, ("broker", "controller"))

    def _write_settings(self) -> Path:
        told = settings(logs=str(self.folder / "logs"), **self._ports())
        file = self.folder / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in told.items()))
        return file

    def _format(self) -> None:
        self.say("Kafka: formatting its log folder")
        settings = str(self._write_settings())
        # The id of a cluster is any 16 bytes in base64; it keeps clients of another cluster from mixing in.
        tool = self._command("kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", settings)
        done = subprocess.run(tool, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PartFailed(f"Kafka's log folder could not be formatted: {(done.stderr or done.stdout).strip()}")

    def _command(self, main: str, *words: str) -> list[str]:
        program = java()
        jars = os.pathsep.join([class_path(KAFKA, self.say), class_path(LOGGING, self.say)])
        return [str(program), *HEAP, *QUIET, "-cp", jars, main, *words]


def _new_cluster_id() -> str:
    """Random; not with a dash in front, which the tool would take for an option."""
    drawn = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    return _new_cluster_id() if drawn.startswith("-") else drawn


def settings(*, broker: int, controller: int, logs: str) -> dict[str, str]:
    """The broker's settings for these ports and this folder."""
    text = _SETTINGS.format(broker=broker, controller=controller, logs=logs)
    return dict(line.split("=", 1) for line in text.splitlines())


def brokers(port: int) -> int:
    """How many brokers a Metadata request finds; 0 when nobody answers."""
    head = struct.Struct(">iii")  # length, correlation, count of brokers
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as peer:
            peer.sendall(struct.pack(">i", len(_METADATA)) + _METADATA)
            answer = peer.makefile("rb").read(head.size)
    except OSError:
        return 0
    return int(head.unpack(answer)[2]) if len(answer) == head.size else 0
