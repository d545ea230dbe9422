"""`KeyriverClient`: data keys over Kafka. Requests are signed, answers verified, DEKs sealed both ways (S1, S2, S4)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, cast

from worker.client import orders
from worker.client.answers import Refusal
from worker.client.batching import Batcher
from worker.client.errors import Pending, RequestRefused
from worker.client.identity_file import load_identity
from worker.client.kafka import KafkaTransport
from worker.client.options import DEFAULTS, LONGEST_S, Options
from worker.client.orders import Order, OwnDek
from worker.client.results import ItemError, Rewrapped, Unwrapped, WrappedDek
from worker.client.sender import Sender
from worker.client.splitting import in_requests
from worker.client.transport import Transport
from worker.model.bodies import BODIES, CommandBody, DekItem, RewrapItem, WrapItem
from worker.model.operations import DATA_OPERATIONS, Operation
from worker.model.replies import CommandResult
from worker.seal.identity import Identity
from worker.seal.lineage import Lineage

DEK_BYTES = range(16, 65)
"""What the fleet takes; a wrong one is refused here, before it can share a request with others."""
_I = TypeVar("_I")
_R = TypeVar("_R")


class KeyriverClient:
    """One registered client of one fleet, in one event loop.

        async with KeyriverClient.connect(Path("billing.json"), "kafka:9092") as keys:
            (made,) = await keys.generate("acme/eu/payments", contexts=[{"invoice": "4711"}])

    Each call takes any number of items and returns as many results in their order, each a value or an `ItemError`. All
    raise `RequestRefused`, `NoAnswer` (whether it took effect is then unknown), `BusRefused` or `NoIntakeKey`.
    """

    def __init__(self, identity: Identity, transport: Transport, options: Options = DEFAULTS) -> None:
        self._options = options
        self._sender = Sender(identity, transport, options)
        self._batcher = Batcher(self._sender.send, options.window_s, options.most_items)

    @classmethod
    def connect(cls, identity_file: Path, bootstrap: str, options: Options = DEFAULTS, **security: object) -> Self:
        """A client with the identity in that file. `security`: aiokafka's options (`security_protocol`, …)."""
        return cls(load_identity(identity_file), KafkaTransport({"bootstrap_servers": bootstrap, **security}), options)

    async def __aenter__(self) -> Self:
        """Listen, and only then be ready to send. Raises `BusDown` or `BusRefused`."""
        await self._sender.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what is under way."""
        await self._batcher.close()
        await self._sender.stop()

    @property
    def refused(self) -> Counter[str]:
        """How many answers and announcements were refused so far, by reason. Forgeries show here.

        A refused answer is never ordinary; of announcements, expired and older ones are.
        """
        return self._sender.refused

    @property
    def lineage(self) -> Lineage:
        """The fleet's keys as far as the pinned one leads by now: for what the fleet signs to be shown to others."""
        return self._sender.trust.lineage

    async def generate(
        self,
        key: str,
        count: int = 1,
        *,
        bits: Literal[128, 192, 256] = 256,
        contexts: Sequence[Mapping[str, str]] | None = None,
        store: bool = True,
        return_blob: bool = False,
        return_dek: bool = True,
        timeout_s: float | None = None,
    ) -> list[WrappedDek | ItemError]:
        """Make `count` DEKs in the token, or one for each context, wrapped under `key` (an id or an alias)."""
        each = [{}] * count if contexts is None else contexts
        items = [WrapItem(bits=bits, context=dict(context)) for context in each]
        order = orders.Generating(key, store, return_blob, return_dek, self._timeout(timeout_s))
        return await self._run(order, items)

    async def wrap(
        self,
        key: str,
        deks: Sequence[bytes],
        *,
        contexts: Sequence[Mapping[str, str]] | None = None,
        store: bool = True,
        return_blob: bool = False,
        timeout_s: float | None = None,
    ) -> list[WrappedDek | ItemError]:
        """Wrap DEKs of your own (16 to 64 bytes each) under `key`. They travel sealed to the fleet's intake key."""
        if any(len(dek) not in DEK_BYTES for dek in deks):
            raise ValueError("deks: a DEK has 16 to 64 bytes")
        pairs = zip(deks, contexts if contexts is not None else [{}] * len(deks), strict=True)
        items = [OwnDek(WrapItem(context=dict(context)), dek) for dek, context in pairs]
        return await self._run(orders.Wrapping(key, store, return_blob, self._timeout(timeout_s)), items)

    async def unwrap(
        self, items: Sequence[DekItem], *, rewrap: bool = False, timeout_s: float | None = None
    ) -> list[Unwrapped | ItemError]:
        """Get DEKs back, each by its id or its blob, with the context it was wrapped with.

        `rewrap`: a blob under an old version comes back wrapped under the current one, too (lazy rewrap); that needs
        the permission to rewrap.
        """
        return await self._run(orders.Unwrapping(self._timeout(timeout_s), rewrap), items)

    async def rewrap(
        self,
        items: Sequence[RewrapItem],
        *,
        to: str | None = None,
        return_blob: bool = False,
        timeout_s: float | None = None,
    ) -> list[Rewrapped | ItemError]:
        """Move wrapped DEKs to the current version of their key, or to the key `to`; context goes along, unseen."""
        return await self._run(orders.Rewrapping(to, return_blob, self._timeout(timeout_s)), items)

    async def command(
        self, operation: Operation, body: CommandBody, *, timeout_s: float | None = None
    ) -> CommandResult:
        """An officer's command. Raises `RequestRefused` when it is refused, `Pending` if a second one must agree."""
        if operation in DATA_OPERATIONS or not isinstance(body, BODIES[operation]):
            raise ValueError(f"{type(body).__name__} is not the body of the command {operation}")
        result = await self._sender.command(operation, body, self._timeout(timeout_s))
        if isinstance(result, Refusal):
            if result.pending is not None:
                raise Pending(result.code, result.message, result.pending)
            raise RequestRefused(result.code, result.message, retry=result.retry)
        return cast("CommandResult", result)

    async def _run(self, order: Order[_I, _R], items: Sequence[_I]) -> list[_R | ItemError]:
        if len(items) == 1 and self._options.window_s > 0:
            outcomes = [await self._batcher.submit(order, items[0])]
        else:
            outcomes = await in_requests(
                lambda some: self._sender.send(order, some), items, self._options.most_items, self._options.at_once
            )
        return [orders.read(order, outcome) for outcome in outcomes]

    def _timeout(self, timeout_s: float | None) -> float:
        wanted = self._options.timeout_s if timeout_s is None else timeout_s
        if not 0 < wanted <= LONGEST_S:
            raise ValueError(f"timeout_s: over 0 and at most {LONGEST_S:.0f} seconds")
        return wanted
