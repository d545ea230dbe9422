"""Whether a contract may follow another one: everyone who was right under the old one stays right under the new one.

Workers and clients are upgraded apart, so both old callers with new workers and new callers with old workers must do.
Allowed: new messages, codes and topics, new optional fields, and (for what callers send) wider bounds.
"""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_NOTES = frozenset({"$schema", "$id", "$defs", "title", "description", "examples", "deprecated"})
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_WALKED = frozenset({"properties", "required", "items", "anyOf", "enum", "additionalProperties", *_LOWER, *_UPPER})


def incompatibilities(old: Json, new: Json) -> list[str]:
    """Every reason why the contract `new` may not follow `old`; none, and it may."""
    return [*_lost_names(old, new), *_changed_codes(old["codes"], new["codes"]), *_changed_messages(old, new)]


def _lost_names(old: Json, new: Json) -> Iterator[str]:
    for kind in ("topics", "codes", "messages"):
        for name in old[kind]:
            if name not in new[kind]:
                yield f"{kind}: {name} was removed"


def _changed_codes(old: Json, new: Json) -> Iterator[str]:
    for code in old.keys() & new.keys():
        for fact in ("family", "retry"):
            if old[code][fact] != new[code][fact]:
                yield f"codes: {code} changed its {fact}"


def _changed_messages(old: Json, new: Json) -> Iterator[str]:
    for name, before in old["messages"].items():
        after = new["messages"].get(name, before)
        told = before["from"] == "fleet"
        yield from _compare(inline(before["payload"]), inline(after["payload"]), name, told=told)


def inline(schema: Json) -> Json:
    """The schema with its own definitions put where they are referred to. Ours have no cycles."""
    definitions = schema.get("$defs", {})

    def walk(node: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(node, list):
            return [walk(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = definitions[node["$ref"].removeprefix("#/$defs/")]
            node = {**target, **{name: value for name, value in node.items() if name != "$ref"}}
        return {name: walk(value) for name, value in node.items() if name != "$defs"}

    resolved: Json = walk(schema)
    return resolved


def _compare(old: Json, new: Json, path: str, *, told: bool) -> Iterator[str]:
    """`told`: the fleet says it and callers read it; otherwise callers say it and the fleet reads it."""
    if "anyOf" in old or "anyOf" in new:
        yield from _compare_choices(old, new, path, told=told)
        return
    for name in sorted((old.keys() | new.keys()) - _NOTES - _WALKED):
        if old.get(name) != new.get(name):
            yield f"{path}: {name} changed"
    yield from _compare_bounds(old, new, path, told=told)
    for value in old.get("enum", []):
        if value not in new.get("enum", [value]):
            yield f"{path}: {value} is no longer one of the values"
    if "enum" in new and "enum" not in old:
        yield f"{path}: only some values are left"
    yield from _compare_fields(old, new, path, told=told)
    yield from _compare_insides(old, new, path, told=told)


def _compare_choices(old: Json, new: Json, path: str, *, told: bool) -> Iterator[str]:
    before = {_kind(one): one for one in old.get("anyOf", [old])}
    after = {_kind(one): one for one in new.get("anyOf", [new])}
    for kind, one in before.items():
        if kind in after:
            yield from _compare(one, after[kind], f"{path}|{kind}", told=told)
        else:
            yield f"{path}: can no longer be {kind}"
    for kind in after.keys() - before.keys():
        if told:
            yield f"{path}: can now be {kind}, which old readers don't expect"


def _kind(choice: Json) -> str:
    return str(choice.get("title", choice.get("format", choice.get("contentEncoding", choice.get("type")))))


def _compare_bounds(old: Json, new: Json, path: str, *, told: bool) -> Iterator[str]:
    for names, sign in ((_LOWER, 1), (_UPPER, -1)):
        for name in names:
            before, after = old.get(name), new.get(name)
            if after is not None and (before is None or (after - before) * sign > 0):
                yield f"{path}: {name} is narrower"
            elif told and before != after:
                yield f"{path}: {name} is wider, which old readers don't expect"


def _compare_fields(old: Json, new: Json, path: str, *, told: bool) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, field in before.items():
        if name in after:
            yield from _compare(field, after[name], f"{path}.{name}", told=told)
        else:
            yield f"{path}.{name} was removed"
    needed, needs = old.get("required", []), new.get("required", [])
    for name in needs:
        if name not in needed:
            yield f"{path}.{name} is now required"
    for name in needed:
        if told and name in after and name not in needs:
            yield f"{path}.{name} may now be missing, which old readers don't expect"


def _compare_insides(old: Json, new: Json, path: str, *, told: bool) -> Iterator[str]:
    for name, mark in (("items", "[]"), ("additionalProperties", ".*")):
        before, after = old.get(name, True), new.get(name, True)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _compare(before, after, path + mark, told=told)
        elif before != after and (told or after is not True):
            yield f"{path}: {name} changed"
