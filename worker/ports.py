"""The edges as the flow sees them: Protocols with few methods, one port per flow. No implementation stands here."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from worker.model.effects import Announce, Settlement, Settling
from worker.model.facts import Answer, Question
from worker.model.fleet import FleetKey, FleetKind
from worker.model.hsm import Condemned, HsmOp, HsmResult
from worker.model.keystores import KeystoreAddress, KeystoreKey
from worker.model.records import Catch, Entry, Outgoing, Partition, Undeliverable
from worker.seal.lineage import Lineage


class Hsm(Protocol):
    """Whole batches on the token."""

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        """Run a batch: one thread hop, one session, grouped by KEK; results in the order of `ops`.

        Never raises for an operation: a failure is an `HsmFault` in its place. What is not done within
        `timeout_s` seconds (a lost token, a full queue) is `Fault.UNAVAILABLE`.
        """
        ...

    def drop(self, keys: Iterable[UUID] | None) -> None:
        """Forget the cached handles of these keys (None: of all); those in use go with their batch. Never blocks."""
        ...

    def condemn(self, versions: Iterable[Condemned]) -> frozenset[Condemned]:
        """Open these key versions no more, at this or an older revision, and forget their handles (S15).

        Returns those of which, and below which, no handle is left; asked again, it says what has gone since. Never
        blocks.
        """
        ...


@dataclass(frozen=True, slots=True)
class Mac:
    """An HMAC-SHA-256 made by one version of the fleet's row MAC key."""

    version: int
    value: bytes


class FleetKeys(Protocol):
    """The fleet's own token objects (S5): row MAC, intake wrap, signing.

    Each method raises `TokenUnavailable` when the token is away.
    """

    @property
    def signing_key(self) -> bytes:
        """The public half of the newest ECDSA P-256 signing key: 65 bytes, uncompressed point. Clients pin one."""
        ...

    @property
    def lineage(self) -> Lineage:
        """All signing keys that the fleet ever had, as far as `follow` was told."""
        ...

    def follow(self, rows: Iterable[FleetKey]) -> None:
        """Use the newest versions that these verified rows name, from now on. Raises `BadCertificate`."""
        ...

    def newest(self, kind: FleetKind) -> int:
        """The version that makes what is made now."""
        ...

    @property
    def retired(self) -> frozenset[int]:
        """Versions of the row MAC key that are believed no more; `verify` refuses them."""
        ...

    async def bury(self) -> int:
        """Destroy the token's objects of retired versions; how many there were. Safe to repeat."""
        ...

    async def mac(self, messages: Sequence[bytes]) -> list[Mac]:
        """HMAC-SHA-256 of each message under the newest row MAC key."""
        ...

    async def verify(self, messages: Sequence[bytes], macs: Sequence[Mac]) -> list[bool]:
        """Whether each MAC is that of its message; compared in constant time. An unknown version is False."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 over `message`: 64 bytes, r then s (RFC 7518, section 3.4)."""
        ...

    async def wrap_secret(self, secret: bytes, aad: bytes) -> bytes:
        """AES-256-GCM under the intake wrap key: version (4 bytes) then nonce (12) then ciphertext and tag."""
        ...

    async def unwrap_secret(self, wrapped: bytes, aad: bytes) -> bytes:
        """Undo `wrap_secret`. Raises `ValueError` when the bytes or the AAD are not what was wrapped."""
        ...


class TokenUnavailable(Exception):
    """The HSM is away or refuses its login; what needs it waits or is refused as retryable."""


class Keystore(Protocol):
    """One key of a customer, kept outside (S13): bytes in, bytes out. Each method raises only `KeystoreFault`s."""

    async def describe(self) -> KeystoreKey:
        """What the keystore says of the key now. A key that is switched off is described, not an error."""
        ...

    async def encrypt(self, plaintext: bytes, aad: bytes) -> bytes:
        """An opaque blob that only this key opens, and only with the same AAD."""
        ...

    async def decrypt(self, ciphertext: bytes, aad: bytes) -> bytes:
        """Undo `encrypt`. Bytes that are not of this key and this AAD are `KeystoreRefused`."""
        ...

    async def close(self) -> None:
        """Let go of connections or sessions. Another call opens them again."""
        ...


class Keystores(Protocol):
    """Finds the keystore of a link. No keystore is called inside a batch."""

    def of(self, where: KeystoreAddress) -> Keystore:
        """The same object for the same address, guarded by its own breaker and bulkhead. No I/O.

        Raises `KeystoreMisconfigured` when the settings know no such credential or do not allow the endpoint.
        """
        ...


class Source(Protocol):
    """What one lane consumes: the assigned partitions of its topics, fenced by assignment epochs (D3)."""

    def on_revoke(self, drain: Callable[[frozenset[Partition]], Awaitable[None]]) -> None:
        """Call `drain` when partitions are to be given back, before they are: epochs are current until it returns.

        It must end well within the rebalance timeout. When they are lost already (the group expelled this process)
        their epochs are void before it is called.
        """
        ...

    async def catch(self, max_records: int, max_bytes: int) -> Catch:
        """The next records, at most so many and of so much weight (at least one record); empty after a short wait.

        If an epoch changed while records were being fetched, their partitions are sought back to the committed
        offset before the records are dropped. Raises `BusUnavailable` when the broker is away for long.
        """
        ...

    def is_current(self, partition: Partition, epoch: int) -> bool:
        """Whether this process still holds the partition under the assignment that `epoch` numbers."""
        ...

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit the next offset to read of each partition. Raises `StaleEpoch` when the group has moved on."""
        ...

    async def rewind(self, partitions: Iterable[Partition]) -> None:
        """Seek these back to their committed offsets, under a new epoch: a failed batch and all later ones are void."""
        ...

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing more from these until they are resumed or assigned anew."""
        ...

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Fetch from these again."""
        ...


class Tail(Protocol):
    """A topic read without a group. Raises `BusUnavailable` when the broker is away."""

    async def wait(self, seconds: float) -> list[Entry]:
        """What came next; empty after so many seconds."""
        ...

    async def catch_up(self) -> list[Entry]:
        """Everything up to the end as it is now."""
        ...


class Sink(Protocol):
    """Where records are published."""

    async def publish(self, records: Sequence[Outgoing]) -> list[Undeliverable | None]:
        """Publish all with acks=all and wait; None for each that the broker has, a reason for each that it never will.

        Raises `BusUnavailable` when the broker does not answer: nothing is known of the rest, the batch is repeated.
        """
        ...


class Store(Protocol):
    """The river's memory. Both methods raise `StoreUnavailable` when nothing is known of the outcome.

    Reads go to the primary.
    """

    async def know(self, question: Question) -> Answer:
        """Everything a batch asks for, in as few round trips as can be."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settling]:
        """One transaction for the whole batch (D2); one answer per settlement, in order.

        Two settlements of one batch with the same ledger key, or that change the same row, are never both written: the
        later is `Lost` or `Moved`.
        """
        ...


class Leases(Protocol):
    """Encryptions per key version, leased before they are used (S10)."""

    async def lease(self, key: UUID, version: int, count: int) -> int:
        """Add `count` to what was ever leased for this version, durably, and return the new sum."""
        ...


class Dues(Protocol):
    """What falls due by the database's clock."""

    async def lead(self, duty: str, holder: str, seconds: float) -> bool:
        """Whether this holder leads the duty for so long from now: nobody else does, or he does already."""
        ...

    async def due(self, limit: int, serial: str) -> tuple[Sequence[tuple[UUID, int]], Sequence[UUID]]:
        """Versions or their material, and approvals that are due, longest first; of token objects this token's only."""
        ...

    async def imports_due(self, limit: int, serial: str) -> Sequence[UUID]:
        """Import parameters that are over, or whose key pair in this token is good for nothing more."""
        ...


class Outbox(Protocol):
    """Facts without a record (D9), relayed until acknowledged."""

    async def waiting(self, limit: int) -> list[Announce]:
        """The oldest events not yet acknowledged."""
        ...

    async def acknowledge(self, ids: Sequence[UUID]) -> None:
        """The bus has these."""
        ...


class Attempts(Protocol):
    """The memory of how often records killed their worker (D5), in Postgres."""

    async def assigned(self, group: str, partition: Partition, offset: int) -> int:
        """Note an assignment at this offset; how many in a row began there and ended badly, this one included."""
        ...

    async def released(self, group: str, partition: Partition) -> None:
        """The partition was given back after a clean drain, or progressed: forget the count."""
        ...

    async def begin_alone(self, group: str, partition: Partition, offset: int) -> int:
        """Committed before the record is processed alone; how often that was done for it, this time included."""
        ...

    async def end_alone(self, group: str, partition: Partition, offset: int) -> None:
        """The record was finished: forget its marker."""
        ...


class BusUnavailable(Exception):
    """The broker does not answer; the work is repeated when it does."""


class StaleEpoch(Exception):
    """The partition is held by another assignment now; the batch is dropped."""


class StoreUnavailable(Exception):
    """Postgres does not answer, or the fate of a COMMIT is unknown; the batch goes back to `know`."""
