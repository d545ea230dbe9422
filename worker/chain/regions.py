"""Regions are tokens (S19): a key that is bound to one may only stand under an L1 in one of its tokens."""

from dataclasses import replace

from worker.chain.listed import next_after, unbelieved
from worker.chain.plan import Case
from worker.chain.told import teller
from worker.chain.work import Commanding, Step
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import RowPage
from worker.model.outcomes import Commanded
from worker.model.regional import (
    RegionChange,
    RegionListBody,
    RegionListResult,
    RegionResult,
    RegionSetBody,
    RegionView,
)
from worker.model.rows import FLEET_TENANT, Region, RowRef, Table


def set_region(case: Case, body: RegionSetBody) -> Step | Code:
    """The region is these tokens from now on: a new row, or the next revision of the one that stands."""
    ref = region_ref(body.region)
    if ref in case.facts.tampered:
        return Code.INTEGRITY
    before = case.facts.rows.get(ref)
    serials = tuple(sorted(set(body.serials)))
    if isinstance(before, Region):
        row = replace(before, serials=serials, revision=before.revision + 1)
    else:
        row = Region(body.region, FLEET_TENANT, serials, 1)
    tells = teller(case)
    told = RegionChange(
        region=row.id,
        was=list(before.serials) if isinstance(before, Region) else [],
        now=list(serials),
        who=tells.who,
        approved_by=tells.approved_by,
        why=body.why,
        request=tells.request,
        correlation=tells.correlation,
        revision=row.revision,
    )
    return Commanding(
        op=None,
        version=None,
        rows=(row,),
        changes=(ref,) if isinstance(before, Region) else (),
        rests=(Seen(ref, row.revision - 1),),
        result=RegionResult(set_region=_view(row)),
        event="keyriver.region.changed.v1",
        told=told,
    )


def list_page(case: Case, body: RegionListBody) -> Step | Code:
    """One page. One more than the limit is read, to know whether there are others."""
    found = case.facts.pages.get(region_paging(body), ())
    shown, more = found[: body.limit], len(found) > body.limit
    rows = [case.facts.rows.get(ref) for ref in shown]
    views = [_view(row) for row in rows if isinstance(row, Region)]
    return Commanded(
        RegionListResult(
            regions=views, more=more, tampered=unbelieved(case.facts, shown), next_after=next_after(shown, more=more)
        )
    )


def region_paging(body: RegionListBody) -> RowPage:
    """The page that this body asks for."""
    return RowPage(Table.REGIONS, "", body.after, body.limit + 1)


def region_ref(name: str) -> RowRef:
    """The row of this region."""
    return RowRef(Table.REGIONS, name)


def _view(row: Region) -> RegionView:
    return RegionView(region=row.id, serials=list(row.serials), revision=row.revision)
