"""The fleet's own keys: the next version of one, and what rests on each (SECURITY S5)."""

from collections.abc import Iterable
from dataclasses import replace

from worker.chain.plan import Case
from worker.chain.told import teller
from worker.chain.work import Commanding, Step
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Facts, RowPage
from worker.model.fleet import (
    FleetKey,
    FleetKeyResult,
    FleetKeyState,
    FleetKeyView,
    FleetKind,
    FleetRetireBody,
    FleetRotateBody,
    FleetShowBody,
    FleetShowResult,
)
from worker.model.hsm import CreateFleetKey
from worker.model.outcomes import Commanded
from worker.model.words import FLEET_TENANT, Table

MOST = 1000
"""Versions of all kinds together."""
ROWS = RowPage(Table.FLEET_KEYS, FLEET_TENANT, "", MOST)
"""What both commands, and every worker, ask for."""


def rotate(case: Case, body: FleetRotateBody) -> Step | Code:
    """Make the next version the active one; the one before only reads what it made.

    The number follows from the rows, so a redelivery finds the token object of its first try, and of two rotations
    that race the later one is planned anew, on the other's version.
    """
    rows = fleet_keys(case.facts)
    if rows is None:
        return Code.INTEGRITY
    if len(rows) >= MOST:
        return Code.CONFLICT
    now_ms = case.facts.now_ms
    before = max((row for row in rows if row.kind is body.kind), key=lambda row: row.number, default=None)
    number = 2 if before is None else before.number + 1
    retired = (
        _row(body.kind, 1, 0, FleetKeyState.VERIFY_ONLY)
        if before is None
        else replace(before, state=FleetKeyState.VERIFY_ONLY, revision=before.revision + 1)
    )
    made = _row(body.kind, number, now_ms, FleetKeyState.ACTIVE)
    result = _told(case, made, body.why)
    predecessor = b"" if before is None else before.public_key
    return Commanding(
        op=CreateFleetKey(body.kind, number, now_ms, predecessor),
        version=None,
        rows=(retired, made),
        changes=() if before is None else (before.ref,),
        rests=() if before is None else (Seen(before.ref, before.revision),),
        result=result,
        event="keyriver.fleet.rotated.v1",
        told=result,
    )


def retire(case: Case, body: FleetRetireBody) -> Step | Code:
    """Believe an older version of the row MAC key no more.

    Only of that key: old signatures of checkpoints are read for ever, and intake keys' private halves die by the day.
    Whoever holds a leaked version forges until then, so what could not be given another MAC must be weighed by people.
    """
    rows = fleet_keys(case.facts)
    if rows is None:
        return Code.INTEGRITY
    if body.kind is not FleetKind.ROW_MAC:
        return Code.UNSUPPORTED
    row = next((row for row in rows if (row.kind, row.number) == (body.kind, body.number)), None)
    if row is None:
        return Code.NOT_FOUND
    if row.state is not FleetKeyState.VERIFY_ONLY:
        return Code.CONFLICT
    if case.facts.rests.get((row.kind, row.number), 0) > body.leaving:
        return Code.STILL_NEEDED
    gone = replace(row, state=FleetKeyState.RETIRED, revision=row.revision + 1)
    result = _told(case, gone, body.why)
    return Commanding(
        op=None,
        version=None,
        rows=(gone,),
        changes=(row.ref,),
        rests=(Seen(row.ref, row.revision),),
        result=result,
        event="keyriver.fleet.retired.v1",
        told=result,
    )


def _told(case: Case, row: FleetKey, why: str) -> FleetKeyResult:
    says = teller(case)
    return FleetKeyResult(
        key=_view(row),
        who=says.who,
        approved_by=says.approved_by,
        why=why,
        request=says.request,
        correlation=says.correlation,
    )


def show(case: Case, body: FleetShowBody) -> Step | Code:
    """Every version, and how many rows or intake keys rest on it."""
    del body
    rows = fleet_keys(case.facts)
    if rows is None:
        return Code.INTEGRITY
    known = {(row.kind, row.number): row for row in rows}
    first = {(kind, 1): _row(kind, 1, 0, FleetKeyState.ACTIVE) for kind in FleetKind}
    every = sorted((first | known).values(), key=lambda row: (list(FleetKind).index(row.kind), row.number))
    return Commanded(FleetShowResult(keys=[_view(row, case.facts) for row in every]))


def fleet_keys(facts: Facts) -> list[FleetKey] | None:
    """The versions that rotations left; None when one of the rows can't be believed or is gone."""
    return None if any(ref.table is Table.FLEET_KEYS for ref in facts.tampered) else _of(facts.rows.values())


def _of(rows: Iterable[object]) -> list[FleetKey]:
    return [row for row in rows if isinstance(row, FleetKey)]


def _row(kind: FleetKind, number: int, since_ms: int, state: FleetKeyState) -> FleetKey:
    return FleetKey(f"{kind}/{number}", kind, number, state, since_ms, 1, FLEET_TENANT)


def _view(row: FleetKey, facts: Facts | None = None) -> FleetKeyView:
    return FleetKeyView(
        kind=row.kind,
        number=row.number,
        state=row.state,
        since_ms=row.since_ms or None,
        rests=None if facts is None or row.kind is FleetKind.SIGNING else facts.rests.get((row.kind, row.number), 0),
        public_key=row.public_key or None,
    )
