"""The life of keys as the design's page has it, written out by hand: what each state allows and what leads to what.

Nothing here comes from `worker.chain`: it is what that is held against.
"""

from dataclasses import dataclass, field

WRAP, UNWRAP, REWRAP_FROM, OPEN = "wrap", "unwrap", "rewrap-from", "open"
ALLOWED = {
    "pre-active": set[str](),
    "active": {WRAP, UNWRAP, REWRAP_FROM, OPEN},
    "suspended": {UNWRAP, OPEN},
    "deactivated": {UNWRAP, REWRAP_FROM, OPEN},
    "compromised": set[str](),
    "destroy-scheduled": set[str](),
    "destroyed": set[str](),
}
CHANGES = {
    "suspend": {"active": "suspended", "suspended": "suspended"},
    "deactivate": {"active": "deactivated", "suspended": "deactivated", "deactivated": "deactivated"},
    "compromise": dict.fromkeys(("pre-active", "active", "suspended", "deactivated", "compromised"), "compromised"),
}
DESTROYABLE = ("pre-active", "deactivated", "compromised")
OK = ""


@dataclass
class Version:
    """One version: its state, the version of the parent that wraps it, and how many DEKs are stored under it."""

    state: str
    parent_version: int
    prior: str = ""
    deks: int = 0


@dataclass
class Key:
    """One key and its versions by number."""

    parent: str
    enabled: bool = True
    active: int = 1
    versions: dict[int, Version] = field(default_factory=dict)

    def is_older(self, number: int) -> bool:
        """Whether a newer version is active already."""
        return number < self.active


class Life:
    """All keys of a tenant, by name. Every command says with which code it must be answered, and then it is done."""

    def __init__(self, parents: dict[str, str]) -> None:
        self.keys = {
            name: Key(parent, versions={1: Version("active", int(bool(parent)))}) for name, parent in parents.items()
        }

    def refusals(self, name: str, number: int, use: str) -> set[str]:
        """Why a version can't be used so: every code that would be true."""
        key = self.keys[name]
        found = set() if key.enabled else {"KEY_DISABLED"}
        if use not in ALLOWED[key.versions[number].state]:
            found.add("KEY_STATE")
        return found | (self.refusals(key.parent, key.versions[number].parent_version, OPEN) if key.parent else set())

    def rotate(self, name: str, *, emergency: bool, pre_active: bool) -> set[str]:
        key = self.keys[name]
        if emergency and pre_active:
            return {"MALFORMED"}
        above = self.keys[key.parent].active if key.parent else 0
        refused = set() if key.enabled else {"KEY_DISABLED"}
        refused |= self.refusals(key.parent, above, WRAP) if key.parent else set()
        if refused:
            return refused
        number = max(key.versions) + 1
        key.versions[number] = Version("pre-active" if pre_active else "active", above)
        if not pre_active:
            self._retire(key, "compromise" if emergency else "deactivate")
            key.active = number
        return {OK}

    def activate(self, name: str, number: int) -> set[str]:
        key = self.keys[name]
        version = key.versions.get(number)
        if version is None:
            return {"NOT_FOUND"}
        if version.state != "pre-active" or key.is_older(number):
            return {"KEY_STATE"}
        version.state = "active"
        if number != key.active:
            self._retire(key, "deactivate")
            key.active = number
        return {OK}

    def change(self, what: str, name: str, number: int) -> set[str]:
        """Suspend, deactivate, compromise; resume is its own."""
        version = self.keys[name].versions.get(number)
        if version is None:
            return {"NOT_FOUND"}
        after = CHANGES[what].get(version.state)
        if after is None:
            return {"KEY_STATE"}
        version.state = after
        return {OK}

    def resume(self, name: str, number: int) -> set[str]:
        key = self.keys[name]
        version = key.versions.get(number)
        if version is None:
            return {"NOT_FOUND"}
        if version.state != "suspended" or number != key.active:
            return {"KEY_STATE"}
        version.state = "active"
        return {OK}

    def disable(self, name: str) -> set[str]:
        self.keys[name].enabled = False
        return {OK}

    def enable(self, name: str, *, named: bool) -> set[str]:
        """`named`: the command names the last disable."""
        key = self.keys[name]
        if key.enabled or not named:
            return {"CONFLICT"}
        key.enabled = True
        return {OK}

    def destroy(self, name: str, number: int, *, forced: bool) -> set[str]:
        version = self.keys[name].versions.get(number)
        if version is None:
            return {"NOT_FOUND"}
        if version.state not in DESTROYABLE:
            return {"KEY_STATE"}
        if self.needed(name, number) and not forced:
            return {"STILL_NEEDED"}
        version.prior, version.state = version.state, "destroy-scheduled"
        return {OK}

    def cancel(self, name: str, number: int) -> set[str]:
        version = self.keys[name].versions.get(number)
        if version is None:
            return {"NOT_FOUND"}
        if version.state != "destroy-scheduled":
            return {"KEY_STATE"}
        version.state = version.prior
        return {OK}

    def carry_out(self) -> None:
        """What is scheduled is destroyed."""
        for key in self.keys.values():
            for version in key.versions.values():
                if version.state == "destroy-scheduled":
                    version.state = "destroyed"

    def needed(self, name: str, number: int) -> bool:
        """DEKs or versions of keys below."""
        below = [
            version
            for key in self.keys.values()
            if key.parent == name
            for version in key.versions.values()
            if version.parent_version == number and version.state != "destroyed"
        ]
        return bool(below) or self.keys[name].versions[number].deks > 0

    def _retire(self, key: Key, how: str) -> None:
        before = key.versions[key.active]
        before.state = CHANGES[how].get(before.state, before.state)
