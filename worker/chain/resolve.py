"""From a key's name or id to what the HSM needs: the version, its way up to L1, and the rows that say so."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from worker.chain import lifecycle, policy
from worker.chain.bound import bound
from worker.chain.lifecycle import Use, Who
from worker.chain.outside import is_outside, link_of, to_open
from worker.chain.policy import Licence, Shown, Wanted
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Facts
from worker.model.hsm import Kek, Outside, Wrapping
from worker.model.operations import Permission
from worker.model.rows import Client, Grant, Key, Link, RowRef, Suite, Table, Version


@dataclass(frozen=True, slots=True)
class Usable:
    """A key version that may be used now, and every row that says so. `link` is that of an L1 that stays outside."""

    key: Key
    version: Version
    kek: Kek
    seen: tuple[Seen, ...]
    link: Link | None = None


_ROOTS = (Wrapping.TOKEN, Wrapping.EXTERNAL)
USES = {
    Permission.WRAP: Use.WRAP,
    Permission.UNWRAP: Use.UNWRAP,
    Permission.REWRAP: Use.WRAP,
    Permission.REWRAP_FROM: Use.REWRAP_FROM,
    Permission.REWRAP_TO: Use.WRAP,
    Permission.TRIGGER: Use.WRAP,
}
"""What each permission does with a version, if nothing else is said."""


class Chains:
    """The facts of one batch, asked again and again: each (key, version, use) is resolved once."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._known: dict[tuple[UUID, int, Use, Who, tuple[Grant, ...]], Usable | Code] = {}
        self._own: dict[tuple[str, Permission, UUID], bool] = {}
        self._licensed: dict[tuple[RowRef, UUID, int, Use, tuple[Grant, ...]], Usable] = {}
        self._rules, self._grants = policy.by_client(facts.rows.values())

    def key_id(self, client: Client, name: str) -> UUID | Code:
        """The id behind an alias or an id in text. `NOT_FOUND` also for what belongs to another tenant."""
        alias = self._facts.aliases.get(name)
        if alias is not None and alias.tenant != client.tenant:
            return Code.NOT_FOUND
        if alias is not None:
            return alias.key if alias.key in self._facts.keys else Code.INTEGRITY
        if RowRef(Table.ALIASES, name) in self._facts.tampered:
            return Code.INTEGRITY
        try:
            return UUID(name)
        except ValueError:
            return Code.NOT_FOUND

    def for_client(
        self,
        client: Client,
        permission: Permission,
        key: UUID,
        version: int | None,
        use: Use | None = None,
        *,
        context: Iterable[str] | None = None,
        suites: frozenset[Suite] = frozenset(),
    ) -> Usable | Code:
        """What this client may use; `version` None means the active one, `use` None the permission's own.

        `context` are the keys of the item's context (None: it shows none), `suites` what plaintext travels under.
        """
        row = self._facts.keys.get(key)
        if row is None:
            return Code.INTEGRITY if RowRef(Table.KEYS, str(key)) in self._facts.tampered else Code.NOT_FOUND
        if row.tenant != client.tenant:
            return Code.NOT_FOUND
        number = row.active_version if version is None else version
        wanted_use = USES[permission] if use is None else use
        grants = self._opening(client, permission)
        if self._owns(client, permission, key):
            return self.usable(row, number, wanted_use, grants=grants)
        shown = Shown(None if context is None else frozenset(context), suites)
        found = self.licence(client, permission, row, number, wanted_use, shown)
        if found is None:
            return Code.INTEGRITY if client.id in self._facts.distrusted else Code.NOT_FOUND
        usable = self.usable(row, number, wanted_use, grants=grants)
        return usable if isinstance(usable, Code) else self._under(found, usable, wanted_use, grants)

    def licence(
        self, client: Client, permission: Permission, key: Key, version: int, use: Use, shown: Shown
    ) -> Licence | None:
        """What allows the client this, if anything does."""
        names = self._facts.names.get(key.id, ())
        wanted = Wanted(client, permission, key, names, version, use, shown, self._facts.now_ms)
        return policy.licence(wanted, self._rules.get(client.id, ()), self._grants.get(client.id, ()))

    def why_not_found(self, client: Client, name: str | UUID) -> str:
        """For the audit trail: whether a key that was not found is unknown, another tenant's, or forbidden."""
        alias = None if isinstance(name, UUID) else self._facts.aliases.get(name)
        if alias is not None and alias.tenant != client.tenant:
            return "foreign"
        row = self._facts.keys.get(name) if isinstance(name, UUID) else None
        if row is None:
            return "unknown"
        return "forbidden" if row.tenant == client.tenant else "foreign"

    def usable(
        self, key: Key, number: int, use: Use, who: Who = Who.CALLER, grants: tuple[Grant, ...] = ()
    ) -> Usable | Code:
        """What anybody who is allowed may use: switches and states of the key and of everything above it.

        `grants` are those that open compromised versions for the caller.
        """
        memo = (key.id, number, use, who, grants)
        found = self._known.get(memo)
        if found is None:
            found = self._known[memo] = self._resolve(key, number, use, who, grants)
        return found

    def _owns(self, client: Client, permission: Permission, key: UUID) -> bool:
        """Whether the client's own row allows it: then nobody looks at rules."""
        memo = (client.id, permission, key)
        allowed = self._own.get(memo)
        if allowed is None:
            allowed = self._own[memo] = policy.may_use(client, permission, self._facts.names.get(key, ()))
        return allowed

    def _opening(self, client: Client, permission: Permission) -> tuple[Grant, ...]:
        """The grants that open compromised versions for this client and permission."""
        grants = self._grants.get(client.id)
        if grants is None:
            return ()
        return tuple(one for one in grants if policy.holds(one, client, permission, self._facts.now_ms))

    def _under(self, licence: Licence, usable: Usable, use: Use, grants: tuple[Grant, ...]) -> Usable:
        """The same, resting on what allowed it, too (S7: once that is revoked, settle refuses)."""
        memo = (licence.ref, usable.key.id, usable.version.number, use, grants)
        found = self._licensed.get(memo)
        if found is None:
            seen = dict.fromkeys((*usable.seen, Seen(licence.ref, licence.revision)))
            found = self._licensed[memo] = replace(usable, seen=tuple(seen))
        return found

    def _resolve(self, key: Key, number: int, use: Use, who: Who, grants: tuple[Grant, ...]) -> Usable | Code:
        version = self._version(key, number)
        if isinstance(version, Code):
            return version
        if not key.enabled:
            return Code.KEY_DISABLED
        if self._lacks_material(version):
            return Code.KEY_STATE
        seen: tuple[Seen, ...] = (Seen(key.ref, key.revision), Seen(version.ref, version.revision))
        if not lifecycle.allows(version.state, use, who):
            grant = next((one for one in grants if one.key == key.id and policy.opens(one, number)), None)
            if grant is None or not lifecycle.allows(version.state, use, Who.GRANTED):
                return Code.KEY_STATE
            seen = (*seen, Seen(grant.ref, grant.revision))
        if version.wrapping in _ROOTS:
            return self._root(key, version, seen)
        above = self._parent(key, version, who, grants)
        if isinstance(above, Code):
            return above
        outside = to_open(above.link, key, version)
        if isinstance(outside, Code):
            return outside
        region = bound(self._facts, key.region, above.kek)
        if isinstance(region, Code):
            return region
        return Usable(key, version, _kek(key, version, above.kek, outside), above.seen + region + seen)

    def _root(self, key: Key, version: Version, seen: tuple[Seen, ...]) -> Usable | Code:
        """An L1: a token object, or what stays in the customer's keystore (S13)."""
        tenant = self._facts.tenants.get(key.tenant)
        if tenant is None:
            return Code.INTEGRITY
        if not tenant.enabled:
            return Code.KEY_DISABLED
        seen = (Seen(tenant.ref, tenant.revision), *seen)
        if not is_outside(version):
            return Usable(key, version, _kek(key, version), seen)
        link = link_of(self._facts, key, version)
        if isinstance(link, Code):
            return link
        return Usable(key, version, _kek(key, version), (*seen, Seen(link.ref, link.revision)), link)

    def _lacks_material(self, version: Version) -> bool:
        """Imported material that is not there, or must be there no longer (S12)."""
        return version.absent or 0 < version.not_after_ms <= self._facts.now_ms

    def _version(self, key: Key, number: int) -> Version | Code:
        version = self._facts.versions.get((key.id, number))
        if version is not None:
            return version
        # Versions are never deleted: one that the key's row counts and that is not there was tampered with.
        return Code.INTEGRITY if 0 < number <= key.latest_version else Code.NOT_FOUND

    def _parent(self, key: Key, version: Version, who: Who, grants: tuple[Grant, ...]) -> Usable | Code:
        parent = None if key.parent is None else self._facts.keys.get(key.parent)
        if parent is None or parent.tenant != key.tenant or parent.layer != key.layer - 1:
            return Code.INTEGRITY
        return self.usable(parent, version.parent_version, Use.OPEN, who, grants)


def _kek(key: Key, version: Version, parent: Kek | None = None, outside: Outside | None = None) -> Kek:
    return Kek(
        key=key.id,
        version=version.number,
        revision=version.revision,
        purpose=key.purpose,
        wrapping=version.wrapping,
        wrapped=version.wrapped,
        parent=parent,
        material=version.material,
        serial=version.serial,
        outside=outside,
    )
