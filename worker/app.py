"""The composition root: the only place that names concrete edges.

One process has one token, one pool of connections and its lanes.
"""

import asyncio
import gc
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from worker.duties import FleetWork
from worker.edges.bus.admin import KafkaAdmin
from worker.edges.bus.progress import KafkaProgress
from worker.edges.bus.source import KafkaSource, Timing
from worker.edges.bus.tail import Tail
from worker.edges.hsm import TokenState, open_token
from worker.edges.store.attempts import PostgresAttempts
from worker.edges.store.campaigns import PostgresSlices
from worker.edges.store.chores import fold, private_halves, prune, prune_slices
from worker.edges.store.dues import PostgresDues
from worker.edges.store.fleet import Fleet, found_fleet, record_backup
from worker.edges.store.leases import PostgresLeases
from worker.edges.store.migrate import migrate
from worker.edges.store.pool import connected
from worker.edges.store.presence import PostgresPresence
from worker.edges.store.quotas import PostgresQuotaLeases
from worker.edges.store.store import PostgresStore
from worker.edges.store.triggers import PostgresOccasions
from worker.flow.alarms import PinAlarm
from worker.flow.alone import Quiet
from worker.flow.answering import Answering
from worker.flow.attendance import Attendance
from worker.flow.bodies import BodyLimits
from worker.flow.campaign_verify import Verifying
from worker.flow.campaigns import KEYS, Campaigning
from worker.flow.clock import boottime
from worker.flow.contact import Contacts
from worker.flow.deadletters import DeadLetters
from worker.flow.due import DueWork
from worker.flow.enrolling import Enrolling
from worker.flow.executing import Executing
from worker.flow.failpoints import Failpoints, parse
from worker.flow.fairness import BulkHsm, Latencies, Manners, Throttle, Timed
from worker.flow.fresh import new_ids, now_ms
from worker.flow.hints import Hints
from worker.flow.importing import Statements
from worker.flow.intake import Bounds, Intake
from worker.flow.intakekeys import IntakeKeys
from worker.flow.keystones import Keystones
from worker.flow.knowing import Knowing
from worker.flow.linknews import LinkNews
from worker.flow.opening import Opening
from worker.flow.outside import KeystoresBeside
from worker.flow.publishing import Publishing
from worker.flow.quotas import Quotas
from worker.flow.registry import Clients
from worker.flow.river import River
from worker.flow.standing import Standings
from worker.flow.triggers import Triggering
from worker.flow.unsealing import Unsealing
from worker.flow.upkeep import Duty, keep_up
from worker.flow.uses import Uses
from worker.flow.voice import RunVoice
from worker.model.topics import Lane, Topics, specs
from worker.parts import (
    Parts,
    WrongTopics,
    check_fleet,
    harden,
    hsm_config,
    kafka_access,
    open_parts,
    postgres_settings,
)
from worker.seal.identity import Identity
from worker.settings import Settings
from worker.watch.metrics import Metrics

SWITCH_INTERVAL_S = 5e-5
"""Short calls that release the GIL crawl beside a busy loop at Python's default of 5 ms (FACTS 2.12)."""


GC_THRESHOLDS = (50_000, 20, 50)
"""A batch makes some ten thousand short-lived objects without cycles; looking for cycles every 700 is a waste."""


class Worker:
    """One process of the fleet: its lanes, and the duties beside them."""

    def __init__(self, parts: Parts, lanes: Sequence[Lane]) -> None:
        settings = parts.settings
        self._parts = parts
        self._failpoints = Failpoints(parse(settings.failpoints))
        self._voice = RunVoice(settings.fleet, parts.topics.intake, parts.token.fleet_keys, parts.sink)
        self._intake_keys = self._keys_for_callers()
        self._contacts = contacts = Contacts(settings.sovereign_limit_s)
        probe_s = settings.keystore_probe_s
        self._keystones = Keystones(
            parts.token.hsm, parts.keystores, contacts, probe_s, boottime, parts.metrics, self._failpoints
        )
        self._hsm = KeystoresBeside(parts.token.hsm, self._keystones, contacts, boottime)
        self._latencies, self._throttle = Latencies(), Throttle(settings.bulk_hsm_share, settings.interactive_p99_ms)
        self._uses = Uses(PostgresLeases(parts.pool))
        self._quotas = Quotas(PostgresQuotaLeases(parts.pool))
        self._name = f"{socket.gethostname()}/{os.getpid()}"
        self._presence = PostgresPresence(parts.pool)
        run, session_s = new_ids(1)[0], settings.worker_session_s
        self._holder = f"{self._name}/{run}"  # of leases: host and process number may come again, or be another's, too
        latencies = self._latencies if Lane.INTERACTIVE in lanes else None
        throttle = self._throttle if Lane.BULK in lanes else None
        self._manners = Manners(run, self._presence, parts.metrics, latencies, throttle)
        self._attendance = Attendance(
            run, self._name, session_s, self._presence, parts.store, parts.trust, parts.token.hsm
        )
        self._dead_letters = DeadLetters(parts.topics.undelivered, self._name, parts.metrics)
        timing = Timing(session_s=settings.kafka_session_s, heartbeat_s=settings.kafka_session_s / 4)
        self.sources = {
            lane: KafkaSource(parts.access, parts.topics.group(lane), parts.topics.lane(lane), timing) for lane in lanes
        }
        self._quiet = Quiet()  # one for all lanes: a record that runs alone is alone in its process
        self.intakes = {lane: self._intake(lane, source) for lane, source in self.sources.items()}
        for lane, source in self.sources.items():
            parts.metrics.lag_of(lane.value, source.lag)
        parts.metrics.handles_of(lambda: parts.token.hsm.handles)

    def _keys_for_callers(self) -> IntakeKeys:
        parts, settings = self._parts, self._parts.settings
        progress = KafkaProgress(parts.access, parts.topics.group(Lane.INTERACTIVE), parts.topics.wrap)
        return IntakeKeys(
            fleet=settings.fleet,
            intake_topic=parts.topics.intake,
            suites=settings.intake_suites,
            store=parts.store,
            trust=parts.trust,
            fleet_keys=parts.token.fleet_keys,
            sink=parts.sink,
            progress=progress,
            private_halves=partial(private_halves, parts.pool),
        )

    def _intake(self, lane: Lane, source: KafkaSource) -> Intake:
        settings = self._parts.settings
        bounds = Bounds(settings.batch_records, settings.batch_bytes, settings.batches_in_flight)
        attempts = PostgresAttempts(self._parts.pool)
        observer = self._parts.metrics.lane(lane.value)
        river = self._river(lane, source)
        answers = Timed(river, self._latencies) if lane is Lane.INTERACTIVE else river
        intake = Intake(self._parts.topics.group(lane), source, answers, attempts, observer, bounds, self._quiet)
        intake.failpoints = self._failpoints
        return intake

    def _river(self, lane: Lane, source: KafkaSource) -> River:
        parts, settings = self._parts, self._parts.settings
        clients = Clients(parts.store, parts.trust)
        body_limits = BodyLimits(request_bytes=settings.request_bytes, items=settings.request_items)
        return River(
            opening=Opening(settings.fleet, settings.topic_prefix, body_limits, clients),
            clients=clients,
            knowing=Knowing(parts.store, parts.trust),
            quotas=self._quotas,
            unsealing=Unsealing(settings.fleet, self._intake_keys),
            executing=self._executing(lane),
            store=parts.store,
            answering=Answering(settings.fleet, self._voice),
            publishing=Publishing(parts.sink, self._dead_letters),
            fence=source,
            watch=parts.metrics,
            limits=settings.limits,
            new_ids=new_ids,
            failpoints=self._failpoints,
        )

    def _executing(self, lane: Lane) -> Executing:
        fleet_keys = self._parts.token.fleet_keys
        statements = Statements(self._parts.settings.fleet, fleet_keys)
        bulk = BulkHsm(self._hsm, self._throttle, self._parts.settings.batches_in_flight)
        return Executing(bulk if lane is Lane.BULK else self._hsm, fleet_keys, self._uses, new_ids, statements)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`, then drain: finish what was begun, commit, leave the groups."""
        await self._check_topics()
        work = FleetWork(self._parts, self._voice, self._name, self._holder)
        followed = work.followed()
        async with work.sequences() as sequences:  # before any row is believed (S7)
            await followed.turn(now_ms())
            await self._attendance.turn()  # before any handle is opened (S15)
            await self._intake_keys.keep(now_ms())
            async with self._hints() as hints:
                await self._run([*self._duties(), *work.duties(followed), *sequences, hints], stop)

    @asynccontextmanager
    async def _hints(self) -> AsyncIterator[Duty]:
        """Follow the broadcast from its present end on: no handle is loaded before."""
        parts = self._parts
        async with (
            Tail(parts.access, parts.topics.hints, from_end=True) as said,
            Tail(parts.access, parts.topics.intake) as certificates,
        ):
            keys = parts.token.fleet_keys.lineage
            hints = Hints(parts.settings.fleet, keys, said, certificates, self._hsm, now_ms)
            yield Duty("hints", hints.turn, 0.2)

    async def _run(self, duties: Sequence[Duty], stop: asyncio.Event) -> None:
        upkeep = asyncio.create_task(keep_up(duties))
        try:
            async with AsyncExitStack() as stack:
                for source in self.sources.values():
                    await stack.enter_async_context(source)
                await self._serve(stop)
        finally:
            upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await upkeep
            await self._keystones.close()

    async def _check_topics(self) -> None:
        """Freshness and the ledger rest on the broker's settings (S3, D1): what breaks them is refused at start."""
        topics = self._parts.topics
        names = {topics.sequences, *(name for lane in self.sources for name in topics.lane(lane))}
        async with KafkaAdmin(self._parts.access) as admin:
            differences = await admin.differences([spec for spec in specs(topics) if spec.name in names])
        if differences:
            raise WrongTopics("; ".join(map(str, differences)))

    async def _serve(self, stop: asyncio.Event) -> None:
        lanes = [asyncio.create_task(intake.run()) for intake in self.intakes.values()]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([*lanes, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for intake in self.intakes.values():
            intake.stop()
        await asyncio.gather(*lanes)

    def _duties(self) -> list[Duty]:
        parts = self._parts
        dues = PostgresDues(parts.pool)
        duties = [
            Duty("voice", lambda: self._voice.renew(now_ms()), 60.0),
            Duty("intake keys", lambda: self._intake_keys.keep(now_ms()), 30.0),
            Duty("keystores", self._keystones.turn, 0.5),
            Duty("link news", LinkNews(self._contacts, parts.store, parts.trust, parts.token.fleet_keys).turn, 5.0),
            Duty("attendance", self._attendance.turn, 1.0),
            Duty("manners", self._manners.turn, 1.0),
            Duty("due", self._due_work().turn, 1.0),
            Duty("triggers", self._triggering(dues).turn, 5.0),
            Duty("prune", partial(prune, parts.pool, parts.settings.ledger_window), 600.0),
            Duty("slices", partial(prune_slices, parts.pool, parts.settings.slices_window), 600.0),
            Duty("fold", partial(fold, parts.pool), 30.0),
            Duty("workers", self._presence.prune, 600.0),
            Duty(
                "pin", PinAlarm(self._name, lambda: parts.token.state is TokenState.PIN_REFUSED, parts.store).turn, 5.0
            ),
        ]
        if Lane.BULK in self.sources:
            duties.append(Duty("campaigns", self._campaigning(dues).turn, 0.2))
        return duties

    def _campaigning(self, dues: PostgresDues) -> Campaigning:
        parts, slices = self._parts, PostgresSlices(self._parts.pool)
        fleet, keys = parts.settings.fleet, parts.token.fleet_keys
        standings = Standings(parts.store, parts.trust, keys)
        sizes = (parts.settings.slice_items, KEYS)
        verifying = Verifying(fleet, self._holder, slices, standings, keys, dues, parts.settings.limits.recoverable_ms)
        return Campaigning(
            self._holder,
            slices,
            standings,
            BulkHsm(self._hsm, self._throttle),
            self._uses,
            verifying,
            self._failpoints,
            parts.metrics,
            sizes=sizes,
            throttle=self._throttle,
        )

    def _triggering(self, dues: PostgresDues) -> Triggering:
        parts, token, occasions = self._parts, self._parts.token, PostgresOccasions(self._parts.pool)
        keys = token.fleet_keys
        return Triggering(self._holder, token.serial, occasions, dues, parts.store, parts.trust, keys, self._hsm)

    def _due_work(self) -> DueWork:
        parts, token = self._parts, self._parts.token
        return DueWork(
            holder=self._holder,
            serial=token.serial,
            recoverable_ms=parts.settings.limits.recoverable_ms,
            dues=PostgresDues(parts.pool),
            presence=self._presence,
            store=parts.store,
            trust=parts.trust,
            fleet_keys=token.fleet_keys,
            hsm=token.hsm,
            failpoints=self._failpoints,
        )


async def run_worker(
    settings: Settings, lanes: Sequence[Lane], stop: asyncio.Event, serving: Callable[[Worker, Parts], None]
) -> None:
    """One worker process, from the first connection to the last commit. `serving` learns of the worker (for health)."""
    harden(settings)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    if tuple(lanes) == (Lane.BULK,):
        os.nice(settings.bulk_niceness)
    async with open_parts(settings, Metrics()) as parts:
        worker = Worker(parts, lanes)
        serving(worker, parts)
        await worker.run(stop)


async def found(
    settings: Settings, officers: Sequence[str], keep: Callable[[Identity], None] = lambda _identity: None
) -> list[Identity]:
    """`keyriver init`: schema, fleet keys, topics and the first officers. Safe to run again; returns who is new.

    `keep` stores an officer's identity; it is called before the officer is registered.

    The only command that touches the store itself: before it there is nobody whose signature could be checked.
    """
    topics, access = Topics(settings.topic_prefix), kafka_access(settings)
    async with connected(postgres_settings(settings)) as pool:
        await migrate(pool)
        token = await open_token(hsm_config(settings), create_fleet_keys=True)
        try:
            row = Fleet(settings.fleet, token.fleet_keys.signing_key, token.serial, now_ms())
            await found_fleet(pool, row)
            await check_fleet(settings, pool, token)
            async with KafkaAdmin(access) as admin:
                await admin.create(specs(topics, settings.kafka_partitions), settings.kafka_replicas)
            enrolling = Enrolling(settings.fleet, topics.replies, PostgresStore(pool), token.fleet_keys, keep)
            return await enrolling.enrol(officers)
        finally:
            await token.close()


async def note_backup(settings: Settings) -> None:
    """`keyriver init --backup-recorded`: somebody says that the token and the database were backed up now (S5)."""
    async with connected(postgres_settings(settings)) as pool:
        await record_backup(pool, now_ms())
