"""`keyriver audit`: an auditor's commands. They write nothing and trust neither the store nor the audit topic.

With `doctor` the command that names concrete edges: an auditor does not ask the fleet how the fleet is.
"""

import json as text
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import UUID

from cyclopts import App, Parameter

from worker.cli import accepted, ocsf
from worker.cli.config import load
from worker.cli.errors import Refused, Usage
from worker.cli.officer import As, Json
from worker.cli.output import say, show, show_json, show_table, working
from worker.edges.bus.tail import Tail
from worker.edges.store.log import PostgresTrail, read_trail
from worker.edges.store.pool import PostgresSettings, connected
from worker.flow.auditing import Hearing, NoProof, Proof, Report, Verdict, prove, verify
from worker.model.audit import Checkpoint
from worker.model.topics import Topics
from worker.parts import kafka_access
from worker.seal import checkpoints
from worker.seal.errors import SealError
from worker.seal.lineage import Lineage, announcement
from worker.settings import Books

T = TypeVar("T")
PATIENCE_S = 3600.0
"""One statement may walk over a whole table."""
EVER = ("1970-01-01", "9999-12-31")
audit = App(
    name="audit", help="The audit log: is it whole, what does it say, and proofs of it.", help_format="markdown"
)
Tenant = Annotated[str, Parameter(help="Only this tenant's log.")]
FleetKey = Annotated[str, Parameter(help="FLEET:KEY, the key in base64, as you pinned it; else an identity file's.")]
CheckpointFile = Annotated[Path | None, Parameter(name="--checkpoint", help="A record of the audit topic.")]


@audit.command(name="verify")
async def verify_(
    *,
    tenant: Tenant = "",
    checkpoint: CheckpointFile = None,
    accepted_file: Path | None = None,
    offline: bool = False,
    fleet_key: FleetKey = "",
    signs: As = None,
    json: Json = False,
) -> int:
    """Recompute every log, and name each record that was altered, removed, inserted or moved. Exit code 1 if any was.

    The logs are held against the checkpoints that are stored, those that were published, and those that this command
    accepted before: it keeps the last one of each log, and refuses a fork, or a log that shrank.

    ```
    keyriver audit verify
    keyriver audit verify --tenant acme --checkpoint kept.json
    ```

    Args:
        accepted_file: Where accepted checkpoints are kept; else audit-accepted.json beside the identities' folder.
        offline: Don't read the audit topic.
    """
    books = load(Books)
    keys = Lineage(*accepted.pinned(fleet_key, signs, books.identities))
    await _follow(books, keys, offline=offline)
    kept = accepted.Accepted(accepted_file or books.identities.with_name("audit-accepted.json"), keys.fleet, keys)
    hearing = Hearing(keys.fleet, keys)
    for said in (*kept.read(), *([] if checkpoint is None else [_given(checkpoint, hearing)])):
        hearing.hear(said)
    with working("reading the checkpoints that were published"):
        if not offline:
            await _listen(books, hearing)
    with working("recomputing the logs"):
        report = await _reading(books, lambda trail: verify(trail, hearing, tenant))
    kept.write(report)
    _tell(report, hearing, json=json)
    return 0 if report.is_whole else 1


@audit.command
async def export(
    *,
    tenant: Tenant = "",
    since: Annotated[str, Parameter(name="--from", help="RFC 3339 with a zone, or a date (UTC).")] = "",
    until: Annotated[str, Parameter(name="--to", help="The same; what happened then is left out.")] = "",
) -> None:
    """Print the records as JSON Lines with the field names of OCSF (API Activity), each log in its own order.

    Security events have a `severity_id` of 3 (denied attempts) to 5 (a row failed its integrity check).

    ```
    keyriver audit export --tenant acme --from 2026-11-01 | jq 'select(.severity_id >= 3)'
    ```
    """
    begin, end = _moment("--from", since or EVER[0]), _moment("--to", until or EVER[1])

    async def work(trail: PostgresTrail) -> BrokenPipeError | None:
        try:
            for name in await trail.tenants(tenant):
                async for row in trail.rows(name):
                    at_us = begin if row.leaf is None else row.leaf.at_us
                    if begin <= at_us < end:
                        show(text.dumps(ocsf.event(row), separators=(",", ":")))
        except BrokenPipeError as closed:  # the reader's end, not the store's
            return closed
        return None

    closed = await _reading(load(Books), work)
    if closed is not None:
        raise closed


@audit.command(name="prove")
async def prove_(
    record: str,
    /,
    *,
    tenant: Tenant = "",
    checkpoint: CheckpointFile = None,
    fleet_key: FleetKey = "",
    signs: As = None,
) -> None:
    """Print the proof that a record stands in its tenant's log. Who gets it needs nothing of ours to check it.

    ```
    keyriver audit prove 019ab3c5-… > proof.json
    python schemas/audit/verify.py proof.json FLEET_KEY
    ```

    Args:
        record: A record's id, or the id of the request that it is about.
    """
    books = load(Books)
    keys = Lineage(*accepted.pinned(fleet_key, signs, books.identities))
    await _follow(books, keys, offline=True)
    hearing = Hearing(keys.fleet, keys)
    said = None if checkpoint is None else _given(checkpoint, hearing)

    async def work(trail: PostgresTrail) -> Proof:
        return await prove(trail, hearing, *await _found(trail, record, tenant), said)

    try:
        proof = await _reading(books, work)
    except NoProof as error:
        raise Refused(str(error)) from None
    show_json(_document(proof, keys))


async def _found(trail: PostgresTrail, record: str, tenant: str) -> tuple[str, int]:
    """The one record that is meant; several of one request are told by their ids. Raises `Refused`."""
    try:
        places = await trail.of_leaf(UUID(record))
    except ValueError:
        places = []
    named = f'"request":{text.dumps(record, ensure_ascii=False)},'.encode()
    places = places or await trail.of_text(named, tenant)
    if not places:
        raise Refused(f"no log has a record of {record}; one of the last second may still come")
    if len(places) > 1:
        rows = [row for place in places if (row := await trail.row(*place)) is not None]
        told = "".join(f"\n  {row.entry.leaf}" for row in rows)
        raise Refused(f"more than one record is about {record}; name one:{told}")
    return places[0]


def _document(proof: Proof, keys: Lineage) -> dict[str, object]:
    leaf = proof.leaf
    return {
        "format": "keyriver-proof/1",
        "leaf": {
            "tenant": leaf.tenant,
            "index": proof.index,
            "id": str(leaf.id),
            "at_us": leaf.at_us,
            "body": leaf.body.decode(),
        },
        "path": [accepted.base64(step) for step in proof.path],
        "checkpoint": text.loads(checkpoints.to_json(proof.checkpoint)),
        "fleet_key": accepted.base64(keys.pin),
        "rotations": [text.loads(each) for each in keys.links],
    }


async def _follow(books: Books, keys: Lineage, *, offline: bool) -> None:
    """The fleet's signing keys since the pinned one, and before it. Stored or announced, they prove themselves."""
    rows = await _reading(books, lambda trail: trail.rotations())
    told = [announcement(keys.fleet, row) for row in rows]
    if not offline:
        async with Tail(kafka_access(books), Topics(books.topic_prefix).intake) as tail:
            entries = await tail.catch_up()
        told += [entry.value or b"" for entry in entries if (entry.key or b"").startswith(b"fleet-key/")]
    for value in told:
        try:
            keys.accept(value)
        except SealError as error:
            say(f"a rotation of the fleet's signing key is not followed: {error}")


async def _listen(books: Books, hearing: Hearing) -> None:
    """Before the store is read: what was published by now is stored by then."""
    async with Tail(kafka_access(books), Topics(books.topic_prefix).audit) as tail:
        async for entries in tail.to_end():
            for entry in entries:
                hearing.read(entry.value)


def _given(path: Path, hearing: Hearing) -> Checkpoint:
    try:
        return checkpoints.parse(path.read_bytes(), hearing.fleet, hearing.fleet_key)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except SealError as error:
        raise Refused(f"{path}: {error}") from None


async def _reading(books: Books, work: Callable[[PostgresTrail], Awaitable[T]]) -> T:
    settings = PostgresSettings(
        books.postgres_dsn(),
        pool_size=1,
        statement_s=PATIENCE_S,
        idle_in_transaction_s=PATIENCE_S,
        answer_s=PATIENCE_S,
    )
    async with connected(settings) as pool:
        return await read_trail(pool, work)


def _moment(name: str, told: str) -> int:
    """Microseconds."""
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        raise Usage(f"{name}: not a time: {told}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _tell(report: Report, hearing: Hearing, *, json: bool) -> None:
    flaws = [flaw for verdict in report.verdicts for flaw in verdict.flaws]
    if json:
        show_json(
            {
                "whole": report.is_whole,
                "logs": [
                    {"tenant": one.tenant, "records": one.size, "accepted": one.accepted and one.accepted.size}
                    for one in report.verdicts
                ],
                "flaws": [asdict(flaw) for flaw in flaws],
                "strays": [asdict(stray) for stray in report.strays],
                "unread": hearing.unread,
            }
        )
        return
    show_table(("TENANT", "RECORDS", "ACCEPTED", "STATE"), [_line(one) for one in report.verdicts])
    if flaws:
        show("")
        rows = [(one.tenant, one.first, one.last, one.fault, one.leaf or "-", one.text) for one in flaws]
        show_table(("TENANT", "FIRST", "LAST", "FAULT", "RECORD", "WHAT"), rows)
    for stray in report.strays:
        where = f"{stray.tenant} {stray.leaf}" if stray.leaf else "a record that waited for its place"
        show(f"{stray.fault}: {where} (row {stray.number} of the leaves)")
    if hearing.unread:
        say(f"{hearing.unread} records of the audit topic are not the fleet's: somebody else can write it")


def _line(one: Verdict) -> tuple[object, ...]:
    more = f", and {one.more} more" if one.more else ""
    state = f"{len(one.flaws)} flaws{more}" if one.flaws else "whole"
    return one.tenant, one.size, one.accepted.size if one.accepted else "-", state
