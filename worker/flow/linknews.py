"""The duty that writes down what probes learned of customers' keys: a new version outside is an event, too."""

from dataclasses import dataclass, replace

from worker.chain.link_news import noticed
from worker.flow.contact import Contacts
from worker.flow.trust import Trust
from worker.model.effects import PutRow, Settled, Settlement
from worker.model.facts import Question
from worker.model.rows import Link, RowRef, Table
from worker.ports import FleetKeys, Store
from worker.seal.rowmac import mac_input


@dataclass(frozen=True, slots=True)
class LinkNews:
    """Tells each change that this process saw once; several processes that saw it settle it once."""

    contacts: Contacts
    store: Store
    trust: Trust
    fleet_keys: FleetKeys

    async def turn(self) -> int:
        """How many changes were written down."""
        news = {RowRef(Table.LINKS, str(contact.link)): contact for contact in self.contacts.news()}
        if not news:
            return 0
        facts = await self.trust.verified(await self.store.know(Question(refs=frozenset(news))))
        told = 0
        for ref, contact in news.items():
            link, version = facts.rows.get(ref), contact.version
            settlement = noticed(facts, link, version) if isinstance(link, Link) else None
            if settlement is not None:
                (done,) = await self.store.settle([await self._authenticated(settlement)])
                if not isinstance(done, Settled):
                    continue  # the row has moved: at the next turn it is looked at again
                told += 1
            contact.is_news = contact.version != version
        return told

    async def _authenticated(self, settlement: Settlement) -> Settlement:
        """Its row with its MAC (S7)."""
        rows = [effect.row for effect in settlement.effects if isinstance(effect, PutRow)]
        macs = await self.fleet_keys.mac([mac_input(row) for row in rows])
        puts = [PutRow(row, mac.version, mac.value) for row, mac in zip(rows, macs, strict=True)]
        others = [effect for effect in settlement.effects if not isinstance(effect, PutRow)]
        return replace(settlement, effects=(*puts, *others))
