"""Rules and grants of the small world's service."""

from dataclasses import replace
from typing import Any

from tests.unit.chain.world import NOW, PAYMENTS, World, uid
from worker.model.rows import Grant, Rule


def rule_row(number: int = 1, **changes: Any) -> Rule:  # noqa: ANN401 - columns of the row
    """What the service may do besides what its row says: by default, unwrap anything of acme's."""
    row = Rule(uid(700 + number), "acme", "billing", ("unwrap",), "*", "", NOW + 1, (), None, "", "a+b", NOW, False, 1)
    return replace(row, **changes)


def grant_row(number: int = 1, **changes: Any) -> Grant:  # noqa: ANN401 - columns of the row
    """By default: the service may unwrap under any version of acme/eu/payments."""
    row = Grant(uid(800 + number), "acme", "billing", PAYMENTS, 0, ("unwrap",), "x", "a+b", NOW, NOW + 1, False, 1)
    return replace(row, **changes)


def bare(*rows: Rule | Grant) -> World:
    """A world in which the service's own row allows nothing, but these do what they do."""
    world = World()
    world.put(replace(world.client("billing"), permissions=()), *rows)
    return world
