"""The client's one port: how it reaches Kafka. `kafka.py` is the real one; tests have one in memory."""

from collections.abc import Callable
from typing import Protocol

from worker.model.records import Entry, Outgoing

Listener = Callable[[Entry], None]
"""Called on the event loop for each record; never blocks, never raises."""


class Transport(Protocol):
    """Sends requests, and listens to one partition of the reply topic and to the whole intake topic."""

    async def start(self, reply_topic: str, intake_topic: str, on_reply: Listener, on_announcement: Listener) -> int:
        """Begin to listen: replies from the end on, announcements from the beginning.

        Returns the partition of the reply topic that is listened to, once its position is fixed and every announcement
        that was there has been delivered. Raises `BusDown`, or `BusRefused` when a topic is missing.
        """
        ...

    async def send(self, record: Outgoing) -> None:
        """Return when all replicas have it. Raises `BusDown` (it may have arrived) or `BusRefused`."""
        ...

    async def stop(self) -> None:
        """Let go of everything."""
        ...
