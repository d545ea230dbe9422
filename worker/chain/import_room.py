"""How many import parameters of one key may be open: each is an RSA key pair in the token until its day is over."""

from uuid import UUID

from worker.chain.plan import Case
from worker.model.facts import RowPage
from worker.model.imports import Import, ImportState
from worker.model.rows import Table

OPEN_AT_ONCE = 10
LONGEST_MS = 8 * 24 * 3_600_000
"""Parameters that were made before are over."""
LOOKED_AT = 500


def import_paging(tenant: str, appended_ms: int) -> RowPage:
    """The tenant's parameters that may still be open when a request of this time is decided; ids tell their time."""
    begun = max(0, appended_ms - LONGEST_MS)
    return RowPage(Table.IMPORTS, tenant, str(UUID(int=begun << 80)), LOOKED_AT)


def has_room(case: Case, tenant: str, key: UUID) -> bool:
    """Whether one more may be opened. Requests that race for the last place may each get one."""
    found = case.facts.pages.get(import_paging(tenant, case.request.record.appended_ms), ())
    rows = [row for ref in found if isinstance(row := case.facts.rows.get(ref), Import) and row.key == key]
    still = [row for row in rows if row.state is ImportState.OPEN and case.facts.now_ms < row.expires_ms]
    return len(still) < OPEN_AT_ONCE and len(found) < LOOKED_AT
