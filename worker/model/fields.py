"""What the bodies on the wire are made of: bytes, names, numbers and the one base of all bodies."""

import re
from base64 import b64encode
from binascii import a2b_base64
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)


def _decode(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError("base64 text is needed")  # noqa: TRY004 - pydantic turns only ValueError into a refusal
    return a2b_base64(value, strict_mode=True)


def _encode(value: bytes) -> str:
    return b64encode(value).decode()


_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
Base64 = Annotated[
    bytes,
    BeforeValidator(_decode),
    PlainSerializer(_encode, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "pattern": _BASE64}),
]
"""Bytes in standard base64, strictly: no other characters, padding as it must be."""

_UUID = "^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
Uuid = Annotated[UUID, WithJsonSchema({"type": "string", "format": "uuid", "pattern": _UUID})]
"""An id that must be there; the pattern says so to readers that don't look at formats."""
AliasName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._/-]+$", min_length=1)]
"""`a-z0-9._-/`; a UUID also has this form, so one field takes either."""
_UUID_LIKE = r"^(?:-*[0-9a-f]){32}-*$"
"""What Python reads as a UUID: dashes stand where they like."""


def _is_no_uuid(name: str) -> str:
    if re.match(_UUID_LIKE, name):
        raise ValueError("a name must not look like a UUID")
    return name


TenantName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"),
    AfterValidator(_is_no_uuid),
    Field(json_schema_extra={"not": {"pattern": _UUID_LIKE}}),
]
"""Never like a UUID: the tenant's name is an alias, and would stand before the key id that it looks like. Every other
alias has a slash in it."""
ClientName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,126}$")]
TopicName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
AliasPattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._/*?\[\]!-]*$", max_length=256)]
"""A shell pattern over aliases."""
Why = Annotated[str, StringConstraints(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""An officer's reason in his own words; it stands in the event and on the audit trail."""
MAX_INT = 2**53 - 1
"""The largest integer that JSON carries exactly everywhere; it fits every column, too."""
Context = dict[str, str]
"""Additional authenticated data: what the DEK is for. An empty map is the same as none."""


class Body(BaseModel):
    """What all bodies share: frozen, and nothing unknown gets through."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """What all parts of answers share: frozen, and open to fields that come later."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Page(Answer):
    """One page of a list. `next_after`: the row, shown or not, after which the next page begins; absent on the last.

    `tampered`: names of rows of this page that somebody changed; whatever they say is not believed, nor shown.
    """

    tampered: list[str] | None = None
    next_after: str | None = None


class Reason(StrEnum):
    """Why a key is rotated. `compromise` is the emergency: the version before is compromised, not deactivated."""

    SCHEDULED = "scheduled"
    AGE = "age"
    USAGE = "usage"
    COMPROMISE = "compromise"
    OPERATOR = "operator"
