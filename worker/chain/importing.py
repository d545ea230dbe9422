"""Bringing a key (BYOK, SECURITY S12): import parameters, imports, and what a refused one costs.

Until the token begins to decrypt, each refusal says exactly why. After that there is one code for everything, and the
refusal is counted in the same settlement that answers it: five burn the parameters.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from worker.chain.import_room import has_room
from worker.chain.keys import find, new_version
from worker.chain.lifecycle import Change
from worker.chain.plan import Case
from worker.chain.told import teller
from worker.chain.versions import retiring
from worker.chain.work import Commanding, Step
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.fields import Answer
from worker.model.hsm import (
    Fault,
    HsmFault,
    HsmResult,
)
from worker.model.ids import derived_id
from worker.model.import_ops import (
    CreateImportPair,
    ImportedMaster,
    ImportMaster,
    ImportPair,
)
from worker.model.imported import ImportFact, ImportParametersResult
from worker.model.importing import KeyImportBody, KeyImportParametersBody
from worker.model.imports import ATTEMPTS, Import, ImportState
from worker.model.outcomes import Commanded, Failed, Outcome
from worker.model.replies import KeyResult
from worker.model.rows import Key, Origin, Row, RowRef, State, Table, Version

_ENDED = {
    ImportState.USED: Code.IMPORT_USED,
    ImportState.BURNED: Code.IMPORT_BURNED,
    ImportState.EXPIRED: Code.IMPORT_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Offering(Commanding):
    """Import parameters to be given out: the token fills in the key, the fleet signs."""

    def outcome(self, result: HsmResult | None) -> Outcome:
        """The parameters."""
        if isinstance(result, ImportPair) and isinstance(self.result, ImportParametersResult):
            got = {name: getattr(result, name) for name in ("public_key", "serial", "fleet", "signature")}
            return Commanded(self.result.model_copy(update=got))
        return Commanding.outcome(self, result)

    def written(self, result: HsmResult | None) -> tuple[Row, ...]:
        """Their row."""
        if not isinstance(result, ImportPair):
            return ()
        rows = (row for row in self.rows if isinstance(row, Import))
        return tuple(replace(row, public_key=result.public_key, serial=result.serial) for row in rows)


@dataclass(frozen=True, slots=True)
class Importing(Commanding):
    """A key to be imported as `version`. Where it is refused, `counted` is put instead, and `refused` told.

    `takes_over`: the fleet made the key's material so far, so this is a provider move (S14).
    """

    counted: Import | None = None
    refused: ImportFact | None = None
    takes_over: bool = False

    def outcome(self, result: HsmResult | None) -> Outcome:
        """The key, or one code for whatever was wrong."""
        if isinstance(result, ImportedMaster):
            return Commanded(self.result)
        if _is_refusal(result):
            return Failed(Code.IMPORT_REFUSED)
        return Commanding.outcome(self, result)

    def written(self, result: HsmResult | None) -> tuple[Row, ...]:
        """The version with what the token gave, and the parameters as used; or the parameters as they are left."""
        if isinstance(result, ImportedMaster) and self.version is not None:
            return (*self.rows, replace(self.version, serial=result.serial, canary=result.canary))
        return (self.counted,) if _is_refusal(result) and self.counted is not None else ()

    def facts(self, outcome: Outcome) -> tuple[tuple[str, Answer], ...]:
        """A refusal is an event, too."""
        refused = self.tells(outcome) if isinstance(outcome, Failed) else None
        return (("keyriver.import.refused.v1", refused),) if refused else Commanding.facts(self, outcome)

    def tells(self, outcome: Outcome) -> Answer | None:
        """What became of the version, or of the parameters."""
        if isinstance(outcome, Failed) and outcome.code is Code.IMPORT_REFUSED:
            return self.refused
        return Commanding.tells(self, outcome)


def _is_refusal(result: HsmResult | None) -> bool:
    return isinstance(result, HsmFault) and result.fault is Fault.BAD_CIPHERTEXT


def offer(case: Case, body: KeyImportParametersBody) -> Step | Code:
    """Import parameters for a layer 1 key. The pair's label does not depend on when the request was sent again."""
    key = _layer_1(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    if body.algorithm not in case.limits.import_algorithms:
        return Code.IMPORT_ALGORITHM
    if not has_room(case, key.tenant, key.id):
        return Code.TOO_MANY
    material = _label(case, "import-pair")
    row = _parameters(case, key, body, material)
    result = ImportParametersResult(
        fleet="",
        tenant=key.tenant,
        key=key.id,
        parameters=row.id,
        algorithm=row.algorithm,
        public_key=b"",
        serial="",
        expires_ms=row.expires_ms,
        signature=b"",
    )
    return Offering(
        op=CreateImportPair(material, row.algorithm, row.bits),
        version=None,
        rows=(row,),
        changes=(),
        rests=(Seen(key.ref, key.revision),),
        result=result,
        event="keyriver.import.offered.v1",
        told=_fact(case, key, row, body.why),
    )


def _parameters(case: Case, key: Key, body: KeyImportParametersBody, material: UUID) -> Import:
    """Their row, before the token has made the pair."""
    return Import(
        id=derived_id(case.facts.now_ms, str(material)),
        tenant=key.tenant,
        key=key.id,
        algorithm=body.algorithm,
        bits=body.bits,
        public_key=b"",
        material=material,
        serial="",
        expires_ms=case.facts.now_ms + case.limits.import_life_ms,
        failures=0,
        state=ImportState.OPEN,
        revision=1,
    )


def accept(case: Case, body: KeyImportBody) -> Step | Code:
    """An import, in this order.

    1. The key is of layer 1 and on, and the parameters are its own, unused, not burned and not expired.
    2. The algorithm is theirs and allowed, and the blob has the one length that it can have.
    3. There is a version to fill: one without material, or a new one.
    4. The token does the rest; it is told what an earlier import of this version left.
    """
    key = _layer_1(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    row = _open(case, key, body)
    if isinstance(row, Code):  # 1
        return row
    if row.algorithm is not body.algorithm or row.algorithm not in case.limits.import_algorithms:  # 2
        return Code.IMPORT_ALGORITHM
    if len(body.blob) != row.algorithm.blob_bytes(row.bits):
        return Code.IMPORT_LENGTH
    if body.not_after_ms is not None and body.not_after_ms <= case.facts.now_ms:
        return Code.MALFORMED
    filling = _rotated(case, key, row, body) if body.rotate else _filled(case, key, row, body)  # 3
    if isinstance(filling, Code) or row.material is None:
        return filling if isinstance(filling, Code) else Code.INTEGRITY
    version = filling.version
    assert version is not None  # noqa: S101 - both ways name one
    assert version.material is not None  # noqa: S101
    op = ImportMaster(  # 4
        key=key.id,
        version=version.number,
        material=version.material,
        pair=row.material,
        public_key=row.public_key,
        algorithm=row.algorithm,
        blob=body.blob,
        check_value=bytes.fromhex(body.check_value),
        serial=row.serial,
        canary=version.canary,
    )
    return replace(filling, op=op)


def import_ref(id_: UUID) -> RowRef:
    """The row of these parameters."""
    return RowRef(Table.IMPORTS, str(id_))


def _layer_1(case: Case, tenant: str, name: str) -> Key | Code:
    key = find(case, tenant, name)
    if isinstance(key, Code):
        return key
    owner = case.facts.tenants.get(tenant)
    if owner is None:
        return Code.INTEGRITY  # the key's row names it
    if key.parent is not None:
        return Code.WRONG_LAYER
    if key.origin is Origin.EXTERNAL:
        return Code.LINKED
    return key if key.enabled and owner.enabled else Code.KEY_DISABLED


def _open(case: Case, key: Key, body: KeyImportBody) -> Import | Code:
    ref = import_ref(body.parameters)
    row = case.facts.rows.get(ref)
    if not isinstance(row, Import):
        return Code.INTEGRITY if ref in case.facts.tampered else Code.NOT_FOUND
    if (row.tenant, row.key) != (key.tenant, key.id):
        return Code.NOT_FOUND
    if row.state in _ENDED:
        return _ENDED[row.state]
    return Code.IMPORT_EXPIRED if case.facts.now_ms >= row.expires_ms else row


def _filled(case: Case, key: Key, row: Import, body: KeyImportBody) -> Importing | Code:
    """A version that has no material: the first brings its state to life, later ones leave it as it is."""
    number = key.latest_version if body.version is None else body.version
    version = case.facts.versions.get((key.id, number))
    if version is None:
        tampered = RowRef(Table.VERSIONS, f"{key.id}/{number}") in case.facts.tampered
        return Code.INTEGRITY if tampered or number <= key.latest_version else Code.NOT_FOUND
    is_first = not version.canary
    if version.state in (State.DESTROY_SCHEDULED, State.DESTROYED) or (is_first and _has_lived(key, version)):
        return Code.KEY_STATE
    if not version.absent or version.material is not None:
        return Code.EXISTS
    filled = replace(
        version,
        state=State.ACTIVE if is_first else version.state,
        material=_material(case, number),
        absent=False,
        not_after_ms=body.not_after_ms or 0,
        revision=version.revision + 1,
    )
    return _importing(case, key, row, body, version, filled, ())


def _has_lived(key: Key, version: Version) -> bool:
    """Whether it can't be the one version that waits for its first material."""
    return version.state is not State.PRE_ACTIVE or version.number != key.active_version


def _rotated(case: Case, key: Key, row: Import, body: KeyImportBody) -> Importing | Code:
    """A new version, which becomes the active one: rotation by import."""
    current = case.facts.versions.get((key.id, key.active_version))
    if current is None:
        return Code.INTEGRITY
    if body.version is not None:
        return Code.MALFORMED
    number = key.latest_version + 1
    fresh = new_version(case, key, number, 0, _material(case, number))
    fresh = replace(fresh, not_after_ms=body.not_after_ms or 0)
    retired, also = retiring(teller(case), key, current, Change.RETIRE, body.why)
    moved = replace(
        key,
        origin=Origin.IMPORTED,
        active_version=fresh.number,
        latest_version=fresh.number,
        revision=key.revision + 1,
    )
    step = _importing(case, moved, row, body, None, fresh, retired)
    seen = (Seen(key.ref, key.revision), Seen(current.ref, current.revision))
    return replace(
        step,
        rows=(*step.rows, moved, *retired),
        changes=(*step.changes, key.ref, *[one.ref for one in retired]),
        rests=(*step.rests, *seen),
        also=also,
        takes_over=key.origin is not Origin.IMPORTED,
    )


def _importing(
    case: Case, key: Key, row: Import, body: KeyImportBody, was: Version | None, now: Version, more: tuple[Version, ...]
) -> Importing:
    tells = teller(case)
    used = replace(row, state=ImportState.USED, revision=row.revision + 1)
    failures = row.failures + 1
    state = ImportState.BURNED if failures >= ATTEMPTS else row.state
    counted = replace(row, failures=failures, state=state, revision=row.revision + 1)
    seen = [Seen(row.ref, row.revision)]
    if was is not None:
        seen += [Seen(key.ref, key.revision), Seen(was.ref, was.revision)]
    return Importing(
        op=None,
        version=now,
        rows=(used,),
        changes=(row.ref, *([] if was is None else [was.ref])),
        rests=tuple(seen),
        result=KeyResult(key=tells.view(key, *more, now)),
        event="keyriver.key.imported.v1",
        told=tells.transition(key, was or now, now, body.why),
        drops=(key.id,),
        counted=counted,
        refused=_fact(case, key, counted, body.why),
    )


def _fact(case: Case, key: Key, row: Import, why: str) -> ImportFact:
    tells = teller(case)
    return ImportFact(
        tenant=row.tenant,
        key=row.key,
        alias=tells.name(key),
        parameters=row.id,
        algorithm=row.algorithm,
        expires_ms=row.expires_ms,
        state=row.state,
        failures=row.failures,
        who=tells.who,
        why=why,
        request=tells.request,
        correlation=tells.correlation,
        revision=row.revision,
    )


def _material(case: Case, number: int) -> UUID:
    """The label of the object that this very request makes as this version: another one never takes it for its own."""
    return _label(case, f"import {case.request.body_digest.hex()} {number}")


def _label(case: Case, what: str) -> UUID:
    """As `keys.derived`, but the same whenever the request is sent again: what was begun is found."""
    key = case.request.key
    return derived_id(0, key.tenant, key.client, key.source, key.id, what)
