"""What probes learned is written down once (S13), also when the row moved meanwhile or the key does."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.unit.chain.outer import ADDRESS, LINK
from worker.edges.hsm.fake import FakeToken
from worker.flow.contact import Contact, Contacts
from worker.flow.linknews import LinkNews
from worker.flow.trust import Trust
from worker.model.effects import Moved, PutRow, Settled, Settlement, Settling
from worker.model.facts import Answer, Question, StoredRow
from worker.model.rows import Link
from worker.seal.rowmac import mac_input


@dataclass
class OneLink:
    """A store with one row; `moves` makes the next settlement come too late, `meanwhile` sees another version."""

    token: FakeToken = field(default_factory=FakeToken)
    row: Link = LINK
    moves: int = 0
    contact: Contact | None = None
    meanwhile: str = ""

    async def know(self, _question: Question) -> Answer:
        (mac,) = await self.token.fleet_keys.mac([mac_input(self.row)])
        return Answer(0, {}, (StoredRow(self.row, mac.version, mac.value),), {})

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settling]:
        if self.contact is not None and self.meanwhile:
            self.contact.saw(self.meanwhile)
            self.meanwhile = ""
        if self.moves:
            self.moves -= 1
            self.row = replace(self.row, revision=self.row.revision + 1)
            return [Moved() for _ in settlements]
        (row,) = [effect.row for effect in settlements[0].effects if isinstance(effect, PutRow)]
        assert isinstance(row, Link)
        self.row = row
        return [Settled()]


def news(store: OneLink) -> tuple[LinkNews, Contact]:
    contacts = Contacts(60.0)
    contact = store.contact = contacts.of(LINK.id, ADDRESS, 0.0)
    contact.saw("8")
    keys = store.token.fleet_keys
    return LinkNews(contacts, store, Trust(keys), keys), contact


async def test_another_version_is_written_down_once() -> None:
    store = OneLink()
    duty, contact = news(store)
    assert [await duty.turn() for _ in range(2)] == [1, 0]
    assert (store.row.external_version, contact.is_news) == ("8", False)
    contact.saw("8")
    assert await duty.turn() == 0


async def test_a_row_that_moved_meanwhile_is_looked_at_again() -> None:
    store = OneLink(moves=1)
    duty, _ = news(store)
    assert [await duty.turn() for _ in range(3)] == [0, 1, 0]
    assert store.row.external_version == "8"


async def test_what_is_seen_while_the_last_is_written_down_is_not_forgotten() -> None:
    store = OneLink(meanwhile="9")
    duty, _ = news(store)
    assert [await duty.turn() for _ in range(3)] == [1, 1, 0]
    assert store.row.external_version == "9"


async def test_a_row_that_is_not_believed_is_left_alone() -> None:
    store = OneLink()
    duty, _ = news(store)

    async def forged(_question: Question) -> Answer:
        return Answer(0, {}, (StoredRow(store.row, 1, bytes(32)),), {})

    store.know = forged  # type: ignore[method-assign]
    assert await duty.turn() == 0
    assert store.row.external_version == LINK.external_version
