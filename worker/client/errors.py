"""What a call can end in besides a result. Messages never hold keys or data."""

from collections.abc import Mapping

from worker.model.replies import ApprovalView


class ClientError(Exception):
    """Any error of the client library."""


class RequestRefused(ClientError):
    """The fleet refused the whole request, and signed that it did. `retry`: the same request may succeed later.

    `retry_after_ms`: not before so many milliseconds, as far as the fleet knows.
    """

    def __init__(self, code: str, message: str, *, retry: bool = False, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.retry_after_ms = retry_after_ms
        self.code = code
        self.meaning = message
        self.retry = retry


class Pending(RequestRefused):
    """Nothing is done yet: another officer has to approve the command. `approval` says what he would approve."""

    def __init__(self, code: str, message: str, approval: ApprovalView) -> None:
        super().__init__(code, message)
        self.approval = approval


class NoAnswer(ClientError):
    """No acceptable answer came before the deadline. Whether the request took effect is not known.

    `refused` counts the answers to this request that were not the fleet's, by reason.
    """

    def __init__(self, request_id: str, refused: Mapping[str, int], cause: str = "") -> None:
        said = ", ".join(f"{count} × {reason}" for reason, count in sorted(refused.items()))
        parts = [f"no answer to request {request_id} before its deadline", said and f"refused answers: {said}", cause]
        super().__init__("; ".join(part for part in parts if part))
        self.request_id = request_id
        self.refused = dict(refused)


class NoIntakeKey(ClientError):
    """The fleet announced no intake key that holds now, so DEKs can't be sealed to it."""


class BusDown(ClientError):
    """Kafka can't be reached; the call goes on trying until its deadline."""


class BusRefused(ClientError):
    """Kafka refuses for good: a topic is missing, a right is missing, or the record is too large."""


class BadIdentityFile(ClientError):
    """The identity file can't be used: unreadable, open to others, or not an identity."""


class BadEnvelope(ClientError):
    """The sealed bytes are no envelope of a known format, or were changed, or the context or AAD is another one."""
