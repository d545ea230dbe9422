"""Rows are believed only with their MAC, and the token is asked once per change (S7)."""

from dataclasses import replace
from typing import Any, cast

import pytest

from tests.unit.flow_events.letters import identity, row
from worker.edges.hsm.fake import FakeToken
from worker.flow.trust import Trust
from worker.model.facts import Answer, StoredRow
from worker.model.hsm import Purpose, Wrapping
from worker.model.ids import NO_ID, derived_id
from worker.model.rows import Alias, IntakeKey, Key, Origin, Row, State, Suite, Tenant, Version
from worker.ports import FleetKeys, Mac, TokenUnavailable
from worker.seal.rowmac import mac_input

KEY, OTHER = derived_id(1, "key"), derived_id(1, "other")
ROWS: list[Row] = [
    Tenant("acme", 3, Suite.P256, enabled=True, revision=1),
    Key(KEY, "acme", None, 1, Purpose.WRAPS_KEYS, Origin.GENERATED, "", True, 1, 1, 1),
    Version(KEY, 1, State.ACTIVE, Wrapping.TOKEN, b"", 0, NO_ID, "serial", 5, 1),
    Alias("acme", "acme", KEY, 1),
    row(identity()),
    IntakeKey(8, Suite.X25519, bytes(32), b"wrapped", 0, 1, 1),
]
EDITS: list[tuple[int, str, Any]] = [
    (0, "enabled", False),
    (0, "layers", 2),
    (1, "tenant", "globex"),
    (1, "enabled", False),
    (1, "active_version", 2),
    (1, "purpose", Purpose.WRAPS_DEKS),
    (2, "state", State.DEACTIVATED),
    (2, "material", KEY),
    (2, "number", 2),
    (3, "key", OTHER),
    (3, "name", "globex"),
    (4, "pattern", "x"),
    (4, "revoked", True),
    (4, "public_key", bytes(32)),
    (4, "not_after_ms", 2**50),
    (4, "permissions", ("wrap", "unwrap")),
    (5, "public_key", b"\1" * 32),
    (5, "not_after_ms", 2),
    *((index, "revision", 9) for index in range(6)),
]


class Counting:
    """The fleet's keys of a token in memory, counting what is asked."""

    def __init__(self) -> None:
        self.token = FakeToken()
        self.asked = 0
        self.retired = self.token.fleet_keys.retired

    async def verify(self, messages: list[bytes], macs: list[Mac]) -> list[bool]:
        self.asked += len(messages)
        return await self.token.fleet_keys.verify(messages, macs)

    @property
    def keys(self) -> FleetKeys:
        """`Trust` only verifies."""
        return cast("FleetKeys", self)


async def stored(keys: Counting, rows: list[Row]) -> list[StoredRow]:
    macs = await keys.token.fleet_keys.mac([mac_input(one) for one in rows])
    return [StoredRow(one, mac.version, mac.value) for one, mac in zip(rows, macs, strict=True)]


def answer(rows: list[StoredRow]) -> Answer:
    return Answer(1, {}, tuple(rows), {})


async def test_good_rows_are_facts_and_are_asked_about_once() -> None:
    keys = Counting()
    trust, rows = Trust(keys.keys), await stored(keys, ROWS)
    for _ in range(3):
        facts = await trust.verified(answer(rows))
        assert not facts.tampered
        assert facts.tenants["acme"] == ROWS[0]
        assert facts.keys[KEY] == ROWS[1]
        assert facts.versions[KEY, 1] == ROWS[2]
        assert (facts.aliases["acme"], facts.names[KEY]) == (ROWS[3], ("acme",))
        assert facts.clients["billing"] == ROWS[4]
        assert facts.intake_keys[8] == ROWS[5]
    assert keys.asked == len(ROWS)


@pytest.mark.parametrize(("index", "column", "value"), EDITS, ids=[f"{i}.{column}" for i, column, _ in EDITS])
async def test_an_edited_row_is_named_and_nothing_else(index: int, column: str, value: object) -> None:
    keys = Counting()
    trust, rows = Trust(keys.keys), await stored(keys, ROWS)
    await trust.verified(answer(rows))
    edited: Any = replace(cast("Any", rows[index].row), **{column: cast("Any", value)})
    rows[index] = replace(rows[index], row=edited)
    for _ in range(2):  # what failed is not remembered as anything
        facts = await trust.verified(answer(rows))
        assert facts.tampered == {rows[index].row.ref}
        believed = [*facts.tenants.values(), *facts.keys.values(), *facts.versions.values(), *facts.aliases.values()]
        assert rows[index].row not in [*believed, *facts.clients.values(), *facts.intake_keys.values()]
    assert keys.asked == len(ROWS) + 2


async def test_a_mac_of_another_row_or_version_or_table_is_none() -> None:
    keys = Counting()
    trust, rows = Trust(keys.keys), await stored(keys, ROWS)
    swapped = [replace(one, mac=rows[index - 1].mac) for index, one in enumerate(rows)]
    assert len((await trust.verified(answer(swapped))).tampered) == len(ROWS)
    unknown = [replace(one, mac_version=99) for one in rows]
    assert len((await trust.verified(answer(unknown))).tampered) == len(ROWS)
    empty = [replace(one, mac=b"") for one in rows]
    assert len((await trust.verified(answer(empty))).tampered) == len(ROWS)


async def test_without_the_token_nothing_new_is_believed() -> None:
    keys = Counting()
    trust, rows = Trust(keys.keys), await stored(keys, ROWS)
    await trust.verified(answer(rows[:3]))
    keys.token.away = True
    assert len((await trust.verified(answer(rows[:3]))).tenants) == 1
    with pytest.raises(TokenUnavailable):
        await trust.verified(answer(rows))
