"""Hints (D7): a signed broadcast that says which keys' handles must go. It only makes things sooner, never right.

To be followed, a hint 1. is readable, 2. is signed by a worker key that the fleet key certified and that holds now,
3. over our fleet, the hints topic and its bytes, 4. and was said within five minutes of its append time. Anything else
is counted and ignored.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from worker.model.records import Entry
from worker.model.replies import Hint
from worker.model.rows import Algorithm
from worker.ports import Hsm, Tail
from worker.seal.announcements import UnknownSigner, WorkerCertificate
from worker.seal.claims import EventClaims
from worker.seal.errors import BadCertificate, SealError
from worker.seal.lineage import Lineage
from worker.seal.signatures import jws_kid, verify_jws

log = logging.getLogger(__name__)

WAIT_S = 0.5
FRESH_MS = 5 * 60_000
MOST_UNPROVEN = 1000
"""Certificates that wait for a rotation of the fleet's key to be known here."""


class Hints:
    """Follows the broadcast; `certificates` is the intake topic, read when a hint is signed by an unknown worker."""

    def __init__(
        self, fleet: str, fleet_keys: Lineage, hints: Tail, certificates: Tail, hsm: Hsm, now_ms: Callable[[], int]
    ) -> None:
        self._fleet, self._fleet_keys = fleet, fleet_keys
        self._hints, self._certificates = hints, certificates
        self._hsm = hsm
        self._now_ms = now_ms
        self._known: dict[str, WorkerCertificate] = {}
        self._waiting: deque[Entry] = deque()
        self._unproven: dict[bytes, Entry] = {}
        self._trusted = fleet_keys.keys
        self.refused: Counter[str] = Counter()
        """Hints that were not followed, by reason. Forgeries show here."""

    async def turn(self) -> int:
        """Follow what comes within half a second; how many keys were dropped."""
        dropped = 0
        self._waiting.extend(await self._hints.wait(WAIT_S))
        while self._waiting:
            entry = self._waiting[0]  # kept until it is judged: the broker may fall silent on the way
            try:
                keys = await self._keys(entry)
            except (SealError, ValueError) as error:
                self._waiting.popleft()
                self.refused[type(error).__name__] += 1
                log.warning("a hint at %s/%s is not followed: %s", entry.partition.topic, entry.offset, error)
                continue
            self._waiting.popleft()
            self._hsm.drop(keys)
            dropped += len(keys)
        return dropped

    async def _keys(self, entry: Entry) -> list[UUID]:
        headers = {name: value.decode() for name, value in entry.headers}
        body = entry.value or b""
        claims = EventClaims(
            fleet=self._fleet,
            tenant=headers.get("ce_tenant", ""),
            topic=entry.partition.topic,
            id=headers.get("ce_id", ""),
            type=headers.get("ce_type", ""),
            time=headers.get("ce_time", ""),
            body_sha256=sha256(body).digest(),
        )
        signature = headers.get("keyriver-signature", "")
        certificate = await self._certificate(jws_kid(signature))
        verify_jws(signature, claims.payload(), Algorithm.ED25519, certificate.public_key)
        said_ms = datetime.fromisoformat(claims.time).timestamp() * 1000
        if abs(entry.appended_ms - said_ms) > FRESH_MS:
            raise ValueError("it was said long before it was published")  # or said again by whoever likes empty caches
        return Hint.model_validate_json(body).keys

    async def _certificate(self, kid: str) -> WorkerCertificate:
        """The worker's certificate; what was announced since the last look is read first."""
        if kid not in self._known:
            unproven: list[Entry] = []
            if self._trusted != self._fleet_keys.keys:  # rotated: what nobody vouched for is looked at again
                self._trusted, unproven, self._unproven = self._fleet_keys.keys, [*self._unproven.values()], {}
            for entry in (*unproven, *await self._certificates.catch_up()):
                self._learn(entry)
        found = self._known.get(kid)
        if found is None or found.not_after_ms < self._now_ms():
            raise BadCertificate("it is signed by no worker that is certified now")
        return found

    def _learn(self, entry: Entry) -> None:
        if entry.value is None or not (entry.key or b"").startswith(b"certificate/"):
            return
        try:
            said = WorkerCertificate.parse(entry.value, self._fleet, self._fleet_keys, self._now_ms())
        except BadCertificate as error:
            if isinstance(error, UnknownSigner) and len(self._unproven) < MOST_UNPROVEN:
                self._unproven[entry.key or b""] = entry
            log.info("%s", error)
            return
        self._known[said.kid] = said
