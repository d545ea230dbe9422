"""Reports that stand in answers and in events."""

from worker.model.fields import Answer


class Destruction(Answer):
    """What a destruction takes, and until when backups and topics could still bring it back (S15)."""

    version: int
    due_ms: int
    recoverable_until_ms: int
    deks: int
    issued_outside: int
    children: int
    forced: bool
