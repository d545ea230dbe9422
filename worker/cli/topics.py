"""`keyriver topics`: what the fleet needs on the cluster; created, compared, or told as Kafka's own commands."""

from cyclopts import App

from worker.cli.config import load
from worker.cli.officer import Json
from worker.cli.output import say, show, show_json, show_table, working
from worker.edges.bus.admin import Difference, KafkaAdmin
from worker.edges.bus.render import Principals, acl_commands, topic_commands
from worker.model.topics import Topics, TopicSpec, specs
from worker.parts import kafka_access
from worker.settings import Settings

topics = App(name="topics", help_format="markdown")


@topics.default
async def look(
    *,
    create: bool = False,
    render: bool = False,
    acls: bool = False,
    workers: str = "User:keyriver",
    services: str = "User:service",
    officers: str = "User:officer",
    triggers: str = "User:trigger",
    json: Json = False,
) -> int:
    """Show the fleet's topics and what differs on the cluster (exit code 1 if anything does).

    ```
    keyriver topics                                     # compare
    keyriver topics --create                            # create what is missing
    keyriver topics --render --acls > for-the-admin.sh  # as Kafka's own commands: topics, and the least rights
    ```

    Args:
        create: Create missing topics. What is there is never changed.
        render: Print the commands that create them; the cluster is not asked.
        acls: Print the commands that grant the least rights; the cluster is not asked.
        workers: Who the workers are on the cluster.
        services: Who the services are; repeat the command for each.
        officers: Who the officers are.
        triggers: Who sends triggers.
    """
    settings = load(Settings)
    names = Topics(settings.topic_prefix)
    wanted = specs(names, settings.kafka_partitions)
    for line in topic_commands(wanted, settings.kafka_replicas) if render else ():
        show(line)
    for line in acl_commands(names, Principals(workers, services, officers, triggers)) if acls else ():
        show(line)
    if render or acls:
        return 0
    with working("asking Kafka"):
        async with KafkaAdmin(kafka_access(settings)) as admin:
            made = await admin.create(wanted, settings.kafka_replicas) if create else []
            differences = await admin.differences(wanted)
    for name in made:
        say(f"created {name}")
    _tell(wanted, differences, json=json)
    return 1 if differences else 0


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
