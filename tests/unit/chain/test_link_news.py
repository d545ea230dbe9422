"""A customer rotated his key outside: the link's row and an event say so once."""

import json
from dataclasses import replace

from tests.unit.chain.outer import LINK, outer_world
from tests.unit.chain.world import NOW
from worker.chain.link_news import ROTATED, noticed
from worker.model.effects import Announce, Leaf, PutRow, Seen


def test_another_version_outside_is_written_down_and_told() -> None:
    world = outer_world()
    done = noticed(world.facts(), LINK, "8")
    assert done is not None
    put, event, leaf = done.effects
    assert put == PutRow(replace(LINK, external_version="8", rotated_ms=NOW, revision=5))
    assert isinstance(event, Announce)
    assert isinstance(leaf, Leaf)
    said = json.loads(event.body)
    assert (event.type, said["was"], said["now"], said["alias"], said["who"]) == (ROTATED, "7", "8", "acme", "keyriver")
    assert json.loads(leaf.body)["told"] == said
    assert (done.seen, done.changes) == ((Seen(LINK.ref, 4),), (LINK.ref,))
    assert noticed(world.facts(), LINK, "8") == done, "who else noticed it says the same"


def test_what_is_known_is_not_told_again() -> None:
    assert noticed(outer_world().facts(), LINK, "7") is None
