"""Who may do what: coarse, pure, and denying on doubt."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from worker.model.operations import DATA_OPERATIONS, Operation, Permission
from worker.model.rows import FLEET_TENANT, Client, Role


def is_live(client: Client, now_ms: int) -> bool:
    """Whether the client may sign anything at all: neither revoked nor past its end."""
    return not client.revoked and now_ms < client.not_after_ms


def may_ask(client: Client, operation: Operation) -> bool:
    """Whether this kind of signer may send this operation: data operations are services', commands are officers'."""
    if operation in DATA_OPERATIONS:
        return client.role is Role.SERVICE
    return client.role is Role.OFFICER and client.tenant == FLEET_TENANT


def may_use(client: Client, permission: Permission, names: Iterable[str]) -> bool:
    """Whether the client has the permission on the key that has these names. A key without a name fits only `*`."""
    if permission.value not in client.permissions:
        return False
    return client.pattern == "*" or any(fnmatchcase(name, client.pattern) for name in names)


def may_reply_to(client: Client, topic: str) -> bool:
    """Whether answers to this client may go to this topic (S2)."""
    return topic in client.reply_topics
