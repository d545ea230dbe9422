"""The composition root's third part: what a worker does for the whole fleet, beside its lanes.

It follows the fleet's own keys, hears and tells the sequences of rows, relays facts, and keeps the audit log.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from worker.edges.bus.tail import Tail
from worker.edges.store.dues import PostgresDues
from worker.edges.store.log import PostgresAuditLog
from worker.edges.store.macs import PostgresMacRows
from worker.edges.store.outbox import PostgresOutbox
from worker.flow.alarms import SetBackAlarm
from worker.flow.fleetkeys import FollowedKeys
from worker.flow.fresh import new_ids, now_ms
from worker.flow.relay import Relay
from worker.flow.renewing import Renewing
from worker.flow.retagging import Retagging
from worker.flow.retelling import Retelling
from worker.flow.sequencer import TURN_S, Sequencer
from worker.flow.sequences import SequenceFeed
from worker.flow.upkeep import Duty
from worker.flow.voice import RunVoice
from worker.parts import Parts

SEQUENCES_LEAD_S = 3.0
"""One process tells rows' sequences, or an old one could be told after a newer one; a dead one is replaced so soon."""


@dataclass(frozen=True, slots=True)
class FleetWork:
    """What one process takes its turns at; `name` is for people, `holder` is this run and no other."""

    parts: Parts
    voice: RunVoice
    name: str
    holder: str

    def duties(self, followed: FollowedKeys) -> list[Duty]:
        """All but the hearing of sequences."""
        return [
            Duty("fleet keys", lambda: followed.turn(now_ms()), 1.0),
            Duty("outbox", self._relay().turn, 0.2),
            Duty("sequences told", self._sequences_told().turn, 0.1),
            Duty("keystore credentials", partial(self.parts.keystores.renew, self.parts.credentials), 5.0),
            Duty("row MACs", self._renewing().turn, 0.5),
            Duty("rows set back", SetBackAlarm(self.name, self.parts.store).turn, 1.0),
            Duty("audit log", self._sequencer().turn, TURN_S),
        ]

    def followed(self) -> FollowedKeys:
        """The versions of the fleet's own keys."""
        parts = self.parts
        keys = parts.token.fleet_keys
        return FollowedKeys(
            parts.settings.fleet, parts.topics.intake, parts.store, parts.trust, keys, parts.sink, self.voice
        )

    @asynccontextmanager
    async def sequences(self) -> AsyncIterator[list[Duty]]:
        """All that was ever told of rows (S7), and then what comes."""
        async with Tail(self.parts.access, self.parts.topics.sequences) as topic:
            parts, keys, dues = self.parts, self.parts.token.fleet_keys, PostgresDues(self.parts.pool)
            feed = SequenceFeed(topic, keys, parts.sequences)
            await feed.catch_up()
            again = Retelling(self.holder, dues, feed, parts.store, parts.trust, keys)
            yield [Duty("sequences", feed.turn, 0.1), Duty("sequences told again", again.turn, 1.0)]

    def _relay(self) -> Relay:
        parts, topics = self.parts, self.parts.topics
        names = (topics.events, topics.hints, topics.sequences)
        return Relay(parts.settings.fleet, *names, PostgresOutbox(parts.pool), parts.sink, self.voice)

    def _sequences_told(self) -> Relay:
        parts, topics = self.parts, self.parts.topics
        names = (topics.events, topics.hints, topics.sequences)
        outbox = PostgresOutbox(parts.pool, sequences=True)
        leads = partial(PostgresDues(parts.pool).lead, "sequences", self.holder, SEQUENCES_LEAD_S)
        return Relay(parts.settings.fleet, *names, outbox, parts.sink, self.voice, leads)

    def _renewing(self) -> Renewing:
        parts = self.parts
        rows, dues = PostgresMacRows(parts.pool), PostgresDues(parts.pool)
        keys = parts.token.fleet_keys
        return Renewing(self.holder, dues, rows, parts.trust, keys, Retagging(parts.sequences, parts.store, keys))

    def _sequencer(self) -> Sequencer:
        parts, log = self.parts, PostgresAuditLog(self.parts.pool)
        keys = parts.token.fleet_keys
        return Sequencer(parts.settings.fleet, parts.topics.audit, new_ids(1)[0], log, keys, parts.sink)
