"""`keyriver key disable --region`: the topmost keys of a region, and one report of several."""

from uuid import UUID

import pytest

from worker.cli import obey
from worker.cli.errors import Refused
from worker.cli.pages import R
from worker.cli.retreat import every_key, retreat, together, topmost
from worker.model.bodies import CommandBody, KeyListBody
from worker.model.control import KeyDisableBody
from worker.model.hsm import Purpose
from worker.model.operations import Operation
from worker.model.replies import CommandResult, DisableResult, KeyListResult, KeyView
from worker.model.rows import Origin
from worker.model.views import Blast, BlastLayer, BlastService


def key(number: int, parent: int | None, region: str) -> KeyView:
    return KeyView(
        id=UUID(int=number),
        tenant="acme",
        alias=f"acme/{number}",
        parent=None if parent is None else UUID(int=parent),
        layer=1,
        purpose=Purpose.WRAPS_KEYS,
        origin=Origin.GENERATED,
        region=region,
        enabled=True,
        active_version=1,
    )


KEYS = [key(1, None, ""), key(2, 1, "eu"), key(3, 1, "us"), key(4, 1, "us"), key(5, 3, "us"), key(6, 2, "eu")]


class Fleet:
    """Answers as the fleet does, two keys a page; one key is made while the others are being disabled."""

    def __init__(self) -> None:
        self.keys = {one.id: one for one in KEYS}
        self.pressed: list[tuple[UUID, bool]] = []

    async def ask(self, operation: Operation, body: CommandBody, kind: type[R]) -> R:
        result = self._answer(body)
        assert isinstance(result, kind), operation
        return result

    def _answer(self, body: CommandBody) -> CommandResult:
        if isinstance(body, KeyListBody):
            left = [one for one in self.keys.values() if body.after is None or one.id > body.after]
            return KeyListResult(keys=left[:2], more=len(left) > 2)
        assert isinstance(body, KeyDisableBody)
        id_ = UUID(body.key)
        self.pressed.append((id_, body.dry_run))
        if not body.dry_run:
            self.keys[id_] = self.keys[id_].model_copy(update={"enabled": False, "disabled_revision": 2})
            late = key(7, 1, "us")
            self.keys.setdefault(late.id, late)
        return DisableResult(key=self.keys[id_], blast=Blast(tenant="acme", layers=[], services=[], more=0))


def test_the_topmost_keys_of_a_region() -> None:
    assert topmost(KEYS, "us") == [KEYS[2], KEYS[3]]
    assert topmost(KEYS, "asia") == []


async def test_all_pages_are_read() -> None:
    assert await every_key(Fleet(), "acme") == KEYS


async def test_a_dry_run_presses_nothing() -> None:
    fleet = Fleet()
    told = await retreat(fleet, "acme", "us", dry_run=True, why="")
    assert [one.key.id for one in told] == [KEYS[2].id, KEYS[3].id]
    assert fleet.pressed == [(KEYS[2].id, True), (KEYS[3].id, True)]


async def test_what_was_made_meanwhile_is_stopped_too_and_what_is_off_stays_as_it_is() -> None:
    fleet = Fleet()
    told = await retreat(fleet, "acme", "us", dry_run=False, why="a court order")
    assert [one.key.id.int for one in told] == [3, 4, 7]
    assert await retreat(fleet, "acme", "us", dry_run=False, why="") == []


async def test_a_region_without_keys_is_refused() -> None:
    with pytest.raises(Refused, match="no key of acme is bound to the region asia"):
        await retreat(Fleet(), "acme", "asia", dry_run=False, why="")


def test_several_reports_are_one() -> None:
    def blast(deks: int, more: int) -> Blast:
        counts = {"keys": 1, "versions": 2, "deks": deks, "issued_outside": 1}
        service = BlastService(key=UUID(int=deks), alias="a", region="us", deks=deks, issued_outside=0)
        layers = [BlastLayer(layer=layer, region="us", **counts) for layer in (2, 3)]
        return Blast(tenant="acme", layers=layers, services=[service], more=more)

    whole = together([blast(1, 0), blast(5, 2)], "acme")
    assert [(one.layer, one.keys, one.versions, one.deks, one.issued_outside) for one in whole.layers] == [
        (2, 2, 4, 6, 2),
        (3, 2, 4, 6, 2),
    ]
    assert ([one.deks for one in whole.services], whole.more) == ([5, 1], 2)


@pytest.mark.parametrize("words", [[], ["a/b", "--region", "us"], ["--region", "us"]])
def test_a_switch_is_a_keys_or_a_regions(words: list[str]) -> None:
    assert obey(["key", "disable", *words]) == 2
