"""The edges as the flow sees them: Protocols with few methods, one port per flow. No implementation stands here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from worker.model.hsm import HsmOp, HsmResult


class Hsm(Protocol):
    """Whole batches on the token."""

    async def run(self, ops: Sequence[HsmOp], timeout_s: float) -> list[HsmResult]:
        """Run a batch: one thread hop, one session, grouped by KEK; results in the order of `ops`.

        Never raises for an operation: a failure is an `HsmFault` in its place. What is not done within
        `timeout_s` seconds (a lost token, a full queue) is `Fault.UNAVAILABLE`.
        """
        ...

    def drop(self, keys: Iterable[UUID]) -> None:
        """Forget the cached handles of these keys; those in use go with their batch. Never blocks."""
        ...


@dataclass(frozen=True, slots=True)
class Mac:
    """An HMAC-SHA-256 made by one version of the fleet's row MAC key."""

    version: int
    value: bytes


class FleetKeys(Protocol):
    """The fleet's own token objects (S5): row MAC, intake wrap, signing. Each raises `TokenUnavailable` when the token is away."""

    @property
    def signing_key(self) -> bytes:
        """The public half of the fleet's ECDSA P-256 signing key: 65 bytes, uncompressed point. Clients pin it."""
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
