"""Topics on the cluster: create what is missing, and say what differs from what it has to be."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, cast

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from worker.edges.bus.access import KafkaAccess
from worker.model.topics import LEDGER_WINDOW_MS, TopicSpec
from worker.ports import BusUnavailable

_EXISTS = 36
_SAFE_REPLICAS = 3


class _CreateAnswer(Protocol):
    topic_errors: Sequence[tuple[str, int, str | None]]


class _ConfigAnswer(Protocol):
    resources: Sequence[tuple[int, str | None, int, str, Sequence[tuple[str, str]]]]


class _Admin(Protocol):
    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def list_topics(self) -> list[str]: ...
    async def create_topics(self, new_topics: Sequence[object]) -> _CreateAnswer: ...
    async def describe_configs(self, config_resources: Sequence[object]) -> Sequence[_ConfigAnswer]: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting of one topic that is not as it has to be."""

    topic: str
    setting: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, has to be {self.wanted}"


class KafkaAdmin(AbstractAsyncContextManager["KafkaAdmin"]):
    """A connection that may create and describe topics."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        self._admin: _Admin | None = None

    async def __aenter__(self) -> Self:
        """Reach the cluster. Raises `BusUnavailable`, saying the likely causes."""
        admin = cast(_Admin, AIOKafkaAdminClient(**self._access.options()))
        try:
            await admin.start()
        except Exception as error:
            await admin.close()
            raise self._access.unreachable(error) from error
        self._admin = admin
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._open.close()

    async def create(self, specs: Sequence[TopicSpec], replicas: int) -> list[str]:
        """Create the topics that are not there; their names. Raises `BusUnavailable` with the broker's reason."""
        present = set(await self._open.list_topics())
        missing = [spec for spec in specs if spec.name not in present]
        if not missing:
            return []
        durable = {"min.insync.replicas": "2"} if replicas >= _SAFE_REPLICAS else {}
        wanted = [
            NewTopic(spec.name, spec.partitions, replicas, topic_configs=spec.config | durable) for spec in missing
        ]
        answer = await self._open.create_topics(wanted)
        for name, code, reason in answer.topic_errors:
            if code not in (0, _EXISTS):
                raise BusUnavailable(f"Kafka did not create {name}: {for_code(code).__name__} {reason or ''}")
        made = {name for name, code, _ in answer.topic_errors if not code}  # the list may lag behind what exists
        return [spec.name for spec in missing if spec.name in made]

    async def differences(self, specs: Sequence[TopicSpec]) -> list[Difference]:
        """What is missing or not as it has to be; empty when all is well."""
        present = set(await self._open.list_topics())
        found = [Difference(spec.name, "topic", "missing", "there") for spec in specs if spec.name not in present]
        there = {spec.name: spec for spec in specs if spec.name in present}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
        for answer in await self._open.describe_configs(resources) if resources else ():
            for code, reason, _, name, entries in answer.resources:
                if code:
                    raise BusUnavailable(f"Kafka does not describe {name}: {for_code(code).__name__} {reason or ''}")
                found += compare(there[name], {entry[0]: entry[1] for entry in entries})
        return found

    @property
    def _open(self) -> _Admin:
        if self._admin is None:
            raise BusUnavailable("the connection is not open")
        return self._admin


def compare(spec: TopicSpec, found: dict[str, str]) -> list[Difference]:
    """What in a topic's settings breaks a promise; a larger limit or a shorter retention breaks none."""
    wanted = spec.config
    differences = [
        Difference(spec.name, setting, found.get(setting, "unset"), wanted[setting])
        for setting in ("cleanup.policy", "message.timestamp.type", "compression.type")
        if setting in wanted and _parts(found.get(setting, "")) != _parts(wanted[setting])
    ]
    limit, retention = int(found.get("max.message.bytes", "0")), int(found.get("retention.ms", "-1"))
    if limit < spec.max_message_bytes:
        wish = f"at least {spec.max_message_bytes}"
        differences.append(Difference(spec.name, "max.message.bytes", str(limit), wish))
    if spec.is_request and not 0 <= retention < LEDGER_WINDOW_MS:
        # Else a record could outlive the memory of its outcome, and take effect twice (D1).
        wish = f"less than {LEDGER_WINDOW_MS}"
        differences.append(Difference(spec.name, "retention.ms", str(retention), wish))
    return differences


def _parts(value: str) -> set[str]:
    return set(value.split(","))
