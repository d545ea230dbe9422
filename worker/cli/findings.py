"""What `doctor` makes of what it saw: pure judgements, each with the cure (SECURITY S17)."""

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from worker.edges.bus.admin import Difference
from worker.edges.store.chores import StoreFacts
from worker.edges.store.fleet import Fleet
from worker.model.keystores import KeystoreAddress, KeystoreFault, KeystoreForbidden, KeystoreMisconfigured
from worker.settings import Settings

SKEW_WARN_MS, SKEW_FAIL_MS = 1_000, 60_000
"""Signed times may differ from the broker's by five minutes (S3): a clock that is a minute off is on its way there."""
LEDGER_DAYS = 14
"""Topics are compared with this window; a shorter one could forget a request that its topic still holds (D1)."""
_SECRET_MODES = frozenset({0o400, 0o600})


class Grade(StrEnum):
    """How bad it is; only FAIL makes the exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, what was seen, and what to do about it."""

    what: str
    grade: Grade
    seen: str
    cure: str = ""


def ok(what: str, seen: str) -> Finding:
    """It is as it has to be."""
    return Finding(what, Grade.OK, seen)


def fail(what: str, seen: str, cure: str) -> Finding:
    """It must be mended."""
    return Finding(what, Grade.FAIL, seen, cure)


def warn(what: str, seen: str, cure: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(what, Grade.WARN, seen, cure)


def of_files(settings: Settings, modes: Mapping[Path, int]) -> Iterator[Finding]:
    """Secret files must be their owner's alone; in production the PIN's is 0400."""
    for name, path in (
        ("hsm_pin_file", settings.hsm_pin_file),
        ("postgres_dsn_file", settings.postgres_dsn_file),
        ("kafka_password_file", settings.kafka_password_file),
    ):
        if path is None:
            continue
        mode = stat.S_IMODE(modes[path])
        if mode in _SECRET_MODES:
            yield ok(name, f"mode {mode:04o}")
        else:
            yield fail(name, f"others may read it (mode {mode:04o})", f"chmod 400 {path}")


def of_settings(settings: Settings) -> Iterator[Finding]:
    """What the settings promise; a production fleet without protection was refused when they were read."""
    if settings.is_development:
        yield warn("fleet", f"{settings.fleet} is for development", "production has another id, and is checked harder")
    else:
        yield ok("fleet", settings.fleet)
    if settings.failpoints:
        yield warn("failpoints", "this worker will be killed on purpose", "unset KEYRIVER_FAILPOINTS")
    if settings.ledger_window_days < LEDGER_DAYS:
        yield fail(
            "ledger_window_days",
            f"{settings.ledger_window_days} days: request topics may remember longer, and a request could run twice",
            f"at least {LEDGER_DAYS}",
        )
    if not settings.is_development and settings.kafka_replicas < 3:  # noqa: PLR2004
        yield warn("kafka_replicas", f"{settings.kafka_replicas}: one lost broker loses answers", "3")
    if not settings.http_port:
        yield warn("http_port", "no /livez, /readyz, /metrics", "set it, so that somebody is told")


def of_topics(differences: Sequence[Difference]) -> Iterator[Finding]:
    """LogAppendTime, retention below the ledger's window, sizes."""
    missing = [each for each in differences if each.setting == "topic"]
    if missing:
        names = ", ".join(each.topic for each in missing)
        yield fail("topics", f"missing: {names}", "keyriver topics --create")
    for each in differences:
        if each.setting != "topic":
            cure = f"kafka-configs.sh --alter --entity-type topics --entity-name {each.topic} --add-config "
            cure += f"{each.setting}={each.wanted}"
            yield fail("topics", str(each), cure)
    if not differences:
        yield ok("topics", "all there, append time and retention as they have to be")


def of_store(facts: StoreFacts, standbys: str, *, is_development: bool) -> Iterator[Finding]:
    """What acknowledged commits rest on."""
    yield ok("postgres", f"version {facts.version}")
    if not facts.is_primary:
        yield fail("postgres", "this server is a replica", "postgres_dsn_file: name the primary")
    if facts.synchronous_commit == "off":
        seen = "synchronous_commit is off: a crash forgets effects that were answered"
        yield fail("postgres", seen, "ALTER SYSTEM SET synchronous_commit = on")
    if not facts.fsync:
        yield fail("postgres", "fsync is off: a power cut can lose every key", "ALTER SYSTEM SET fsync = on")
    if is_development:
        return
    if not facts.ssl:
        yield fail("postgres", "this connection is not encrypted", "postgres_dsn_file: sslmode=verify-full")
    if not standbys:
        seen = "no synchronous standby: a fail-over to an asynchronous one can lose answered effects"
        yield warn("postgres", seen, "set synchronous_standby_names")


def of_fleet(fleet: Fleet | None, schema_fault: str, settings: Settings, now_ms: int) -> Iterator[Finding]:
    """Whose database it is, and whether the keys to it were backed up."""
    if schema_fault:
        yield fail("schema", schema_fault, "keyriver init")
        return
    yield ok("schema", "up to date")
    if fleet is None:
        yield fail("fleet row", "this database belongs to no fleet", "keyriver init ann bob")
        return
    if fleet.id != settings.fleet:
        yield fail("fleet row", f"this database belongs to {fleet.id}", "correct fleet, or postgres_dsn_file")
    if fleet.backup_recorded_ms is not None and fleet.backup_recorded_ms < (fleet.rotated_ms or 0):
        grade = warn if settings.is_development else fail
        seen = "recorded before the newest fleet key was made: with that backup alone rows made since are lost"
        yield grade("backup", seen, "back up token and database anew, then keyriver init --backup-recorded")
    elif fleet.backup_recorded_ms is not None:
        days = (now_ms - fleet.backup_recorded_ms) // 86_400_000
        yield ok("backup", f"recorded {days} days ago")
    else:
        grade = warn if settings.is_development else fail
        seen = "never recorded: if the token is lost, every key is lost"
        yield grade("backup", seen, "back up token and database, then keyriver init --backup-recorded")


def of_clock(ours_ms: int, theirs_ms: int) -> Finding:
    """Our clock against the database's, whose time decides life cycles."""
    skew = abs(ours_ms - theirs_ms)
    if skew < SKEW_WARN_MS:
        return ok("clock", f"{skew} ms from the database's")
    grade = warn if skew < SKEW_FAIL_MS else fail
    return grade(
        "clock", f"{skew / 1000:.1f} s from the database's", "let NTP set the clocks of workers, brokers and database"
    )


def of_keystore(where: KeystoreAddress, seen: str | KeystoreFault) -> Finding:
    """A customer's keystore. That it is silent or says no is his affair and breaks no worker: a warning."""
    what = f"keystore {where.credential}"
    place = f"{where.provider} at {where.endpoint}"
    match seen:
        case str():
            return ok(what, f"{place}: {seen}")
        case KeystoreMisconfigured():
            return fail(what, f"{place}: {seen}", "correct the setting named")
        case KeystoreForbidden():
            return warn(what, f"{place} refuses us: {seen}", "did he cut the link? else the credential is wrong or old")
        case _:
            return warn(what, f"{place}: {seen}", "is it up, and may this machine reach it?")
