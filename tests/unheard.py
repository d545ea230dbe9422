"""What the fleet must not hear: a record that ends as a dead letter, and is never answered."""

from tests.fleet import Fleet
from tests.scribe import Scribe
from worker.model.records import Entry, Outgoing
from worker.model.topics import dead_letter_topic


async def is_dead_lettered(fleet: Fleet, scribe: Scribe, record: Outgoing, code: str) -> None:
    """The record goes to its dead-letter topic with its bytes, its headers and this code; its id is never answered."""
    partition, offset = await fleet.send(record)

    def origin(entry: Entry) -> tuple[bytes, bytes]:
        headers = dict(entry.headers)
        return headers["keyriver-dlq-origin-partition"], headers["keyriver-dlq-origin-offset"]

    place = (str(partition).encode(), str(offset).encode())
    async with fleet.tap(dead_letter_topic(record.topic)) as graves:
        entries = await graves.until(lambda read: place in map(origin, read), f"{record.topic}: a dead letter")
    (letter,) = [entry for entry in entries if origin(entry) == place]
    assert dict(letter.headers)["keyriver-dlq-code"] == code.encode()
    assert letter.headers[: len(record.headers)] == record.headers
    assert (letter.key, letter.value) == (record.key, record.value or b"")
    await fleet.caught_up()
    asked = dict(record.headers).get("ce_id", b"").decode()
    assert not await scribe.so_far(asked)
