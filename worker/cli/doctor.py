"""`keyriver doctor`: looks at every dependency as a worker would use it, and names the cure.

It is the one command besides `init` and `topics` that names concrete edges: it must look at each alone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Protocol

from cyclopts import App
from rich.console import Console

from worker.cli import findings
from worker.cli.config import BadSettings, load
from worker.cli.findings import Finding, Grade
from worker.cli.officer import Json
from worker.cli.output import show_json, working
from worker.edges.bus.admin import KafkaAdmin
from worker.edges.hsm import FleetKeyMissing, PinRefused, TokenLacks, open_token
from worker.edges.store.chores import inspect
from worker.edges.store.fleet import Fleet, read_fleet
from worker.edges.store.migrate import check_schema
from worker.edges.store.pool import Pool, SchemaMismatch, StoreRefused, connected
from worker.edges.store.store import PostgresStore
from worker.flow.fresh import now_ms
from worker.model.facts import Question
from worker.model.keystores import KeystoreAddress, KeystoreFault, KeystoreMisconfigured
from worker.model.topics import Topics, specs
from worker.parts import hsm_config, kafka_access, outside, postgres_settings
from worker.ports import BusUnavailable, StoreUnavailable, TokenUnavailable
from worker.settings import Settings

PATIENCE_S = 15.0
doctor = App(name="doctor", help_format="markdown")


class Looking(Protocol):
    """A keystore that can be looked at without a key."""

    async def look(self) -> str:
        """What it says of itself. Raises `KeystoreFault`."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


Opener = Callable[[KeystoreAddress], Looking]


@doctor.default
async def examine(*, json: Json = False) -> int:
    """Check settings, Kafka, Postgres, token, customers' keystores and clocks; say what is wrong and how to mend it.

    Exit code 0 if a worker would run well, 1 if something has to be mended. A production fleet (whose id does not begin
    with `dev-`) is refused without TLS and a login to Kafka, verify-full to Postgres, synchronous_commit, closed secret
    files and a recorded backup.

    ```
    keyriver doctor
    keyriver doctor --json | jq '.[] | select(.grade != "ok")'
    ```
    """
    with working("examining Kafka, Postgres, the token and keystores"):
        found = await _examined()
    if json:
        show_json([{"what": f.what, "grade": f.grade, "seen": f.seen, "cure": f.cure} for f in found])
    else:
        _show(found)
    return 1 if any(finding.grade is Grade.FAIL for finding in found) else 0


async def _examined() -> list[Finding]:
    try:
        settings = load(Settings)
    except BadSettings as bad:
        return [findings.fail("settings", fault, "correct it and run doctor again") for fault in bad.faults]
    paths = (settings.hsm_pin_file, settings.postgres_dsn_file, settings.kafka_password_file)
    modes = {path: path.stat().st_mode for path in paths if path is not None}
    found = [*findings.of_settings(settings), *findings.of_files(settings, modes)]
    found += [finding async for finding in _kafka(settings)]
    fleet: Fleet | None = None
    try:
        async with connected(postgres_settings(settings)) as pool:
            fleet = await _fleet_of(pool)
            found += [finding async for finding in _postgres(settings, pool, fleet)]
    except (StoreUnavailable, StoreRefused) as error:
        found.append(findings.fail("postgres", str(error), "is it up, and are address, name and password right?"))
    found += await _token(settings, fleet)
    return [*found, *await _keystores(settings)]


async def _kafka(settings: Settings) -> AsyncIterator[Finding]:
    wanted = specs(Topics(settings.topic_prefix), settings.kafka_partitions)
    try:
        async with asyncio.timeout(PATIENCE_S), KafkaAdmin(kafka_access(settings)) as admin:
            differences = await admin.differences(wanted)
    except (BusUnavailable, ValueError) as error:
        yield findings.fail("kafka", str(error), "see the causes named")
    except TimeoutError:
        yield findings.fail("kafka", f"no answer in {PATIENCE_S:.0f} s", "is the cluster well?")
    else:
        yield findings.ok("kafka", f"{settings.kafka_bootstrap} answers ({settings.kafka_protocol})")
        for finding in findings.of_topics(differences):
            yield finding


async def _postgres(settings: Settings, pool: Pool, fleet: Fleet | None) -> AsyncIterator[Finding]:
    standbys = await pool.run(lambda connection: connection.fetchval("SHOW synchronous_standby_names"))
    for finding in findings.of_store(await inspect(pool), standbys, is_development=settings.is_development):
        yield finding
    fault = ""
    try:
        await check_schema(pool)
    except SchemaMismatch as mismatch:
        fault = str(mismatch)
    for finding in findings.of_fleet(fleet, fault, settings, now_ms()):
        yield finding
    if not fault:
        before = now_ms()
        answer = await PostgresStore(pool).know(Question())
        yield findings.of_clock((before + now_ms()) // 2, answer.now_ms)


async def _fleet_of(pool: Pool) -> Fleet | None:
    with suppress(StoreRefused):  # there is no such table before `init`
        return await read_fleet(pool)
    return None


async def _token(settings: Settings, fleet: Fleet | None) -> Iterable[Finding]:
    try:
        token = await open_token(hsm_config(settings))
    except PinRefused as error:
        return [
            findings.fail("token", str(error), "correct hsm_pin_file before you try again: tokens lock after a few")
        ]
    except FleetKeyMissing as error:
        return [findings.fail("token", str(error), "keyriver init; or this is another token: hsm_label, hsm_serial")]
    except (TokenLacks, TokenUnavailable) as error:
        return [findings.fail("token", str(error), "hsm_module, hsm_label, hsm_serial")]
    try:
        if fleet is not None and fleet.signing_key != token.fleet_keys.signing_key:
            return [
                findings.fail(
                    "token", "its fleet keys are not this fleet's", "hsm_label, hsm_serial: name the fleet's token"
                )
            ]
        return [findings.ok("token", f"serial {token.serial}: logged in, all mechanisms tried, fleet keys found")]
    finally:
        await token.close()


async def _keystores(settings: Settings) -> list[Finding]:
    """Every endpoint of every credential, all at once."""
    try:
        async with outside(settings, PATIENCE_S) as opened:
            looks: list[tuple[KeystoreAddress, Opener]] = [
                (where, opened.https.open) for where in opened.https.places()
            ]
            looks += [(where, opened.tokens.open) for where in opened.tokens.places()]
            return await asyncio.gather(*(_looked(where, opener) for where, opener in looks))
    except KeystoreMisconfigured as error:
        return [findings.fail("keystores", str(error), "correct the setting named")]


async def _looked(where: KeystoreAddress, opener: Opener) -> Finding:
    try:
        store = opener(where)
        try:
            return findings.of_keystore(where, await store.look())
        finally:
            await store.close()
    except KeystoreFault as fault:
        return findings.of_keystore(where, fault)


def _show(found: list[Finding]) -> None:
    colours = {Grade.OK: "green", Grade.WARN: "yellow", Grade.FAIL: "red"}
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for finding in found:
        console.print(f"{finding.grade:4}", style=colours[finding.grade], end="  ")
        console.print(f"{finding.what}: {finding.seen}")
        if finding.cure:
            console.print(f"      → {finding.cure}")
    worst = sum(finding.grade is Grade.FAIL for finding in found)
    console.print(f"\n{worst} to mend" if worst else "\nall well")
