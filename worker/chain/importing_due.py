"""What becomes due of imports (S12): parameters that end, and imported material whose time is over.

Both take two steps, as a destruction does: first the row closes the way, then the token's object goes. Each may be
repeated.
"""

from dataclasses import replace

from worker.chain.due import Due, effects, teller_of
from worker.chain.leaves import ACTOR
from worker.model.effects import Seen, Settlement
from worker.model.facts import Facts
from worker.model.hsm import (
    DestroyMaster,
)
from worker.model.import_ops import (
    DestroyImportPair,
)
from worker.model.imported import ImportFact
from worker.model.imports import Import, ImportState
from worker.model.rows import Key, State, Version

MATERIAL_EXPIRED = "keyriver.key.material.expired.v1"
"""Nothing works with it any more; the token's object is still to go."""
MATERIAL_DELETED = "keyriver.key.material.deleted.v1"
IMPORT_EXPIRED = "keyriver.import.expired.v1"
IMPORT_ENDED = "keyriver.import.ended.v1"
"""The key pair is gone."""


def material_due(facts: Facts, key: Key, version: Version) -> Due | None:
    """Imported material that must go now, whatever needs it; the version's state stays, and the same may come back."""
    is_over = 0 < version.not_after_ms <= facts.now_ms and version.state is not State.DESTROYED
    if not is_over or version.material is None:
        return None
    rests, at_ms = (Seen(version.ref, version.revision),), version.not_after_ms
    tells = teller_of(facts, version, at_ms)
    if not version.absent:
        closed = replace(version, absent=True, revision=version.revision + 1)
        told = tells.transition(key, version, closed, "its time is over")
        done = effects(at_ms, key.tenant, version.ref, (closed,), ((MATERIAL_EXPIRED, told),), (key.id,))
        return Due(None, Settlement(None, None, rests, (version.ref,), done))
    gone = replace(version, material=None, serial="", not_after_ms=0, revision=version.revision + 1)
    told = tells.transition(key, version, gone, "its time is over")
    done = effects(at_ms, key.tenant, version.ref, (gone,), ((MATERIAL_DELETED, told),), ())
    op = DestroyMaster(key.id, version.number, version.material, version.serial)
    return Due(op, Settlement(None, None, rests, (version.ref,), done))


def is_closed(version: Version) -> bool:
    """Whether its imported material works no more, and its token object goes once every handle is gone (S15)."""
    return version.absent and version.material is not None and version.not_after_ms > 0


def import_due(facts: Facts, row: Import) -> Due | None:
    """Parameters whose time is over; and the key pair of any that are good for nothing more."""
    if row.material is None:
        return None
    if row.state is not ImportState.OPEN:
        gone = replace(row, material=None, revision=row.revision + 1)
        return Due(DestroyImportPair(row.material), _told(facts, row, gone, IMPORT_ENDED, "they are good for nothing"))
    if facts.now_ms < row.expires_ms:
        return None
    over = replace(row, state=ImportState.EXPIRED, revision=row.revision + 1)
    return Due(None, _told(facts, row, over, IMPORT_EXPIRED, "their time is over"))


def _told(facts: Facts, row: Import, changed: Import, event: str, why: str) -> Settlement:
    told = ((event, _fact(facts, changed, why)),)
    done = effects(row.expires_ms, row.tenant, row.ref, (changed,), told, ())
    return Settlement(None, None, (Seen(row.ref, row.revision),), (row.ref,), done)


def _fact(facts: Facts, row: Import, why: str) -> ImportFact:
    name = f"due {row.id} at {row.expires_ms}"
    return ImportFact(
        tenant=row.tenant,
        key=row.key,
        alias=min(facts.names.get(row.key, ()), default=""),
        parameters=row.id,
        algorithm=row.algorithm,
        expires_ms=row.expires_ms,
        state=row.state,
        failures=row.failures,
        who=ACTOR,
        why=why,
        request=name,
        correlation=name,
        revision=row.revision,
    )
