"""The clients as last seen, so that a signature can be checked before anything is read.

`decide` compares the revision with the row as it is now, and `open` reads it again when a signature does not hold.
"""

from collections.abc import Mapping

from cachetools import LRUCache

from worker.flow.trust import Trust
from worker.model.facts import Question
from worker.model.rows import Client
from worker.ports import Store

REMEMBERED = 10_000


class Clients:
    """A bounded memory of client rows."""

    def __init__(self, store: Store, trust: Trust) -> None:
        self._store = store
        self._trust = trust
        self._rows: LRUCache[str, Client] = LRUCache(REMEMBERED)

    async def clients(self, ids: frozenset[str], *, fresh: bool) -> Mapping[str, Client]:
        """The rows of these clients, missing ones left out; a row whose MAC does not hold counts as missing."""
        wanted = ids if fresh else frozenset(name for name in ids if name not in self._rows)
        if wanted:
            facts = await self._trust.verified(await self._store.know(Question(clients=wanted)))
            for name in wanted - facts.clients.keys():
                self._rows.pop(name, None)
            self._rows.update(facts.clients)
        return self.remembered(ids)

    def remembered(self, ids: frozenset[str]) -> Mapping[str, Client]:
        """Those among them that were verified before, without asking anybody."""
        return {name: self._rows[name] for name in ids if name in self._rows}

    def forget(self, name: str) -> None:
        """Read this client's row again next time."""
        self._rows.pop(name, None)
