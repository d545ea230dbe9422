"""The red button: a key's switch, and what hangs on it (DESIGN, "States")."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from worker.chain.keys import find
from worker.chain.plan import Case
from worker.chain.told import teller
from worker.chain.work import Commanding, Step
from worker.model.codes import Code
from worker.model.control import KeyDisableBody, KeyEnableBody
from worker.model.effects import Seen
from worker.model.facts import Below
from worker.model.outcomes import Commanded
from worker.model.replies import DisableResult, KeyResult
from worker.model.views import Blast, BlastLayer, BlastService

SHOWN = 100
"""So many service keys stand in a report by name, those with the most DEKs first."""


def disable(case: Case, body: KeyDisableBody) -> Step | Code:
    """Nothing under the key works from the next settle on. A dry run changes nothing.

    Pressing again is a disable of its own: an enable that waits for the first one must not lift the second.
    """
    key = find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    tells = teller(case)
    blast = blast_of(key.tenant, case.facts.below.get(key.id, ()))
    if body.dry_run:
        press = f"keyriver key disable {body.key} --tenant {body.tenant}"
        return Commanded(DisableResult(key=tells.view(key), blast=blast, press=press))
    off = replace(key, enabled=False, disabled_revision=key.revision + 1, revision=key.revision + 1)
    told = tells.transition(key, key, off, body.why, blast=blast)
    result = DisableResult(key=tells.view(off), blast=blast)
    seen = Seen(key.ref, key.revision)
    return Commanding(
        op=None,
        version=None,
        rows=(off,),
        changes=(key.ref,),
        rests=(seen,),
        result=result,
        event="keyriver.key.disabled.v1",
        told=told,
        drops=(key.id,),
    )


def enable(case: Case, body: KeyEnableBody) -> Step | Code:
    """Lift the disable that the body names by its revision: a later disable is not lifted by an older decision."""
    key = find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    if key.enabled or key.disabled_revision != body.revision:
        return Code.CONFLICT
    on = replace(key, enabled=True, disabled_revision=0, revision=key.revision + 1)
    tells = teller(case)
    seen = Seen(key.ref, key.revision)
    return Commanding(
        op=None,
        version=None,
        rows=(on,),
        changes=(key.ref,),
        rests=(seen,),
        result=KeyResult(key=tells.view(on)),
        event="keyriver.key.enabled.v1",
        told=tells.transition(key, key, on, body.why),
    )


def blast_of(tenant: str, below: Sequence[Below]) -> Blast:
    """The report: sums per layer and region, and the service keys that hold most."""
    keys: Counter[tuple[int, str]] = Counter()
    versions: Counter[tuple[int, str]] = Counter()
    deks: Counter[tuple[int, str]] = Counter()
    outside: Counter[tuple[int, str]] = Counter()
    for one in below:
        place = one.layer, one.region
        keys[place] += 1
        versions[place] += one.versions
        deks[place] += one.deks
        outside[place] += one.issued_outside
    layers = [
        BlastLayer(
            layer=place[0],
            region=place[1],
            keys=count,
            versions=versions[place],
            deks=deks[place],
            issued_outside=outside[place],
        )
        for place, count in sorted(keys.items())
    ]
    services = sorted((one for one in below if one.wraps_deks), key=lambda one: (-one.deks, one.alias, one.key))
    shown = [
        BlastService(key=one.key, alias=one.alias, region=one.region, deks=one.deks, issued_outside=one.issued_outside)
        for one in services[:SHOWN]
    ]
    return Blast(tenant=tenant, layers=layers, services=shown, more=len(services) - len(shown))
