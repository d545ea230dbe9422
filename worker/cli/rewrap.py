"""`keyriver rewrap`: wrapped DEKs that the application keeps itself, moved to the current key version."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from worker.cli import census
from worker.cli.config import load
from worker.cli.errors import Usage
from worker.cli.officer import Json
from worker.cli.output import say, show, show_json, show_table, working
from worker.cli.pace import Bar, Ticker
from worker.client import KafkaTransport, KeyriverClient, Options, load_identity
from worker.client.files import Counts, Csv, FileJob, Format, JsonLines, Plan, Watcher, format_of
from worker.client.rewrap import Bulk
from worker.client.topic_job import TopicJob, TopicPlan
from worker.parts import kafka_access
from worker.seal.identity import Identity
from worker.settings import Reach

REJECTS = 4
"""The exit code when the output is complete but for records that were rejected."""
TIMEOUT_S = 60.0
Signs = Annotated[
    Path | None,
    Parameter(name="--as", env_var="KEYRIVER_IDENTITY", help="Identity file of a service that may rewrap."),
]


async def rewrap(
    *,
    in_: Annotated[str, Parameter(name="--in")],
    out: str = "",
    column: str = "blob",
    to: str | None = None,
    rejects: str = "",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    format_: Annotated[Literal["jsonl", "csv", "raw"] | None, Parameter(name="--format")] = None,
    delimiter: str = ",",
    in_flight: int = 8,
    stop_after: int = 1000,
    patience: float = 900,
    signs: Signs = None,
    json: Json = False,
) -> int:
    """Rewrap blobs that you keep yourself, in a file or a topic, to the current version of their keys or to --to.

    Files: JSON Lines (.jsonl) or CSV (.csv, .tsv) with a heading, plain or packed (.gz, .zst), the blobs in base64; all
    but the blobs stays byte for byte. They may be larger than memory. Killed at any moment, the same command goes on
    where it was: until OUT is complete there are OUT.part and OUT.checkpoint. Records that can't be rewrapped go to the
    rejects, each with its line, a code and its text.

    Topics (`topic:NAME`): values are JSON with a field of base64, or with `--format raw` blobs. What stands there when
    the job begins is rewrapped partition by partition; OUT and its rejects need as many partitions, and are written in
    transactions, so that the same command goes on where it was, and whoever reads committed records sees each once.

    ```
    keyriver rewrap --in deks.jsonl.gz --dry-run       # how much is under which version?
    keyriver rewrap --in deks.jsonl.gz --out new.jsonl.gz --as a.json
    keyriver rewrap --in deks.csv --column wrapped --out new.csv --as a.json
    keyriver rewrap --in topic:deks --out topic:deks2 --as a.json
    ```

    Exit codes: 0 all records are rewrapped, 4 done but there are rejects, 1 it could not go on (start it again).

    Args:
        in_: The file to read, or topic:NAME.
        out: The file to make (it gets its name when it is complete, and is packed as that says), or topic:NAME.
        column: The field, or the column, that holds the blob.
        to: Another key of the tenant (needs rewrap-from and rewrap-to); else each blob's own key.
        rejects: Where rejected records go; else OUT.rejects.jsonl, or the topic OUT.rejects.
        dry_run: Count the blobs by key and version. Nothing is sent and nothing is written.
        format_: If the name of the file doesn't tell.
        delimiter: Between the columns of a .csv.
        in_flight: Requests of at most 1,000 blobs under way.
        stop_after: So many rejects in a row have one cause: stop, and don't book them.
        patience: Seconds to go on trying while nothing is rewrapped.
    """
    if in_flight < 1 or stop_after < 1 or patience < 0:
        raise Usage("--in-flight and --stop-after are at least 1, --patience is not negative")
    bulk = Bulk(to=to, at_once=in_flight, patience_s=patience)
    wish = _Wish(in_, out, rejects, column, format_, delimiter, bulk, stop_after, signs, json)
    if _topic(in_) is not None:
        if dry_run:
            raise Usage("--dry-run: only of files")
        return await _topic_job(wish)
    return _census(wish) if dry_run else await _file_job(wish)


@dataclass(frozen=True, slots=True)
class _Wish:
    source: str
    out: str
    rejects: str
    column: str
    format: str | None
    delimiter: str
    bulk: Bulk
    stop_after: int
    signs: Path | None
    json: bool


async def _topic_job(wish: _Wish) -> int:
    source, out, rejects = (_topic(name) for name in (wish.source, wish.out, wish.rejects or f"{wish.out}.rejects"))
    if source is None or out is None or rejects is None:
        raise Usage("--in: a topic goes to a topic (--out topic:NAME, --rejects topic:NAME)")
    if wish.format == "csv":
        raise Usage("--format: the values of a topic are jsonl or raw")
    column = None if wish.format == "raw" else wish.column
    plan = TopicPlan(
        source=source, out=out, rejects=rejects, column=column, bulk=wish.bulk, most_in_a_row=wish.stop_after
    )
    return await _work(wish, rejects, lambda by: TopicJob(by.client, plan, by.kafka, by.watcher).run())


def _census(wish: _Wish) -> int:
    with working(f"counting {wish.source}"):
        counted = census.take(Path(wish.source), _form(wish))
    _show_census(counted, json=wish.json)
    return REJECTS if counted.faults else 0


async def _file_job(wish: _Wish) -> int:
    form, out = _form(wish), Path(wish.out)
    if not wish.out:
        raise Usage("--out: name the file to make (or --dry-run)")
    if _topic(wish.out) or _topic(wish.rejects) or type(format_of(out, wish.column) or form) is not type(form):
        raise Usage(f"--out: {out} is named for something else than the input, and it will be the same")
    rejects = Path(wish.rejects) if wish.rejects else out.with_name(f"{out.name}.rejects.jsonl")

    def job(by: _Means) -> Awaitable[Counts]:
        plan = Plan(
            source=Path(wish.source),
            out=out,
            rejects=rejects,
            form=form,
            fleet=by.identity.fleet,
            tenant=by.identity.tenant,
            bulk=wish.bulk,
            most_in_a_row=wish.stop_after,
        )
        return FileJob(by.client, plan, by.watcher).run()

    return await _work(wish, str(rejects), job)


@dataclass(frozen=True, slots=True)
class _Means:
    """What a job works with."""

    identity: Identity
    client: KeyriverClient
    kafka: Mapping[str, object]
    watcher: Watcher


async def _work(wish: _Wish, rejects: str, job: Callable[[_Means], Awaitable[Counts]]) -> int:
    """Connect, do it, and tell; the exit code."""
    if wish.signs is None:
        raise Usage("--as: name an identity file")
    identity, reach = load_identity(wish.signs), load(Reach)
    kafka = kafka_access(reach).options()
    options = Options(prefix=reach.topic_prefix, timeout_s=TIMEOUT_S)
    async with KeyriverClient(identity, KafkaTransport(kafka), options) as client:
        with Bar() if Bar.fits() else Ticker() as watcher:
            counts = await job(_Means(identity, client, kafka, watcher))
    _show(counts, wish, rejects)
    return REJECTS if counts.rejected else 0


def _topic(name: str) -> str | None:
    """The topic that `topic:NAME` names; None for a file."""
    return name.removeprefix("topic:") if name.startswith("topic:") else None


def _form(wish: _Wish) -> Format:
    delimiter, column, named = wish.delimiter, wish.column, wish.format
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise Usage("--delimiter: one ASCII character, not a quote and not a line end")
    if named == "raw":
        raise Usage("--format: only the values of a topic are raw blobs")
    found = format_of(Path(wish.source), column)
    if named == "jsonl" or (named is None and isinstance(found, JsonLines)):
        return JsonLines(column)
    if isinstance(found, Csv):
        return found if found.delimiter != "," else Csv(column, delimiter)
    if named is None:
        raise Usage(f"--format: the name of {wish.source} does not tell whether it is JSON Lines or CSV")
    return Csv(column, delimiter)


def _show(counts: Counts, wish: _Wish, rejects: str) -> None:
    if wish.json:
        show_json({**counts.model_dump(exclude={"copied"}), "out": wish.out, "rejects": rejects})
        return
    told = f"{counts.rewrapped:,} rewrapped, {counts.unchanged:,} were current, {counts.rejected:,} rejected"
    show(f"{wish.out}: {told}")
    if counts.rejected:
        say(f"rejected, with their codes: {rejects}")


def _show_census(counted: census.Census, *, json: bool) -> None:
    if json:
        rows = [{"key": str(key), "version": version, "blobs": many} for (key, version), many in counted.rows()]
        show_json({"versions": rows, "faults": dict(counted.faults), "first_fault": counted.first_fault})
        return
    show_table(("KEY", "VERSION", "BLOBS"), [(key, version, f"{many:,}") for (key, version), many in counted.rows()])
    for said, many in counted.faults.most_common():
        say(f"{many:,} × {said}")
    if counted.first_fault:
        say(f"the first of these in line {counted.first_fault:,}")
