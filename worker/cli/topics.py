"""`keyriver topics`: what the fleet needs on the cluster; created, compared, or told as ACLs."""

from collections.abc import Iterator

from cyclopts import App

from worker.app import kafka_access
from worker.cli.config import load
from worker.cli.officer import Json
from worker.cli.output import say, show, show_json, show_table, working
from worker.edges.bus.admin import Difference, KafkaAdmin
from worker.model.topics import Lane, Topics, TopicSpec, Writer, specs
from worker.settings import Settings

topics = App(name="topics", help_format="markdown")


@topics.default
async def look(
    *,
    create: bool = False,
    acls: bool = False,
    worker: str = "User:keyriver-worker",
    caller: str = "User:keyriver-caller",
    json: Json = False,
) -> int:
    """Show the fleet's topics and what differs on the cluster (exit code 1 if anything does).

    ```
    keyriver topics                     # compare
    keyriver topics --create            # create what is missing
    keyriver topics --acls --worker User:CN=worker   # the least rights, as kafka-acls commands
    ```

    Args:
        create: Create missing topics. What is there is never changed.
        acls: Print the least ACLs instead; the cluster is not asked.
        worker: The principal of the workers.
        caller: The principal of a service or an officer; repeat the command for each.
    """
    settings = load(Settings)
    names = Topics(settings.topic_prefix)
    wanted = specs(names, settings.kafka_partitions)
    if acls:
        for line in least_acls(names, wanted, settings.kafka_bootstrap, worker, caller):
            show(line)
        return 0
    with working("asking Kafka"):
        async with KafkaAdmin(kafka_access(settings)) as admin:
            made = await admin.create(wanted, settings.kafka_replicas) if create else []
            differences = await admin.differences(wanted)
    for name in made:
        say(f"created {name}")
    _tell(wanted, differences, json=json)
    return 1 if differences else 0


def least_acls(names: Topics, wanted: tuple[TopicSpec, ...], bootstrap: str, worker: str, caller: str) -> Iterator[str]:
    """The least rights (S17): only workers write replies, intake, hints, audit; callers write requests."""

    def allow(principal: str, operations: str, resource: str) -> str:
        rights = " ".join(f"--operation {each}" for each in operations.split())
        return f"kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal '{principal}' {rights} {resource}"

    for spec in wanted:
        topic = f"--topic {spec.name}"
        if spec.is_request:
            yield allow(worker, "Read Describe", topic)
            yield allow(caller, "Write Describe", topic)
        if spec.writer is Writer.WORKERS:
            yield allow(worker, "Write Describe", topic)
    for name in (names.intake, names.hints, names.sequences):
        yield allow(worker, "Read Describe", f"--topic {name}")
    for lane in Lane:
        yield allow(worker, "Read Describe", f"--group {names.group(lane)}")
    for name in (names.replies, names.intake):
        yield allow(caller, "Read Describe", f"--topic {name}")


def _tell(wanted: tuple[TopicSpec, ...], differences: list[Difference], *, json: bool) -> None:
    found = {spec.name: [str(each) for each in differences if each.topic == spec.name] for spec in wanted}
    if json:
        show_json(
            [{"name": s.name, "partitions": s.partitions, "config": s.config, "differs": found[s.name]} for s in wanted]
        )
        return
    heads = ("TOPIC", "PARTITIONS", "KEPT", "WRITTEN BY", "STATE")
    show_table(
        heads, [(s.name, s.partitions, _kept(s), s.writer, "differs" if found[s.name] else "ok") for s in wanted]
    )
    for each in differences:
        say(str(each))
    if any(each.setting == "topic" for each in differences):
        say("  → keyriver topics --create")


def _kept(spec: TopicSpec) -> str:
    return spec.cleanup if spec.retention_ms is None else f"{spec.retention_ms // 3_600_000} h ({spec.cleanup})"
