"""Each way to break somebody is refused, and what breaks nobody is not."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from schemas.compatibility import incompatibilities, inline

Json = dict[str, Any]
BODY: Json = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "key": {"type": "string", "pattern": "^[a-z]+$", "minLength": 1, "maxLength": 9},
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        "mode": {"$ref": "#/$defs/Mode"},
        "items": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "properties": {"id": {"type": "string"}}},
        },
        "context": {"type": "object", "additionalProperties": {"type": "string"}},
        "blob": {"anyOf": [{"type": "string", "contentEncoding": "base64"}, {"type": "null"}]},
    },
    "required": ["key"],
    "$defs": {"Mode": {"title": "Mode", "type": "string", "enum": ["a", "b"]}},
}
OLD: Json = {
    "topics": ["one", "two"],
    "codes": {"LATE": {"family": "caller", "retry": False, "message": "Late."}},
    "messages": {"asked": {"from": "caller", "payload": BODY}, "told": {"from": "fleet", "payload": deepcopy(BODY)}},
}
Change = Callable[[Json], object]


def changed(change: Change, message: str | None) -> list[str]:
    new = deepcopy(OLD)
    change(new if message is None else new["messages"][message]["payload"])
    return incompatibilities(OLD, new)


def test_the_same_is_compatible() -> None:
    assert incompatibilities(OLD, deepcopy(OLD)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda new: new["topics"].remove("one"),
        lambda new: new["codes"].pop("LATE"),
        lambda new: new["codes"]["LATE"].update(retry=True),
        lambda new: new["codes"]["LATE"].update(family="transient"),
        lambda new: new["messages"].pop("asked"),
    ],
)
def test_names_and_the_meaning_of_codes_stay(change: Change) -> None:
    assert len(changed(change, None)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda new: new["topics"].append("three"),
        lambda new: new["codes"].update(NEW={"family": "caller", "retry": False, "message": "New."}),
        lambda new: new["codes"]["LATE"].update(message="It is late."),
        lambda new: new["messages"].update(new={"from": "caller", "payload": {}}),
    ],
)
def test_what_is_new_breaks_nobody(change: Change) -> None:
    assert changed(change, None) == []


BREAKS_BOTH: list[Change] = [
    lambda body: body["properties"].pop("count"),
    lambda body: body["required"].append("count"),
    lambda body: body["properties"].update(count={"type": "string"}),
    lambda body: body["properties"]["count"].update(minimum=2),
    lambda body: body["properties"]["count"].update(maximum=8),
    lambda body: body["properties"]["count"].update(exclusiveMinimum=0),
    lambda body: body["properties"]["count"].update(enum=[1, 2]),
    lambda body: body["properties"]["count"].update(default=4),
    lambda body: body["properties"]["key"].update(pattern="^[a-z0-9]+$"),
    lambda body: body["properties"]["key"].update(minLength=2),
    lambda body: body["$defs"]["Mode"]["enum"].remove("a"),
    lambda body: body["properties"]["items"]["items"]["properties"].pop("id"),
    lambda body: body["properties"]["items"]["items"].update(required=["id"]),
    lambda body: body["properties"]["context"].update(additionalProperties={"type": "integer"}),
    lambda body: body["properties"]["context"].update(additionalProperties=False),
    lambda body: body["properties"].update(blob={"type": "string", "contentEncoding": "base64"}),
    lambda body: body["properties"]["blob"]["anyOf"][0].update(contentEncoding="base64url"),
    lambda body: body["properties"]["blob"]["anyOf"].pop(),
    lambda body: body.update(oneOf=[{"required": ["count"]}]),
]


@pytest.mark.parametrize("message", ["asked", "told"])
@pytest.mark.parametrize("change", BREAKS_BOTH)
def test_what_narrows_breaks_callers_and_readers(change: Change, message: str) -> None:
    assert changed(change, message)


BREAKS_READERS: list[Change] = [
    lambda body: body["required"].remove("key"),
    lambda body: body["properties"]["count"].update(minimum=0),
    lambda body: body["properties"]["key"].pop("maxLength"),
    lambda body: body["properties"]["blob"]["anyOf"].append({"type": "integer"}),
    lambda body: body["properties"].update(count={"anyOf": [body["properties"]["count"], {"type": "null"}]}),
    lambda body: body.update(additionalProperties=True),
]


@pytest.mark.parametrize("change", BREAKS_READERS)
def test_what_widens_breaks_readers_only(change: Change) -> None:
    assert changed(change, "asked") == []
    assert changed(change, "told")


@pytest.mark.parametrize("message", ["asked", "told"])
@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["properties"].update(new={"type": "string"}),
        lambda body: body["$defs"]["Mode"]["enum"].append("c"),
        lambda body: body["properties"]["key"].update(description="The key."),
        lambda body: body.update(title="another"),
    ],
)
def test_what_adds_breaks_nobody(change: Change, message: str) -> None:
    assert changed(change, message) == []


def test_definitions_are_put_in_place() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/A", "default": 1}}, "$defs": {"A": {"type": "integer"}}}
    assert inline(schema) == {"properties": {"a": {"type": "integer", "default": 1}}}
