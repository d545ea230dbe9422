"""The demo's second half, the customer in control: rotation in use, the red button, and a proof of what was done."""

import asyncio
import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

from worker.cli import identities
from worker.cli.demo_campaign import SPEED, campaign, certified, only_when_empty
from worker.cli.demo_orders import order, printed, quietly
from worker.cli.demo_records import decrypted, encrypted, instances, refusal
from worker.cli.demo_story import Story
from worker.cli.errors import Refused
from worker.local.demo import Row
from worker.settings import Settings

VERIFIER = Path(__file__).parents[2] / "schemas" / "audit" / "verify.py"
WHY = "an intruder"
READS = 400
"""Records that are read while the key is rotated."""
PROVED_S = 10.0
"""So long the demo waits for a record's checkpoint; a second is usual."""


class Control:
    """The scenes. Each says whether it came out as it should."""

    def __init__(self, story: Story, bootstrap: str, service: Path, key: str) -> None:
        self._story = story
        self._reach = service, bootstrap, key
        self._key = key
        self._tenant, self._above = key.partition("/")[0], key.rpartition("/")[0]

    async def play(self, rows: list[Row], sealed: list[Row]) -> bool:
        """All scenes, on these records."""
        return all(
            [
                await self._rotated(rows[:READS], sealed[:READS]),
                await self._moved(rows[:READS], sealed[:READS], len(sealed)),
                await self._stopped(sealed[1]),
                await self._back(rows[1], sealed[1]),
                await self._proved(),
            ]
        )

    async def _rotated(self, rows: list[Row], sealed: list[Row]) -> bool:
        story = self._story
        story.step("An event from outside rotates the key while it is in use")
        rule = f"leavers --on member-left --keys '{self._tenant}/*' --items-per-second {SPEED}"
        await quietly(story, f"trigger add {self._tenant} {rule}")
        async with instances(*self._reach) as envelopes:
            with story.progress("decrypted meanwhile", len(sealed)) as advance:
                reading = asyncio.create_task(decrypted(envelopes, sealed, advance))
                await order(story, f"trigger send member-left {self._key} --why 'HR 4711' --as {self._reach[0]}")
                back = await reading
            (fresh,) = await encrypted(envelopes, rows[:1], lambda: None)
            again = await decrypted(envelopes, [fresh, sealed[0]], lambda: None)
        same = back == rows and again == [rows[0], rows[0]]
        return self._says(
            same, f"{len(back)} reads, none refused. Old records still read, new ones are under version 2."
        )

    async def _moved(self, rows: list[Row], sealed: list[Row], records: int) -> bool:
        story = self._story
        story.step(f"Move all {records:,} keys to version 2, and only then destroy version 1")
        kept = await only_when_empty(story, self._key, empty=False)
        async with instances(*self._reach) as envelopes:
            reading = asyncio.create_task(decrypted(envelopes, sealed, lambda: None))
            done = await campaign(story, self._tenant)
            back = await reading
        empty = certified(story, done)
        gone = await only_when_empty(story, self._key, empty=True)
        good = kept and empty and gone and back == rows
        return self._says(
            good, f"{done.moved:,} moved; {len(back)} reads meanwhile, none refused. Version 1 goes after its grace."
        )

    async def _stopped(self, sealed: Row) -> bool:
        story = self._story
        story.step("The red button: first what would stop, then press it")
        await order(story, f"key disable {self._above} --dry-run")
        await order(story, f"key disable {self._above} --why '{WHY}'")
        async with instances(*self._reach) as envelopes:
            said = await refusal(envelopes[0], sealed)
        return self._says(said == "KEY_DISABLED", f"Read a record: {said or 'it can still be read'}")

    async def _back(self, row: Row, sealed: Row) -> bool:
        story = self._story
        story.step("Bring it back: that takes two officers")
        revision = json.loads(await printed(f"key show {self._above} --json"))["disabled_revision"]
        await order(story, f"key enable {self._above} --revision {revision}")
        async with instances(*self._reach) as envelopes:
            (back,) = await decrypted(envelopes, [sealed], lambda: None)
        return self._says(back == row, f"Read the record again: {back.data.decode()[:60]}…")

    async def _proved(self) -> bool:
        story, folder = self._story, Settings().identities
        pinned = b64encode(identities.officer(None, folder).fleet_key).decode()
        story.step("Proof, for an auditor who trusts none of us")
        record = await self._record_of("keyriver.key.disable.v1")
        story.typed(f"keyriver audit prove {record} > proof.json")
        proof, text = folder.with_name("proof.json"), await _proof(record)
        await asyncio.to_thread(proof.write_text, text)
        story.typed("python schemas/audit/verify.py proof.json FLEET_KEY")
        code, said = await asyncio.to_thread(_verified, proof, pinned)
        good = self._says(code == 0, _about(said) if code == 0 else said)
        await asyncio.to_thread(proof.write_text, text.replace(WHY, "a rehearsal"))
        story.tell("The same proof, with one word of the record changed:")
        code, said = await asyncio.to_thread(_verified, proof, pinned)
        return self._says(code != 0, said.splitlines()[-1]) and good

    async def _record_of(self, type_: str) -> str:
        """The newest record of such a request in the tenant's log."""
        for _ in range(round(PROVED_S / 0.2)):
            lines = (await printed(f"audit export --tenant {self._tenant}")).splitlines()
            found = [line for line in map(json.loads, lines) if line["api"]["operation"] == type_]
            if found:
                return str(found[-1]["metadata"]["uid"])
            await asyncio.sleep(0.2)
        raise Refused(f"the log of {self._tenant} has no record of {type_}")

    def _says(self, good: bool, text: str) -> bool:
        self._story.tell(text, "bold green" if good else "bold red")
        return good


async def _proof(record: str) -> str:
    """The proof, once a checkpoint covers the record."""
    for _ in range(round(PROVED_S / 0.2)):
        try:
            return await printed(f"audit prove {record}")
        except Refused:
            await asyncio.sleep(0.2)
    return await printed(f"audit prove {record}")


def _verified(proof: Path, pinned: str) -> tuple[int, str]:
    """Exit code and words of the stand-alone verifier."""
    command = [sys.executable, str(VERIFIER), str(proof), pinned]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout or done.stderr).strip()


def _about(said: str) -> str:
    leaf = json.loads(said)
    body = json.loads(leaf["body"])
    return f"record {leaf['index']} of {leaf['tenant']}: {body['client']} sent {body['type']}. The signed log has it."
