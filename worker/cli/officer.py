"""Officers' commands: one signed message down the river, one verified answer back."""

from pathlib import Path
from typing import Annotated, Self, TypeVar

from cyclopts import Parameter

from worker.cli.config import load
from worker.cli.identities import officer
from worker.cli.output import working
from worker.client import KafkaTransport, KeyriverClient, Options
from worker.model.bodies import CommandBody
from worker.model.operations import Operation
from worker.model.replies import CommandResult
from worker.parts import kafka_access
from worker.seal.identity import Identity
from worker.seal.lineage import Lineage
from worker.settings import Reach

R = TypeVar("R", bound=CommandResult)

As = Annotated[
    Path | None,
    Parameter(name="--as", env_var="KEYRIVER_IDENTITY", help="Officer's identity file; else the first of init's."),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
TIMEOUT_S = 20.0


class Officer:
    """An officer's connection, for the time of one command."""

    def __init__(self, signs: Path | None) -> None:
        self.reach = load(Reach)
        self.identity: Identity = officer(signs, self.reach.identities)
        options = Options(prefix=self.reach.topic_prefix, timeout_s=TIMEOUT_S)
        self._client = KeyriverClient(self.identity, KafkaTransport(kafka_access(self.reach).options()), options)

    async def __aenter__(self) -> Self:
        """Connect. Raises `BusDown` or `BusRefused`."""
        with working("connecting to Kafka"):
            await self._client.__aenter__()
        return self

    async def __aexit__(self, *about: object) -> None:
        """Disconnect."""
        await self._client.__aexit__(None, None, None)

    @property
    def lineage(self) -> Lineage:
        """See `KeyriverClient.lineage`."""
        return self._client.lineage

    async def ask(self, operation: Operation, body: CommandBody, kind: type[R]) -> R:
        """The answer. Raises `RequestRefused` or `NoAnswer`."""
        with working(f"{operation}: waiting for the fleet's answer"):
            result = await self._client.command(operation, body)
        assert isinstance(result, kind)  # noqa: S101 - the client parsed it by the operation
        return result


async def ask(signs: Path | None, operation: Operation, body: CommandBody, kind: type[R]) -> R:
    """One command and its answer."""
    async with Officer(signs) as asking:
        return await asking.ask(operation, body, kind)
