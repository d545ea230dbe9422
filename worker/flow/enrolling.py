"""The first officers of a fleet (S14): made by `keyriver init`, for nobody is there yet who could approve them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.flow.authentic import authentic_rows
from worker.flow.trust import Trust
from worker.model.effects import Settled, Settlement
from worker.model.facts import Paging, Question
from worker.model.rows import FLEET_TENANT, Algorithm, Client, Role, Suite
from worker.ports import FleetKeys, Store, StoreUnavailable
from worker.seal.hpke import generate_keypair
from worker.seal.identity import Identity, generate_private_key_pem

MANY = 100
OFFICERS = 2
"""At least so many: one alone could approve himself."""
FOR_EVER_MS = 253_402_300_799_000
"""The end of the year 9999: an officer's enrolment ends by revocation."""


@dataclass(frozen=True, slots=True)
class Enrolling:
    """Makes identities and registers them."""

    fleet: str
    reply_topic: str
    store: Store
    fleet_keys: FleetKeys
    keep: Callable[[Identity], None]
    """Stores an identity for good. Called before the row is written: an officer without his key is lost."""

    async def enrol(self, names: Sequence[str]) -> list[Identity]:
        """Register those that are not there yet; their private keys went to `keep` and nowhere else."""
        if len(set(names)) < OFFICERS:
            raise ValueError("a fleet needs at least two officers with different names")
        there = Paging(FLEET_TENANT, "", MANY)
        question = Question(clients=frozenset(names), client_pages=frozenset({there}))
        facts = await Trust(self.fleet_keys).verified(await self.store.know(question))
        taken = {name for name in names if name in facts.clients}
        foreign = [name for name in taken if facts.clients[name].role is not Role.OFFICER]
        if foreign:
            raise ValueError(f"{foreign[0]} is a client's name already")
        new = [name for name in dict.fromkeys(names) if name not in taken]
        if new and len(facts.client_pages[there]) >= OFFICERS:
            raise ValueError(f"{new[0]}: the fleet has its officers; one person's word makes no other (S14)")
        return [await self._enrol(name) for name in new]

    async def _enrol(self, name: str) -> Identity:
        identity = Identity(
            client=name,
            tenant=FLEET_TENANT,
            fleet=self.fleet,
            fleet_key=self.fleet_keys.signing_key,
            algorithm=Algorithm.ED25519,
            private_key=generate_private_key_pem(Algorithm.ED25519),
            recipient=generate_keypair(Suite.X25519),
            reply_topic=self.reply_topic,
        )
        row = _row(identity, self.reply_topic)
        (effects,) = await authentic_rows(self.fleet_keys, [row])
        settlement = Settlement(None, None, (), (), effects)
        self.keep(identity)
        (done,) = await self.store.settle([settlement])
        if not isinstance(done, Settled):
            raise StoreUnavailable(f"{name} was enrolled by somebody else at this moment; run init again")
        return identity


def _row(identity: Identity, reply_topic: str) -> Client:
    return Client(
        id=identity.client,
        tenant=FLEET_TENANT,
        role=Role.OFFICER,
        algorithm=identity.algorithm,
        public_key=identity.signer().public_key,
        permissions=(),
        pattern="",
        reply_topics=(reply_topic,),
        recipient_suite=identity.recipient.suite,
        recipient_key=identity.recipient.public,
        not_after_ms=FOR_EVER_MS,
        revoked=False,
        enrolled_by="init",
        revision=1,
    )
