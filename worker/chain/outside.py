"""Where a chain leaves the token: the L1 that stays in its customer's keystore, and what is wrapped under it (S13)."""

from uuid import UUID

from worker.model.codes import Code
from worker.model.facts import Facts
from worker.model.hsm import Outside, Wrapping
from worker.model.rows import Key, Link, RowRef, Table, Version
from worker.model.words import LinkState
from worker.seal.frames import framed

_FORMAT = b"keyriver-hyok/1"
DIGEST_BYTES = 32


def bound_to(tenant: str, key: UUID, version: int) -> bytes:
    """The AAD of the keystore's blob: length-prefixed tenant, key and version of the key inside it."""
    return framed(_FORMAT, tenant.encode(), key.bytes, version.to_bytes(4, "big"))


def link_of(facts: Facts, key: Key, version: Version) -> Link | Code:
    """The link of an L1's version, if it may be used now. Whatever does not fit together was tampered with."""
    row = facts.rows.get(RowRef(Table.LINKS, str(version.link)))
    if not isinstance(row, Link) or key.parent is not None:
        return Code.INTEGRITY
    if (row.tenant, row.key, row.version) != (key.tenant, key.id, version.number):
        return Code.INTEGRITY
    if (row.inner, row.serial) != (version.material, version.serial):
        return Code.INTEGRITY
    if row.state is LinkState.LINKED:
        return row
    return Code.LINK_CUT if row.state is LinkState.CUT else Code.KEY_STATE


def is_outside(version: Version) -> bool:
    """Whether this version of an L1 stays in a customer's keystore."""
    return version.wrapping is Wrapping.EXTERNAL


def to_open(link: Link | None, key: Key, version: Version) -> Outside | Code | None:
    """How the keystore gives this version back; None under an L1 of our own."""
    if link is None:
        return Code.INTEGRITY if version.digest else None
    if len(version.digest) != DIGEST_BYTES:
        return Code.INTEGRITY
    return Outside(link.id, link.address, bound_to(key.tenant, key.id, version.number), version.digest)


def to_make(link: Link, tenant: str, key: UUID, version: int) -> Outside:
    """Where a new version of a key under this link is to be wrapped."""
    return Outside(link.id, link.address, bound_to(tenant, key, version))
