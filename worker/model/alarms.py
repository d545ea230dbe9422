"""Events that call for a person."""

from worker.model.fields import Answer


class PinLocked(Answer):
    """The token refused this worker's PIN. No login is tried again, for tokens lock after a few."""

    worker: str


class RowReverted(Answer):
    """A row is gone, or older than the fleet said (S7): `revision` is the highest that was told. It decides nothing."""

    table: str
    key: str
    revision: int
    worker: str
