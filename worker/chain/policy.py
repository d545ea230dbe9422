"""Who may do what: pure, and denying on doubt. Whatever stands here only allows; what nothing allows is refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from worker.chain.lifecycle import Use
from worker.model.operations import SERVICE_OPERATIONS, Operation, Permission
from worker.model.rows import FLEET_TENANT, Client, Grant, Key, Role, Row, Rule, Suite

Licence = Client | Rule | Grant
"""What allows something: the client's own row, a rule, or a grant."""
GRANTABLE = frozenset({Permission.UNWRAP, Permission.REWRAP, Permission.REWRAP_FROM})
"""What a grant may allow. Nothing new comes under a compromised version."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What rules may look at in a request: the keys of an item's context, and the suites plaintext travels under.

    `context` None: none is shown, which is less than an empty one.
    """

    context: frozenset[str] | None = None
    suites: frozenset[Suite] = frozenset()


@dataclass(frozen=True, slots=True)
class Wanted:
    """One use of one key version by one client, at one moment. A key is known by its names."""

    client: Client
    permission: Permission
    key: Key
    names: tuple[str, ...]
    version: int
    use: Use
    shown: Shown
    now_ms: int


def is_live(client: Client, now_ms: int) -> bool:
    """Whether the client may sign anything at all: neither revoked nor past its end."""
    return not client.revoked and now_ms < client.not_after_ms


def may_ask(client: Client, operation: Operation) -> bool:
    """Whether this kind of signer may send this operation: services work with DEKs and report, officers command."""
    if operation in SERVICE_OPERATIONS:
        return client.role is Role.SERVICE
    return client.role is Role.OFFICER and client.tenant == FLEET_TENANT


def may_use(client: Client, permission: Permission, names: Iterable[str]) -> bool:
    """Whether the client's own row allows this on the key that has these names."""
    return permission.value in client.permissions and fits(client.pattern, names)


def fits(pattern: str, names: Iterable[str]) -> bool:
    """Whether one of the names fits. A key without a name fits only `*`."""
    return pattern == "*" or any(fnmatchcase(name, pattern) for name in names)


def licence(wanted: Wanted, rules: Iterable[Rule], grants: Iterable[Grant]) -> Licence | None:
    """What allows this: the client's own row before a rule, a rule before a grant; None if nothing does."""
    if may_use(wanted.client, wanted.permission, wanted.names):
        return wanted.client
    for rule in rules:
        if rule_allows(rule, wanted):
            return rule
    return next((grant for grant in grants if grant_allows(grant, wanted)), None)


def rule_allows(rule: Rule, wanted: Wanted) -> bool:
    """Whether this rule allows it, in this order.

    1. It is this client's, in force, and the key is its tenant's.
    2. It names the permission, the key and its region.
    3. The item shows every context key that it demands; a rewrap shows none.
    4. Plaintext travels under no weaker suite than it demands.
    """
    if not _in_force(rule, wanted.client, wanted.now_ms) or rule.tenant != wanted.key.tenant:  # 1
        return False
    if wanted.permission.value not in rule.permissions or not fits(rule.pattern, wanted.names):  # 2
        return False
    if rule.region not in ("", wanted.key.region):
        return False
    if rule.context_keys and not (wanted.shown.context or frozenset()).issuperset(rule.context_keys):  # 3
        return False
    minimum = rule.minimum_suite  # 4
    return minimum is None or all(suite.at_least(minimum) for suite in wanted.shown.suites)


def grant_allows(grant: Grant, wanted: Wanted) -> bool:
    """Whether this grant allows it. Its version is the one that may be opened, so it bounds no target of a rewrap."""
    if not holds(grant, wanted.client, wanted.permission, wanted.now_ms) or grant.tenant != wanted.key.tenant:
        return False
    return grant.key == wanted.key.id and (wanted.use is Use.WRAP or opens(grant, wanted.version))


def holds(grant: Grant, client: Client, permission: Permission, now_ms: int) -> bool:
    """Whether the grant is this client's, in force, and for this permission."""
    return (
        _in_force(grant, client, now_ms)
        and permission in GRANTABLE
        and permission.value in grant.permissions
        and grant.tenant == client.tenant
    )


def opens(grant: Grant, version: int) -> bool:
    """Whether the grant is for this version of its key."""
    return grant.version in (0, version)


def may_reply_to(client: Client, topic: str) -> bool:
    """Whether answers to this client may go to this topic (S2)."""
    return topic in client.reply_topics


def by_client(rows: Iterable[Row]) -> tuple[dict[str, tuple[Rule, ...]], dict[str, tuple[Grant, ...]]]:
    """The rules and the grants among these rows, by client and in the order of ids."""
    rules: dict[str, tuple[Rule, ...]] = {}
    grants: dict[str, tuple[Grant, ...]] = {}
    for row in sorted((row for row in rows if isinstance(row, Rule | Grant)), key=lambda row: row.id):
        if isinstance(row, Rule):
            rules[row.client] = (*rules.get(row.client, ()), row)
        else:
            grants[row.client] = (*grants.get(row.client, ()), row)
    return rules, grants


def _in_force(row: Rule | Grant, client: Client, now_ms: int) -> bool:
    return row.client == client.id and not row.revoked and now_ms < row.not_after_ms
