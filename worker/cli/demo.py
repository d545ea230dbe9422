"""`keyriver demo`: a file of customer records through the river and back, with a worker killed on the way.

Then the customer is in control: rotation in use, the red button, and a proof of what was done.
"""

import asyncio
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from time import monotonic

from worker.cli import identities
from worker.cli.demo_blow import Blow
from worker.cli.demo_control import Control
from worker.cli.demo_figures import Clock, Figures, table
from worker.cli.demo_fleet import PROCESSES, Fleet, alone
from worker.cli.demo_orders import order, quietly
from worker.cli.demo_records import AT_ONCE, INSTANCES, decrypted, encrypted, instances, refusal
from worker.cli.demo_story import Story
from worker.cli.errors import Refused
from worker.edges.store.pool import connected
from worker.local import default_folder
from worker.local.demo import CUSTOMERS, Row, cut, joined, read, written
from worker.parts import postgres_settings
from worker.settings import Settings

KEY, CLIENT = "acme/eu/customers", "crm"
CHAIN = (
    "tenant create acme",
    "key create acme/eu",
    f"key create {KEY}",
    f"client add acme {CLIENT} --keys 'acme/eu/*' --allow wrap,unwrap,trigger",
)
FOLDER = "keyriver-demo"
"""Beside the checkout's own stack. It is removed at the end, so its name is nobody else's."""
SHOWN = 70
"""Characters of a record that are shown."""


def demo() -> int:
    """Encrypt a file of customer records with a key for each record, kill a worker meanwhile, read the file back.

    It brings a Kafka, a Postgres and a SoftHSM2 token of its own and removes them at its end; another stack is not
    touched. Exit code 0 only if what comes back is byte for byte what went in, the red button stops it and the proof
    holds.
    """
    story, begun = Story(), monotonic()
    story.say(
        "Customer records, each encrypted with a key of its own; and a worker is killed.\n"
        "Then the key is rotated, cut off and brought back, and what was done is proved.\nCtrl-C ends it at any time."
    )
    try:
        with alone(default_folder() / FOLDER) as fleet:
            try:
                _build(fleet, story)
                same = asyncio.run(_play(fleet, story))
            except Exception:
                story.say(fleet.last_words(), "dim")
                raise
    except KeyboardInterrupt:
        story.say("Interrupted: nothing of the demo is left, neither a process nor data.")
        raise
    story.say(f"{monotonic() - begun:.0f} s in all. Nothing of the demo is left, neither a process nor data.")
    return 0 if same else 1


def _build(fleet: Fleet, story: Story) -> None:
    story.step("Kafka, Postgres and a SoftHSM2 token, for this demo alone")
    with story.working("starting them"):
        fleet.raise_stack()
    story.step("A fleet: its schema, topics, signing keys and two officers; then two workers")
    story.typed("keyriver init ann bob")
    with story.working("founding it"):
        _init()
    story.typed(f"keyriver run --processes {PROCESSES}")
    with story.working("waiting until both workers serve"):
        fleet.run()


def _init() -> None:
    """In a process of its own, so that this one never loads the token's module."""
    command = [sys.executable, "-m", "worker", "init", "ann", "bob"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"keyriver init failed: {done.stderr.strip()}")


async def _play(fleet: Fleet, story: Story) -> bool:
    await _make_chain(story)
    plain = CUSTOMERS.read_bytes()
    rows = cut(plain)
    file = fleet.stack.folder / "customers.enc"
    there = await _encrypt(fleet, story, rows, file)
    back, again = await _read_back(fleet, story, file)
    story.table(("", there.name, again.name), table((there, again)))
    story.say("Counted by the workers; what the killed one had not finished counts twice.")
    whole = await _judge(story, plain, back, len(rows))
    sealed = list(read(await asyncio.to_thread(file.read_bytes)))
    return await Control(story, fleet.stack.kafka.bootstrap, _identity(), KEY).play(rows, sealed) and whole


async def _make_chain(story: Story) -> None:
    story.step("A customer's chain of keys: an officer signs commands, workers carry them out")
    for line in CHAIN:
        await quietly(story, line)
    await order(story, "key tree acme")
    story.tell("L1 never leaves the token. L2 and L3 stand in Postgres, wrapped by the key above.")


async def _encrypt(fleet: Fleet, story: Story, rows: list[Row], file: Path) -> Figures:
    story.step(f"Encrypt {len(rows):,} customer records, each with a data key of its own")
    story.tell(f"{INSTANCES} instances of an application, {AT_ONCE} records at a time each, send signed requests to")
    story.tell("Kafka. The token makes the keys; they are stored wrapped, and come back sealed to")
    story.tell("the application, which encrypts with them.")
    clock = Clock(fleet)
    with story.progress("encrypted", len(rows)) as advance:
        blow = Blow(fleet, story, len(rows) // 2)

        def done() -> None:
            advance()
            blow.one_more()

        async with instances(_identity(), fleet.stack.kafka.bootstrap, KEY) as envelopes:
            sealed = await encrypted(envelopes, rows, done)
    await blow.tell()
    await asyncio.to_thread(file.write_bytes, written(sealed))
    story.tell(f"in   {rows[1].data.decode()[:SHOWN]}…")
    story.tell(f"out  {written(sealed[1:2]).decode()[:SHOWN]}…")
    return clock.figures("encrypt", len(rows))


async def _read_back(fleet: Fleet, story: Story, file: Path) -> tuple[bytes, Figures]:
    story.step("Read it back: new instances, which remember nothing, ask for every key")
    sealed = list(read(await asyncio.to_thread(file.read_bytes)))
    clock = Clock(fleet)
    async with instances(_identity(), fleet.stack.kafka.bootstrap, KEY) as envelopes:
        with story.progress("decrypted", len(sealed)) as advance:
            rows = await decrypted(envelopes, sealed, advance)
        figures = clock.figures("read back", len(rows))
        swapped = Row(sealed[1].name, sealed[2].data)
        story.tell(f"{sealed[2].name}'s envelope in {swapped.name}'s place: {await refusal(envelopes[0], swapped)}")
    return joined(rows), figures


async def _judge(story: Story, plain: bytes, back: bytes, records: int) -> bool:
    story.step("Is it the same?")
    async with connected(postgres_settings(Settings())) as pool:
        stored = await pool.run(lambda connection: connection.fetchval("SELECT count(*) FROM keyriver.deks"))
    same, once = plain == back, stored == records
    story.tell(f"data keys in Postgres: {stored:,}: {'none lost, none doubled' if once else f'NOT {records:,}'}")
    story.tell(f"went in    SHA-256 {sha256(plain).hexdigest()}")
    story.tell(f"came back  SHA-256 {sha256(back).hexdigest()}")
    story.tell("Byte for byte the same." if same else "NOT THE SAME.", "bold green" if same else "bold red")
    return same and once


def _identity() -> Path:
    return identities.path_of(Settings().identities, CLIENT)
