"""No key has more than a few import parameters open: each holds a key pair in the token."""

from typing import Any

import pytest

from tests.unit.chain.imports import ASK, asked, parameters, waiting
from tests.unit.chain.world import NOW, World, uid
from worker.chain import import_room
from worker.chain.import_room import OPEN_AT_ONCE, import_paging
from worker.model.codes import Code
from worker.model.imports import ImportState
from worker.model.outcomes import Failed


def code(where: World) -> Code | None:
    (step,) = where.plan(asked(where, ASK)).steps
    return step.code if isinstance(step, Failed) else None


def full(where: World, count: int = OPEN_AT_ONCE, **changes: Any) -> World:  # noqa: ANN401 - any column
    rows = [parameters(id=uid(800 + number), **changes) for number in range(count)]
    where.put(*rows)
    page = import_paging("acme", asked(where, ASK).record.appended_ms)
    where.pages[page] = tuple(row.ref for row in rows)
    return where


def test_at_the_bound_no_more_are_opened() -> None:
    assert code(full(waiting(), OPEN_AT_ONCE - 1)) is None
    assert code(full(waiting())) is Code.TOO_MANY


@pytest.mark.parametrize(
    "changes", [{"state": ImportState.USED}, {"state": ImportState.BURNED}, {"expires_ms": NOW}, {"key": uid(9)}]
)
def test_what_is_over_or_another_keys_takes_no_place(changes: dict[str, Any]) -> None:
    assert code(full(waiting(), **changes)) is None


def test_more_than_can_be_looked_at_is_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_room, "LOOKED_AT", 3)
    assert code(full(waiting(), 3, state=ImportState.USED)) is Code.TOO_MANY
