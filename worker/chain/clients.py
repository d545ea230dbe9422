"""Commands on the registry of signers: add, rotate, revoke, list."""

from dataclasses import replace

from worker.chain import policy
from worker.chain.listed import next_after, unbelieved
from worker.chain.plan import Case
from worker.chain.views import client_view
from worker.chain.work import Commanding, Step
from worker.model.bodies import ClientAddBody, ClientListBody, ClientRevokeBody, ClientRotateBody
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Paging
from worker.model.outcomes import Commanded
from worker.model.replies import ClientListResult, ClientResult
from worker.model.rows import FLEET_TENANT, Algorithm, Client, Role, RowRef, Suite, Table
from worker.seal import hpke, signatures
from worker.seal.errors import BadKey

OFFICERS = 2
"""At least so many: one alone could approve himself (S14)."""
ALL_OFFICERS = Paging(FLEET_TENANT, "", 1000)
"""What the removal of one has to know."""


def add(case: Case, body: ClientAddBody) -> Step | Code:
    """Register a service, or in the fleet's own tenant an officer. Ids are unique in the fleet, never given again."""
    is_officer = body.tenant == FLEET_TENANT
    if not is_officer and body.tenant not in case.facts.tenants:
        return Code.NOT_FOUND
    if body.client in case.facts.clients or RowRef(Table.CLIENTS, body.client) in case.facts.tampered:
        return Code.EXISTS
    if not (_verifies(body.algorithm, body.public_key) and _takes(body.recipient_suite, body.recipient_key)):
        return Code.MALFORMED
    if is_officer and body.permissions:  # an officer commands, and uses no key
        return Code.MALFORMED
    client = Client(
        id=body.client,
        tenant=body.tenant,
        role=Role.OFFICER if is_officer else Role.SERVICE,
        algorithm=body.algorithm,
        public_key=body.public_key,
        permissions=tuple(dict.fromkeys(permission.value for permission in body.permissions)),
        pattern="" if is_officer else body.pattern,
        reply_topics=tuple(dict.fromkeys(body.reply_topics)),
        recipient_suite=body.recipient_suite,
        recipient_key=body.recipient_key,
        not_after_ms=body.not_after_ms,
        revoked=False,
        enrolled_by=enrolled_by(case),
        revision=1,
    )
    return _put(client, None, "keyriver.client.added.v1")


def rotate(case: Case, body: ClientRotateBody) -> Step | Code:
    """Replace the signing key. An officer's only by himself: who could replace another's would be two (S14)."""
    client = find_client(case, body.tenant, body.client)
    if isinstance(client, Code):
        return client
    if client.role is Role.OFFICER and client.id != _asker(case):
        return Code.NOT_FOUND
    if not _verifies(body.algorithm, body.public_key):
        return Code.MALFORMED
    changed = replace(
        client,
        algorithm=body.algorithm,
        public_key=body.public_key,
        enrolled_by=enrolled_by(case),
        revision=client.revision + 1,
    )
    return _put(changed, client, "keyriver.client.rotated.v1")


def revoke(case: Case, body: ClientRevokeBody) -> Step | Code:
    """Refuse the client for ever; revoking again changes nothing and is no error. At least two officers must remain."""
    client = find_client(case, body.tenant, body.client)
    if isinstance(client, Code):
        return client
    if client.revoked:
        return Commanded(ClientResult(client=client_view(client)))
    step = _put(replace(client, revoked=True, revision=client.revision + 1), client, "keyriver.client.revoked.v1")
    if client.role is not Role.OFFICER:
        return step
    remain = _officers_besides(case, client)[:OFFICERS]
    if len(remain) < OFFICERS:
        return Code.TOO_FEW_OFFICERS
    return replace(step, rests=(*step.rests, *(Seen(other.ref, other.revision) for other in remain)))


def list_page(case: Case, body: ClientListBody) -> Step | Code:
    """One page of a tenant's clients."""
    if body.tenant not in case.facts.tenants and body.tenant != FLEET_TENANT:
        return Code.NOT_FOUND
    found = case.facts.client_pages.get(client_paging(body), ())
    views = [client_view(case.facts.clients[name]) for name in found[: body.limit] if name in case.facts.clients]
    shown = [RowRef(Table.CLIENTS, name) for name in found[: body.limit]]
    more = len(found) > body.limit
    return Commanded(
        ClientListResult(
            clients=views, more=more, tampered=unbelieved(case.facts, shown), next_after=next_after(shown, more=more)
        )
    )


def _officers_besides(case: Case, client: Client) -> list[Client]:
    """Those who still count, in the order of their names."""
    named = case.facts.client_pages.get(ALL_OFFICERS, ())
    rows = [case.facts.clients[name] for name in named if name in case.facts.clients and name != client.id]
    return [row for row in rows if row.role is Role.OFFICER and policy.is_live(row, case.facts.now_ms)]


def client_paging(body: ClientListBody) -> Paging:
    """The page that this body asks for."""
    return Paging(body.tenant, body.after, body.limit + 1)


def _verifies(algorithm: Algorithm, public_key: bytes) -> bool:
    """Whether these bytes are a signing key; a client with another could never ask for anything."""
    try:
        signatures.check_public_key(algorithm, public_key)
    except BadKey:
        return False
    return True


def _takes(suite: Suite | None, public_key: bytes) -> bool:
    """Whether answers can be sealed to this key; no suite and no key is a client that names one in each request."""
    if suite is None:
        return not public_key
    try:
        hpke.check_public_key(suite, public_key)
    except BadKey:
        return False
    return True


def _asker(case: Case) -> str:
    return case.client.id if case.approval is None else case.approval.asked_by


def enrolled_by(case: Case) -> str:
    """Who enrols: both officers, for then neither did it alone (S14)."""
    return case.client.id if case.approval is None else f"{case.approval.asked_by}+{case.client.id}"


def find_client(case: Case, tenant: str, name: str) -> Client | Code:
    """A tenant's client, for an officer; another tenant's is not found."""
    client = case.facts.clients.get(name)
    if client is None:
        return Code.INTEGRITY if RowRef(Table.CLIENTS, name) in case.facts.tampered else Code.NOT_FOUND
    return client if client.tenant == tenant else Code.NOT_FOUND


def _put(client: Client, before: Client | None, event: str) -> Commanding:
    changed = () if before is None else (Seen(before.ref, before.revision),)
    return Commanding(
        op=None,
        version=None,
        rows=(client,),
        changes=tuple(seen.ref for seen in changed),
        rests=changed,
        result=ClientResult(client=client_view(client)),
        event=event,
    )
