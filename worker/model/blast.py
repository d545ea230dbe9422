"""The blast radius of a key's switch, as it is told."""

from uuid import UUID

from worker.model.fields import Answer


class BlastLayer(Answer):
    """What a switch stops in one layer and region: keys, their versions, DEKs stored under them, blobs outside."""

    layer: int
    region: str
    keys: int
    versions: int
    deks: int
    issued_outside: int


class BlastService(Answer):
    """One key that wraps DEKs, and how many."""

    key: UUID
    alias: str
    region: str
    deks: int
    issued_outside: int


class Blast(Answer):
    """The blast radius of a key's switch. `services` are the largest ones, `more` how many are not shown."""

    tenant: str
    layers: list[BlastLayer]
    services: list[BlastService]
    more: int
