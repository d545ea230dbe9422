"""Whether the way up from a key leads to a token of the key's region (S19)."""

from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import Facts
from worker.model.hsm import Kek
from worker.model.rows import Region, RowRef, Table


def bound(facts: Facts, region: str, parent: Kek) -> tuple[Seen, ...] | Code:
    """The row that says which tokens the region is, if the L1 above `parent` is in one of them. Deny on doubt."""
    if not region:
        return ()
    ref = RowRef(Table.REGIONS, region)
    row = facts.rows.get(ref)
    if not isinstance(row, Region):
        return Code.INTEGRITY if ref in facts.tampered else Code.WRONG_REGION
    root = parent
    while root.parent is not None:
        root = root.parent
    return (Seen(ref, row.revision),) if root.serial in row.serials else Code.WRONG_REGION
