"""`keyriver rewrap`: a file of wrapped DEKs that the application keeps itself, moved to the current key version."""

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
from worker.client.files import Counts, Csv, FileJob, Format, JsonLines, Plan, format_of
from worker.client.rewrap import Bulk
from worker.parts import kafka_access
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
    in_: Annotated[Path, Parameter(name="--in")],
    out: Path | None = None,
    column: str = "blob",
    to: str | None = None,
    rejects: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    format_: Annotated[Literal["jsonl", "csv"] | None, Parameter(name="--format")] = None,
    delimiter: str = ",",
    in_flight: int = 8,
    stop_after: int = 1000,
    patience: float = 900,
    signs: Signs = None,
    json: Json = False,
) -> int:
    """Rewrap a file of blobs (base64) to the current version of their keys, or to the key --to.

    JSON Lines (.jsonl) or CSV (.csv, .tsv) with a heading, plain or packed (.gz, .zst); all but the blobs stays byte
    for byte. The file may be larger than memory. Killed at any moment, the same command goes on where it was: until
    OUT is complete there are OUT.part and OUT.checkpoint. Records that can't be rewrapped go to the rejects, each with
    its line, a code and its text.

    ```
    keyriver rewrap --in deks.jsonl.gz --dry-run       # how much is under which version?
    keyriver rewrap --in deks.jsonl.gz --out new.jsonl.gz --as a.json
    keyriver rewrap --in deks.csv --column wrapped --out new.csv --as a.json
    ```

    Exit codes: 0 all records are rewrapped, 4 done but there are rejects, 1 it could not go on (start it again).

    Args:
        in_: The file to read.
        out: The file to make; it gets its name when it is complete. Packed as its own name says.
        column: The field, or the column, that holds the blob.
        to: Another key of the tenant (needs rewrap-from and rewrap-to); else each blob's own key.
        rejects: Where rejected records go; else OUT.rejects.jsonl.
        dry_run: Count the blobs by key and version. Nothing is sent and nothing is written.
        format_: If the name of the file doesn't tell.
        delimiter: Between the columns of a .csv.
        in_flight: Requests of at most 1,000 blobs under way.
        stop_after: So many rejects in a row have one cause: stop, and don't book them.
        patience: Seconds to go on trying while nothing is rewrapped.
    """
    form = _form(in_, column, format_, delimiter)
    if dry_run:
        with working(f"counting {in_}"):
            counted = census.take(in_, form)
        _show_census(counted, json=json)
        return REJECTS if counted.faults else 0
    if out is None or signs is None:
        raise Usage("--out: name the file to make (or --dry-run)" if out is None else "--as: name an identity file")
    if in_flight < 1 or stop_after < 1 or patience < 0:
        raise Usage("--in-flight and --stop-after are at least 1, --patience is not negative")
    if type(format_of(out, column) or form) is not type(form):
        raise Usage(f"--out: {out} is named for another format than the input has, and it will have the same")
    reach, identity = load(Reach), load_identity(signs)
    plan = Plan(
        source=in_,
        out=out,
        rejects=rejects or out.with_name(f"{out.name}.rejects.jsonl"),
        form=form,
        fleet=identity.fleet,
        tenant=identity.tenant,
        bulk=Bulk(to=to, at_once=in_flight, patience_s=patience),
        most_in_a_row=stop_after,
    )
    options = Options(prefix=reach.topic_prefix, timeout_s=TIMEOUT_S)
    async with KeyriverClient(identity, KafkaTransport(kafka_access(reach).options()), options) as client:
        with Bar() if Bar.fits() else Ticker() as watcher:
            counts = await FileJob(client, plan, watcher).run()
    _show(counts, plan, json=json)
    return REJECTS if counts.rejected else 0


def _form(path: Path, column: str, named: str | None, delimiter: str) -> Format:
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise Usage("--delimiter: one ASCII character, not a quote and not a line end")
    found = format_of(path, column)
    if named == "jsonl" or (named is None and isinstance(found, JsonLines)):
        return JsonLines(column)
    if isinstance(found, Csv):
        return found if found.delimiter != "," else Csv(column, delimiter)
    if named is None:
        raise Usage(f"--format: the name of {path} does not tell whether it is JSON Lines or CSV")
    return Csv(column, delimiter)


def _show(counts: Counts, plan: Plan, *, json: bool) -> None:
    if json:
        show_json({**counts.model_dump(exclude={"copied"}), "out": str(plan.out), "rejects": str(plan.rejects)})
        return
    show(f"{plan.out}: {counts.rewrapped:,} rewrapped, {counts.unchanged:,} were current, {counts.rejected:,} rejected")
    if counts.rejected:
        say(f"rejected, with line and code: {plan.rejects}")


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
