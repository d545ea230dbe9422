"""Events that call for a person."""

from worker.model.fields import Answer


class PinLocked(Answer):
    """The token refused this worker's PIN. No login is tried again, for tokens lock after a few."""

    worker: str
