"""What becomes due of imports: each step by the row alone, repeatable, and told."""

from dataclasses import replace

import pytest

from tests.unit.chain.imports import parameters
from tests.unit.chain.test_due import rows, types
from tests.unit.chain.world import NOW, ROOT, World
from worker.chain.due import Due, version_due
from worker.chain.importing_due import import_due, material_due
from worker.model.facts import Needs
from worker.model.hsm import DestroyMaster
from worker.model.import_ops import DestroyImportPair
from worker.model.imports import Import, ImportState
from worker.model.rows import State, Version


def material(world: World) -> Due | None:
    facts = world.facts()
    return material_due(facts, facts.keys[ROOT], world.version(ROOT))


def over() -> World:
    world = World()
    world.put(replace(world.version(ROOT), not_after_ms=NOW, canary=b"c"))
    return world


def test_material_goes_in_two_steps_and_the_version_stays() -> None:
    world = over()
    first = material(world)
    assert first == material(world), "done again, it has the same ids"
    (closed,) = rows(first)
    assert isinstance(closed, Version)
    assert (closed.absent, closed.material, closed.state) == (True, world.version(ROOT).material, State.ACTIVE)
    assert types(first) == ["keyriver.key.material.expired.v1", "keyriver.hint.v1"]
    world.put(closed)
    second = material(world)
    assert second is not None
    assert closed.material is not None
    assert second.op == DestroyMaster(ROOT, 1, closed.material, "token-1")
    (gone,) = rows(second)
    assert isinstance(gone, Version)
    assert (gone.absent, gone.material, gone.serial, gone.not_after_ms) == (True, None, "", 0)
    assert (gone.canary, gone.state) == (b"c", State.ACTIVE)
    assert types(second) == ["keyriver.key.material.deleted.v1"]
    world.put(gone)
    assert material(world) is None


@pytest.mark.parametrize("changes", [{"not_after_ms": 0}, {"not_after_ms": NOW + 1}, {"state": State.DESTROYED}])
def test_other_material_stays(changes: dict[str, object]) -> None:
    world = over()
    world.put(replace(world.version(ROOT), **changes))  # type: ignore[arg-type]
    assert material(world) is None


def test_a_destruction_ends_the_other_clock() -> None:
    world = over()
    world.needs = {(ROOT, 1): Needs()}
    world.put(replace(world.version(ROOT), state=State.DESTROY_SCHEDULED, due_ms=NOW, prior=State.DEACTIVATED))
    facts = world.facts()
    (row,) = rows(version_due(facts, facts.keys[ROOT], world.version(ROOT), 1))
    assert isinstance(row, Version)
    assert (row.state, row.not_after_ms) == (State.DESTROYED, 0)


def test_parameters_end_and_their_pair_goes() -> None:
    facts, row = World().facts(), parameters(expires_ms=NOW)
    (expired,) = rows(import_due(facts, row))
    assert isinstance(expired, Import)
    assert (expired.state, types(import_due(facts, row))) == (ImportState.EXPIRED, ["keyriver.import.expired.v1"])
    assert row.material is not None
    for state in (ImportState.EXPIRED, ImportState.USED, ImportState.BURNED):
        found = import_due(facts, replace(expired, state=state))
        assert found is not None
        assert found.op == DestroyImportPair(row.material)
        (gone,) = rows(found)
        assert isinstance(gone, Import)
        assert (gone.material, gone.state, types(found)) == (None, state, ["keyriver.import.ended.v1"])
        assert import_due(facts, gone) is None
    assert import_due(facts, parameters()) is None
