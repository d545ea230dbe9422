"""From the bytes of a body to a typed one, within the limits. Every limit has its own code."""

import json
import re
from dataclasses import dataclass

from pydantic import ValidationError

from worker.chain import context
from worker.model.bodies import BODIES, AnyBody, UnwrapBody, WrapBody
from worker.model.codes import Code
from worker.model.operations import Operation

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
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
    """Parse and validate; the first code that applies."""
    try:
        json.loads(raw, object_pairs_hook=_unique)
    except RecursionError:
        return Code.TOO_DEEP
    except ValueError:
        return Code.MALFORMED
    if is_too_deep(raw, limits.depth):
        return Code.TOO_DEEP
    try:
        body = BODIES[operation].model_validate_json(raw, strict=True)  # "3" is no number, 1 is no boolean
    except ValidationError:
        return Code.MALFORMED
    return _over_limit(body, limits) or body


def is_too_deep(raw: bytes, depth: int) -> bool:
    """Whether valid JSON is nested deeper than `depth`: strings out, then each pass peels one layer off."""
    brackets = _STRINGS.sub(b"", raw).translate(None, _NO_BRACKETS)
    for _ in range(depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return bool(brackets)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a name stands twice in one object"
        raise ValueError(message)
    return found


def _over_limit(body: AnyBody, limits: BodyLimits) -> Code | None:
    items = getattr(body, "items", ())
    if len(items) > limits.items:
        return Code.TOO_MANY_ITEMS
    names = (getattr(body, name, None) for name in ("key", "to", "parent", "alias"))
    if any(len(name) > limits.alias_bytes for name in names if name is not None):
        return Code.ALIAS_TOO_LONG
    if isinstance(body, WrapBody | UnwrapBody) and any(_is_too_large(item.context, limits) for item in body.items):
        return Code.CONTEXT_TOO_LARGE
    return None


def _is_too_large(entries: dict[str, str], limits: BodyLimits) -> bool:
    return bool(entries) and (len(entries) > limits.context_entries or context.size(entries) > limits.context_bytes)
