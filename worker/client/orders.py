"""The data calls as values: equal orders may share one request, each with items of its own. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from worker.client.answers import Refusal, Rewrap, Unwrap, Wrap
from worker.client.calls import Outcome
from worker.client.results import ItemError, Rewrapped, Unwrapped, WrappedDek
from worker.model.bodies import DekItem, RewrapBody, RewrapItem, SealedDeks, UnwrapBody, WrapBody, WrapItem
from worker.model.fields import Body
from worker.model.operations import Operation
from worker.seal.secrets import Unpicklable

Sealer = Callable[[Sequence[bytes]], SealedDeks]
"""Seals the caller's DEKs for this very request."""
I_contra = TypeVar("I_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Order(Protocol[I_contra, R_co]):
    """One kind of data call. Hashable: equal orders are sent together."""

    @property
    def operation(self) -> Operation:
        """Its topic and type."""

    @property
    def timeout_s(self) -> float:
        """Seconds from sending to the deadline."""

    @property
    def place(self) -> str | None:
        """The key's name for the record key; None if the items may be under any key."""

    @property
    def wants_plaintext(self) -> bool:
        """Whether the answer holds DEKs, so that a recipient key is needed."""

    @property
    def brings_deks(self) -> bool:
        """Whether the request holds DEKs, so that an intake key is needed."""

    def body(self, items: Sequence[I_contra], seal: Sealer) -> Body:
        """The request's body."""

    def result(self, outcome: Outcome) -> R_co:
        """What the caller gets for an item that succeeded."""


@dataclass(frozen=True, slots=True)
class OwnDek(Unpicklable):
    """A DEK of the caller's with its context."""

    item: WrapItem
    dek: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Generating:
    """Make DEKs under one key."""

    key: str
    store: bool
    return_blob: bool
    return_dek: bool
    timeout_s: float
    operation = Operation.WRAP
    brings_deks = False

    @property
    def place(self) -> str | None:
        """See `Order`."""
        return self.key

    @property
    def wants_plaintext(self) -> bool:
        """See `Order`."""
        return self.return_dek

    def body(self, items: Sequence[WrapItem], seal: Sealer) -> Body:
        """See `Order`."""
        del seal
        return WrapBody(
            key=self.key,
            items=list(items),
            store=self.store,
            return_blob=self.return_blob,
            return_dek=self.return_dek,
        )

    def result(self, outcome: Outcome) -> WrappedDek:
        """See `Order`."""
        said, dek = cast("Wrap", outcome[0]), outcome[1]
        return WrappedDek(said.key, said.version, said.id, said.blob, dek if self.return_dek else None)


@dataclass(frozen=True, slots=True)
class Wrapping:
    """Wrap the caller's DEKs under one key."""

    key: str
    store: bool
    return_blob: bool
    timeout_s: float
    operation = Operation.WRAP
    brings_deks = True
    wants_plaintext = False

    @property
    def place(self) -> str | None:
        """See `Order`."""
        return self.key

    def body(self, items: Sequence[OwnDek], seal: Sealer) -> Body:
        """See `Order`."""
        return WrapBody(
            key=self.key,
            items=[one.item for one in items],
            sealed=seal([one.dek for one in items]),
            store=self.store,
            return_blob=self.return_blob,
        )

    def result(self, outcome: Outcome) -> WrappedDek:
        """See `Order`."""
        said = cast("Wrap", outcome[0])
        return WrappedDek(said.key, said.version, said.id, said.blob)


@dataclass(frozen=True, slots=True)
class Unwrapping:
    """Unwrap DEKs, whatever keys they are under; `rewrap` asks for new blobs in the place of old ones."""

    timeout_s: float
    rewrap: bool = False
    operation = Operation.UNWRAP
    place = None
    brings_deks = False
    wants_plaintext = True

    def body(self, items: Sequence[DekItem], seal: Sealer) -> Body:
        """See `Order`."""
        del seal
        return UnwrapBody(items=list(items), rewrap=self.rewrap)

    def result(self, outcome: Outcome) -> Unwrapped:
        """See `Order`."""
        said, dek = cast("Unwrap", outcome[0]), outcome[1]
        return Unwrapped(said.key, said.version, dek, said.blob, said.blob_version)


@dataclass(frozen=True, slots=True)
class Rewrapping:
    """Rewrap DEKs to the current version of their own key, or to the key `to`."""

    to: str | None
    return_blob: bool
    timeout_s: float
    operation = Operation.REWRAP
    brings_deks = False
    wants_plaintext = False

    @property
    def place(self) -> str | None:
        """See `Order`."""
        return self.to

    def body(self, items: Sequence[RewrapItem], seal: Sealer) -> Body:
        """See `Order`."""
        del seal
        return RewrapBody(items=list(items), to=self.to, return_blob=self.return_blob)

    def result(self, outcome: Outcome) -> Rewrapped:
        """See `Order`."""
        said = cast("Rewrap", outcome[0])
        return Rewrapped(said.key, said.version, said.id, said.blob, said.unchanged)


_I = TypeVar("_I")
_R = TypeVar("_R")


def read(order: Order[_I, _R], outcome: Outcome) -> _R | ItemError:
    """What the caller gets for one item."""
    said = outcome[0]
    if isinstance(said, Refusal):
        return ItemError(said.code, said.message, said.retry)
    return order.result(outcome)
