"""Why a file job can't begin or go on. Messages name files and settings, never what stands in a file."""

from worker.client.errors import ClientError


class FileRefused(ClientError):
    """A file can't be read, or is not this job's to write."""


class InputChanged(FileRefused):
    """The input is not what it was when the job began."""


class TooManyRejects(ClientError):
    """So many records in a row were rejected that one cause must be behind them. They are not booked."""

    def __init__(self, count: int, code: str) -> None:
        super().__init__(
            f"{count} records in a row were rejected, the last with {code}: that is one cause, not so many. "
            "Mend it and start the same job again; it goes on from before them"
        )
