"""Facts about keys as they are told: in events, in answers and on the audit trail."""

from dataclasses import dataclass

from worker.chain.plan import Case
from worker.chain.views import key_view
from worker.model.facts import Facts
from worker.model.fields import Reason
from worker.model.replies import KeyView, Transition
from worker.model.rows import Key, State, Version
from worker.model.views import Blast, Destruction


@dataclass(frozen=True, slots=True)
class Teller:
    """On whose behalf something happens, by which request, and what is known of the keys."""

    facts: Facts
    who: str
    approved_by: str | None
    request: str
    correlation: str

    def name(self, key: Key) -> str:
        """The key's first alias, or nothing."""
        return min(self.facts.names.get(key.id, ()), default="")

    def view(self, key: Key, *changed: Version) -> KeyView:
        """The key with all its known versions, as they stand after the change."""
        put = {version.number: version for version in changed}
        known = {number: row for (owner, number), row in self.facts.versions.items() if owner == key.id}
        return key_view(key, self.facts.names.get(key.id, ()), (known | put).values())

    def transition(
        self,
        key: Key,
        was: Version | Key,
        now: Version | Key,
        why: str,
        *,
        reason: Reason | None = None,
        blast: Blast | None = None,
        destruction: Destruction | None = None,
    ) -> Transition:
        """What became of a version, or of the key's switch; `now` is the row as it will stand."""
        return Transition(
            tenant=key.tenant,
            key=key.id,
            alias=self.name(key),
            version=now.number if isinstance(now, Version) else None,
            was=_state(was),
            now=_state(now),
            who=self.who,
            approved_by=self.approved_by,
            reason=reason,
            why=why,
            request=self.request,
            correlation=self.correlation,
            revision=now.revision,
            blast=blast,
            destruction=destruction,
        )


def teller(case: Case) -> Teller:
    """Who acts in this case: the officer who asked, and the one who approved."""
    correlation = case.request.route.correlation or case.request.key.id
    if case.approval is None:
        return Teller(case.facts, case.client.id, None, case.request.key.id, correlation)
    return Teller(case.facts, case.approval.asked_by, case.client.id, case.approval.request, correlation)


def _state(row: Version | Key) -> str:
    if isinstance(row, Key):
        return "enabled" if row.enabled else "disabled"
    if row.absent:
        return f"{row.state.value}, without material"
    waits = row.state is State.PRE_ACTIVE and row.due_ms
    return f"{row.state.value}, due" if waits else row.state.value
