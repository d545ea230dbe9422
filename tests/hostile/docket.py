"""Books every hostile record that a test sends, and finds out afterwards what became of each.

One was answered with a code, or stands in its dead-letter topic with its bytes and its origin, or was beyond the rate
of dead letters, and then the log has its coordinates. A fourth fate there must not be.
"""

import re
from dataclasses import dataclass, field

from tests.fleet import Fleet
from tests.scribe import Draft, Scribe
from worker.edges.bus.lenient import MAX_HEADERS
from worker.model.records import Entry, Outgoing
from worker.model.topics import Lane, dead_letter_topic

Place = tuple[str, int, int]
NOTED = re.compile(r"(\S+)/(\d+)@(\d+): beyond the rate, not dead-lettered: (\w+)")
COUNTED = ("tenants", "keys", "versions", "aliases", "clients", "deks", "approvals", "ledger")


@dataclass
class Docket:
    """See the module. `scribe` reads the answers."""

    fleet: Fleet
    scribe: Scribe
    _dead: dict[Place, tuple[str, str, Outgoing]] = field(default_factory=dict)
    _asked: dict[str, tuple[str, str]] = field(default_factory=dict)

    async def bury(self, what: str, code: str, record: Outgoing) -> None:
        """Send a record that must end as a dead letter with this code."""
        partition, offset = await self.fleet.send(record)
        self._dead[record.topic, partition, offset] = (what, code, record)

    async def refuse(self, what: str, code: str, draft: Draft, record: Outgoing | None = None) -> None:
        """Send a request that must be answered with this code, as a whole or for each of its items."""
        self._asked[draft.id] = (what, code)
        self.scribe.expect(draft)
        await self.fleet.send(record or draft.record())

    async def closed(self) -> None:
        """Everything sent so far was finished, and had the fate that it was booked for and no other."""
        await self.fleet.caught_up([Lane.CONTROL, Lane.INTERACTIVE, Lane.BULK])
        fates = await self.fates({topic for topic, _, _ in self._dead})
        wrong = {
            what: (fates.get(place), code) for place, (what, code, _) in self._dead.items() if fates.get(place) != code
        }
        assert not wrong, f"dead letters that are not as they should be (found, wanted): {wrong}"
        told = {what: (await self._told(asked), code) for asked, (what, code) in self._asked.items()}
        assert {what: found for what, (found, _) in told.items()} == {what: {code} for what, (_, code) in told.items()}
        await self._unanswered()

    async def fates(self, topics: set[str]) -> dict[Place, str]:
        """The code of every dead letter of these topics by its origin, published (with its bytes) or noted."""
        fates: dict[Place, str] = {}
        for member in self.fleet.members:
            for topic, partition, offset, code in NOTED.findall(member.log):
                fates[topic, int(partition), int(offset)] = code
        if topics:
            async with self.fleet.tap(*map(dead_letter_topic, topics)) as graves:
                for letter in await graves.to_end():
                    fates[origin_of(letter)] = dict(letter.headers)["keyriver-dlq-code"].decode()
                    self._check_bytes(letter)
        return fates

    def _check_bytes(self, letter: Entry) -> None:
        booked = self._dead.get(origin_of(letter))
        if booked is not None:
            what, _, record = booked
            assert (letter.key, letter.value or b"") == (record.key, record.value or b""), what
            count = len(record.headers)
            wanted = record.headers if count <= MAX_HEADERS else (("keyriver-headers-left-out", str(count).encode()),)
            assert letter.headers[: len(wanted)] == wanted, what

    async def _told(self, request_id: str) -> set[str]:
        answers = await self.scribe.so_far(request_id)
        return {code for answer in answers for code in ([answer.code] if answer.code else answer.codes)}

    async def _unanswered(self) -> None:
        """No dead record's id is answered anywhere, unless an honest request had it first."""
        ids = {dict(record.headers).get("ce_id") for _, _, record in self._dead.values()} - {None}
        async with self.fleet.tap(self.fleet.topics.replies) as replies:
            answered = {dict(entry.headers).get("ce_id") for entry in await replies.to_end()}
        assert not ids & answered - {request_id.encode() for request_id in self.scribe._sent}


def origin_of(letter: Entry) -> Place:
    """Where a dead letter came from."""
    told = dict(letter.headers)
    number, offset = told["keyriver-dlq-origin-partition"], told["keyriver-dlq-origin-offset"]
    return told["keyriver-dlq-origin-topic"].decode(), int(number), int(offset)


async def rows(fleet: Fleet) -> dict[str, int]:
    """How many rows there are of everything that a request can make."""
    return {table: await fleet.pool.fetchval(f"SELECT count(*) FROM keyriver.{table}") for table in COUNTED}  # noqa: S608
