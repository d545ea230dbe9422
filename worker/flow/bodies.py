"""From the bytes of a body to a typed one, within the limits. Every limit has its own code."""

import json
import re
from dataclasses import dataclass

from pydantic import ValidationError

from worker.chain import context
from worker.model.bodies import (
    BODIES,
    AnyBody,
    KeyCreateBody,
    KeyRotateBody,
    KeyShowBody,
    RewrapBody,
    UnwrapBody,
    WrapBody,
)
from worker.model.codes import Code
from worker.model.operations import Operation

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""The last quote may be missing: a match that can't fail is never tried again, so this is linear on anything."""
_FEW = 16
"""Objects and arrays around the items; an item has two at most, itself and its context."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bounds of one request (DESIGN, "Limits and defaults"); sizes in bytes."""

    request_bytes: int = 2 * 1024 * 1024
    items: int = 1000
    alias_bytes: int = 256
    context_entries: int = 16
    context_bytes: int = 2048
    depth: int = 16


def read(operation: Operation, raw: bytes, limits: BodyLimits) -> AnyBody | Code:
    """Parse and validate; the first code that applies. What would take long to parse is refused before it is."""
    brackets = _STRINGS.sub(b"", raw).translate(None, _NO_BRACKETS)
    if brackets.count(b"{") + brackets.count(b"[") > 2 * limits.items + _FEW:
        return Code.TOO_DEEP if re.search(rb"[\[{]{%d}" % (limits.depth + 1), brackets) else Code.TOO_MANY_ITEMS
    try:
        json.loads(raw.decode(), object_pairs_hook=_unique)  # bytes would be taken for UTF-16 where they look so
    except RecursionError:
        return Code.TOO_DEEP
    except ValueError:
        return Code.MALFORMED
    if is_too_deep(brackets, limits.depth):
        return Code.TOO_DEEP
    try:
        body = BODIES[operation].model_validate_json(raw, strict=True)  # "3" is no number, 1 is no boolean
    except ValidationError:
        return Code.MALFORMED
    return _over_limit(body, limits) or body


def is_too_deep(brackets: bytes, depth: int) -> bool:
    """Whether valid JSON with these brackets is nested deeper than `depth`: each pass peels one layer off."""
    for _ in range(depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return bool(brackets)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _over_limit(body: AnyBody, limits: BodyLimits) -> Code | None:
    if isinstance(body, WrapBody | UnwrapBody | RewrapBody) and len(body.items) > limits.items:
        return Code.TOO_MANY_ITEMS
    if any(len(name) > limits.alias_bytes for name in _names(body)):
        return Code.ALIAS_TOO_LONG
    if isinstance(body, WrapBody | UnwrapBody) and any(_is_too_large(item.context, limits) for item in body.items):
        return Code.CONTEXT_TOO_LARGE
    return None


def _names(body: AnyBody) -> tuple[str, ...]:
    """The aliases that a body mentions. Asking a pydantic model for a field that it lacks is dear."""
    match body:
        case WrapBody() | KeyRotateBody() | KeyShowBody():
            return (body.key,)
        case KeyCreateBody():
            return body.parent, body.alias
        case RewrapBody():
            return () if body.to is None else (body.to,)
        case _:
            return ()


def _is_too_large(entries: dict[str, str], limits: BodyLimits) -> bool:
    return bool(entries) and (len(entries) > limits.context_entries or context.size(entries) > limits.context_bytes)
