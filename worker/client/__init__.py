"""The Python client library for requesters: data keys over Kafka, verified answers, envelope encryption."""

from worker.client.client import KeyriverClient
from worker.client.dek_cache import Limits
from worker.client.envelope import Envelope
from worker.client.errors import (
    BadEnvelope,
    BadIdentityFile,
    BusDown,
    BusRefused,
    ClientError,
    NoAnswer,
    NoIntakeKey,
    Pending,
    RequestRefused,
)
from worker.client.identity_file import load_identity
from worker.client.kafka import KafkaTransport
from worker.client.options import Options
from worker.client.results import ItemError, Rewrapped, Unwrapped, WrappedDek
from worker.client.rewrap import Bulk, Stalled, rewrap_all

__all__ = [
    "BadEnvelope",
    "BadIdentityFile",
    "Bulk",
    "BusDown",
    "BusRefused",
    "ClientError",
    "Envelope",
    "ItemError",
    "KafkaTransport",
    "KeyriverClient",
    "Limits",
    "NoAnswer",
    "NoIntakeKey",
    "Options",
    "Pending",
    "RequestRefused",
    "Rewrapped",
    "Stalled",
    "Unwrapped",
    "WrappedDek",
    "load_identity",
    "rewrap_all",
]
