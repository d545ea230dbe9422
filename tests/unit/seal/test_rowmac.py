"""The MAC covers every column of every row, and no two rows share their bytes."""

from dataclasses import dataclass, fields, make_dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.model.campaigns import CampaignKind, CampaignState
from worker.model.fleet import FleetKey, FleetKeyState, FleetKind
from worker.model.hsm import Purpose, Wrapping
from worker.model.imports import Import, ImportAlgorithm, ImportState
from worker.model.keystores import Provider
from worker.model.rows import (
    Algorithm,
    Alias,
    Approval,
    ApprovalState,
    Campaign,
    Client,
    Grant,
    IntakeKey,
    Key,
    Link,
    Origin,
    Quota,
    Region,
    Role,
    Row,
    Rule,
    State,
    Suite,
    Table,
    Tenant,
    Version,
)
from worker.model.triggers import Occasion, TriggerAction, TriggerRule
from worker.model.words import LinkState
from worker.seal import rowmac

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
ROWS: list[Row] = [
    TriggerRule(
        "acme/y", "acme", Occasion.KEY_AGE, "*", TriggerAction.ROTATE, 60, 0, 100, "", "alice+bob", 1, False, 1
    ),
    Tenant("acme", 3, Suite.X25519, True, 1),
    Key(ID, "acme", None, 1, Purpose.WRAPS_KEYS, Origin.GENERATED, "", True, 1, 1, 1),
    Version(ID, 1, State.ACTIVE, Wrapping.AES_KWP, b"wrapped", 1, None, "", 1_700_000_000_000, 1),
    Alias("acme/eu", "acme", ID, 1),
    Client(
        "payments",
        "acme",
        Role.SERVICE,
        Algorithm.ED25519,
        b"key",
        ("wrap", "unwrap"),
        "acme/*",
        ("r",),
        None,
        b"",
        9,
        False,
        "root",
        1,
    ),
    IntakeKey(1, Suite.P256, b"public", b"wrapped", 1, 2, 1),
    FleetKey("signing/2", FleetKind.SIGNING, 2, FleetKeyState.ACTIVE, 1, 1, "fleet"),
    Approval(ID, "acme", "key.enable", b"{}", "ann", "r1", 1, 2, ("keys x 1",), ApprovalState.PENDING, "", 1),
    Region("eu", "fleet", ("4b1f", "77"), 1),
    Campaign(
        id=ID,
        tenant="acme",
        key=ID,
        from_version=1,
        to_version=2,
        kind=CampaignKind.SHALLOW,
        state=CampaignState.RUNNING,
        parent=None,
        compromised=False,
        items=10,
        items_s=0,
        hsm_share=100,
        round=1,
        after=ID,
        upto=ID,
        asked_by="ann",
        why="",
        created_ms=1,
        started_ms=1,
        ended_ms=0,
        certificate=b"",
        revision=1,
    ),
    Link(ID, "acme", ID, 1, Provider.XKS, "https://k.example", "k1", "c", LinkState.LINKED, ID, "s", "v", True, 1, 1),
    Import(ID, "acme", ID, ImportAlgorithm.RSAES_OAEP_SHA_256, 3072, b"p", ID, "s", 9, 1, ImportState.OPEN, 2),
    Rule(ID, "acme", "billing", ("wrap",), "acme/*", "eu", 9, ("table",), None, "why", "ann+ben", 1, False, 1),
    Grant(ID, "acme", "billing", ID, 1, ("unwrap",), "why", "ann+ben", 1, 2, False, 1),
    Quota("acme/billing", "acme", "billing", 10, 20, "why", "ann", 1),
]


def other(value: Any) -> Any:  # noqa: ANN401 - one line a kind
    """A value of the same kind, but not the same."""
    match value:
        case bool():
            return not value
        case StrEnum():
            return next(one for one in type(value) if one is not value)
        case None:
            return ID
        case UUID():
            return UUID(int=7)
        case tuple():
            return (*value, "")
        case bytes():
            return value + b"\x00"
        case _:
            return value + type(value)(1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_every_column_counts(row: Row) -> None:
    seen = {rowmac.mac_input(row)}
    for column in fields(row):
        changed: Any = replace(row, **{column.name: other(getattr(row, column.name))})
        seen.add(rowmac.mac_input(changed))
    assert len(seen) == 1 + len(fields(row))


def test_every_kind_of_row_is_tried_here() -> None:
    assert {type(row).TABLE for row in ROWS} == set(Table)


TEXT = st.text(max_size=3)
BYTES = st.binary(max_size=3)
SMALL = st.integers(-1, 300)
IDS = st.sampled_from([ID, UUID(int=0)])
ANY_ROW: st.SearchStrategy[Row] = st.one_of(
    st.builds(Tenant, TEXT, SMALL, st.sampled_from(Suite), st.booleans(), SMALL),
    st.builds(Alias, TEXT, TEXT, IDS, SMALL),
    st.builds(
        Version,
        IDS,
        SMALL,
        st.sampled_from(State),
        st.sampled_from(Wrapping),
        BYTES,
        SMALL,
        st.none() | IDS,
        TEXT,
        SMALL,
        SMALL,
    ),
    st.builds(IntakeKey, SMALL, st.sampled_from(Suite), BYTES, BYTES, SMALL, SMALL, SMALL),
    st.builds(
        Client,
        TEXT,
        TEXT,
        st.sampled_from(Role),
        st.sampled_from(Algorithm),
        BYTES,
        st.lists(TEXT, max_size=3).map(tuple),
        TEXT,
        st.lists(TEXT, max_size=3).map(tuple),
        st.none() | st.sampled_from(Suite),
        BYTES,
        SMALL,
        st.booleans(),
        TEXT,
        SMALL,
    ),
)


@settings(max_examples=300)
@given(ANY_ROW, ANY_ROW)
def test_no_two_rows_share_their_bytes(one: Row, another: Row) -> None:
    assert (rowmac.mac_input(one) == rowmac.mac_input(another)) == (one == another)


def test_a_column_added_later_leaves_older_rows_their_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True)
    class Before:
        TABLE: ClassVar[Table] = Table.ALIASES
        name: str
        tenant: str

    after = make_dataclass(
        "After", [("note", str, "")], bases=(Before,), namespace={"TABLE": Table.ALIASES}, frozen=True, slots=True
    )
    for kind in (Before, after):
        monkeypatch.setitem(rowmac._COLUMNS, kind, rowmac._columns(kind))
    old: Any = Before("acme/eu", "acme")
    assert rowmac.mac_input(old) == rowmac.mac_input(after("acme/eu", "acme"))
    assert rowmac.mac_input(old) != rowmac.mac_input(after("acme/eu", "acme", "changed"))
