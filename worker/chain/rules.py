"""Commands on rules and grants: allow, give, revoke, list, and the dry run that says what a client may do."""

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from worker.chain import keys, policy
from worker.chain.clients import enrolled_by, find_client
from worker.chain.lifecycle import Use
from worker.chain.listed import next_after, unbelieved
from worker.chain.plan import Case
from worker.chain.policy import Licence, Shown
from worker.chain.resolve import USES, Usable
from worker.chain.told import teller
from worker.chain.views import grant_view, rule_view
from worker.chain.work import Commanding, Step
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.facts import RowPage
from worker.model.operations import Permission
from worker.model.outcomes import Commanded
from worker.model.policies import (
    CheckResult,
    GrantGiveBody,
    GrantListBody,
    GrantListResult,
    GrantResult,
    GrantRevokeBody,
    PolicyAllowBody,
    PolicyChange,
    PolicyCheckBody,
    PolicyListBody,
    PolicyRevokeBody,
    RuleListResult,
    RuleResult,
)
from worker.model.rows import Client, Grant, Key, Role, RowRef, Rule, Suite, Table

MOST = 100
"""Rules, and grants, in force for one client: all of them are read with each of its batches."""


def allow(case: Case, body: PolicyAllowBody) -> Step | Code:
    """Add a rule. It rests on the client's row."""
    client = _service(case, body.tenant, body.client)
    if isinstance(client, Code):
        return client
    if body.not_after_ms <= case.facts.now_ms:
        return Code.MALFORMED
    if _in_force(case, client, Rule) >= MOST:
        return Code.TOO_MANY
    rule = Rule(
        id=keys.derived(case, "rule"),
        tenant=client.tenant,
        client=client.id,
        permissions=tuple(dict.fromkeys(one.value for one in body.permissions)),
        pattern=body.pattern,
        region=body.region,
        not_after_ms=body.not_after_ms,
        context_keys=tuple(dict.fromkeys(body.context_keys)),
        minimum_suite=body.minimum_suite,
        why=body.why,
        enrolled_by=enrolled_by(case),
        created_ms=case.facts.now_ms,
        revoked=False,
        revision=1,
    )
    return _put(case, rule, (Seen(client.ref, client.revision),), "keyriver.rule.added.v1", body.why)


def give(case: Case, body: GrantGiveBody) -> Step | Code:
    """Give a grant; its time begins now, so what waited for a second officer has not lost any of it."""
    client = _service(case, body.tenant, body.client)
    if isinstance(client, Code):
        return client
    key = keys.find(case, body.tenant, body.key)
    if isinstance(key, Code):
        return key
    if body.version is not None and body.version > key.latest_version:
        return Code.NOT_FOUND
    if not policy.GRANTABLE.issuperset(body.permissions):
        return Code.MALFORMED
    if _in_force(case, client, Grant) >= MOST:
        return Code.TOO_MANY
    grant = Grant(
        id=keys.derived(case, "grant"),
        tenant=client.tenant,
        client=client.id,
        key=key.id,
        version=body.version or 0,
        permissions=tuple(dict.fromkeys(one.value for one in body.permissions)),
        why=body.why,
        given_by=enrolled_by(case),
        given_ms=case.facts.now_ms,
        not_after_ms=case.facts.now_ms + body.for_s * 1000,
        revoked=False,
        revision=1,
    )
    rests = (Seen(client.ref, client.revision), Seen(key.ref, key.revision))
    return _put(case, grant, rests, "keyriver.grant.given.v1", body.why)


def revoke(case: Case, body: PolicyRevokeBody | GrantRevokeBody) -> Step | Code:
    """Take a rule or a grant back, for ever; doing it again changes nothing and is no error."""
    ref = licence_ref(body)
    row = case.facts.rows.get(ref)
    if not isinstance(row, Rule | Grant):
        return Code.INTEGRITY if ref in case.facts.tampered else Code.NOT_FOUND
    if row.tenant != body.tenant:
        return Code.NOT_FOUND
    if row.revoked:
        return Commanded(_result(row))
    event = "keyriver.rule.revoked.v1" if isinstance(row, Rule) else "keyriver.grant.revoked.v1"
    changed = replace(row, revoked=True, revision=row.revision + 1)
    return _put(case, changed, (Seen(ref, row.revision),), event, body.why, (ref,))


def licence_ref(body: PolicyRevokeBody | GrantRevokeBody) -> RowRef:
    """The row that a command would take back."""
    if isinstance(body, PolicyRevokeBody):
        return RowRef(Table.RULES, str(body.rule))
    return RowRef(Table.GRANTS, str(body.grant))


def list_page(case: Case, body: PolicyListBody | GrantListBody) -> Step | Code:
    """One page of a tenant's rules or grants, the revoked and the ended too; of one client only, if it is named."""
    if body.tenant not in case.facts.tenants:
        return Code.NOT_FOUND
    found = case.facts.pages.get(licence_paging(body), ())
    shown, more = found[: body.limit], len(found) > body.limit
    rows = [case.facts.rows.get(ref) for ref in shown]
    after, tampered = UUID(shown[-1].key) if shown else None, unbelieved(case.facts, shown)
    if isinstance(body, PolicyListBody):
        rules = [rule_view(row) for row in rows if isinstance(row, Rule) and body.client in (None, row.client)]
        return Commanded(
            RuleListResult(
                rules=rules, after=after, more=more, tampered=tampered, next_after=next_after(shown, more=more)
            )
        )
    grants = [grant_view(row) for row in rows if isinstance(row, Grant) and body.client in (None, row.client)]
    return Commanded(
        GrantListResult(
            grants=grants, after=after, more=more, tampered=tampered, next_after=next_after(shown, more=more)
        )
    )


def licence_paging(body: PolicyListBody | GrantListBody) -> RowPage:
    """The page that this body asks for."""
    table = Table.RULES if isinstance(body, PolicyListBody) else Table.GRANTS
    return RowPage(table, body.tenant, "" if body.after is None else str(body.after), body.limit + 1)


def check(case: Case, body: PolicyCheckBody) -> Step | Code:
    """The dry run: the same questions in the same order as for the client's own request, and who answered them.

    1. The client is live.
    2. Something allows it.
    3. The key and all above it are in a state that lets it.
    """
    client = find_client(case, body.tenant, body.client)
    key = keys.find(case, body.tenant, body.key)
    if isinstance(client, Code):
        return client
    if isinstance(key, Code):
        return key
    if client.role is not Role.SERVICE or not policy.is_live(client, case.facts.now_ms):  # 1
        return _refused(key, None, Code.NOT_FOUND, "the client may sign nothing any more")
    if body.permission is Permission.TRIGGER:
        return _checked_report(case, client, key)
    uses = [(body.version, USES[body.permission])]
    if body.permission is Permission.REWRAP:  # from the version named, and to the active one
        uses = [(body.version, Use.REWRAP_FROM), (None, Use.WRAP)]
    for version, use in uses:
        number = key.active_version if version is None else version
        shown = _shown(client, body)
        found = case.chains.for_client(
            client, body.permission, key.id, number, use, context=shown.context, suites=shown.suites
        )
        if not isinstance(found, Usable):
            return _refused(key, number, found, _why(found))
    number = key.active_version if body.version is None else body.version
    licence = case.chains.licence(client, body.permission, key, number, uses[0][1], _shown(client, body))  # 2
    return _allowed(key, number, licence)


def _checked_report(case: Case, client: Client, key: Key) -> Commanded:
    """A report of an occasion is taken whatever state the key is in; it shows no context and no plaintext."""
    number = key.active_version
    licence = case.chains.licence(client, Permission.TRIGGER, key, number, Use.WRAP, Shown())
    if licence is not None:
        return _allowed(key, number, licence)
    code = Code.INTEGRITY if client.id in case.facts.distrusted else Code.NOT_FOUND
    return _refused(key, number, code, _why(code))


def _allowed(key: Key, number: int, licence: Licence | None) -> Commanded:
    return Commanded(
        CheckResult(
            allowed=True,
            key=key.id,
            version=number,
            rule=rule_view(licence) if isinstance(licence, Rule) else None,
            grant=grant_view(licence) if isinstance(licence, Grant) else None,
        )
    )


def _shown(client: Client, body: PolicyCheckBody) -> Shown:
    """A rewrap shows no context and no plaintext; else that goes under the suite named, or the client's own."""
    if body.permission in (Permission.REWRAP, Permission.REWRAP_FROM, Permission.REWRAP_TO):
        return Shown()
    suite = body.suite or client.recipient_suite
    suites: frozenset[Suite] = frozenset() if suite is None else frozenset({suite})
    return Shown(frozenset(body.context_keys), suites)


def _why(code: Code) -> str:
    return "neither its own row nor a rule nor a grant allows it" if code is Code.NOT_FOUND else ""


def _refused(key: Key, version: int | None, code: Code, why: str) -> Commanded:
    return Commanded(CheckResult(allowed=False, key=key.id, version=version, code=code, why=why))


def _service(case: Case, tenant: str, name: str) -> Client | Code:
    """The service that is to be allowed something; one that is revoked gets nothing more."""
    client = find_client(case, tenant, name)
    if isinstance(client, Code):
        return client
    if client.role is not Role.SERVICE:
        return Code.NOT_FOUND
    return client if policy.is_live(client, case.facts.now_ms) else Code.CONFLICT


def _in_force(case: Case, client: Client, kind: type[Rule | Grant]) -> int:
    rows: Iterable[object] = case.facts.rows.values()
    held = [row for row in rows if isinstance(row, kind) and row.client == client.id]
    return sum(not row.revoked and case.facts.now_ms < row.not_after_ms for row in held)


def _put(
    case: Case, row: Rule | Grant, rests: tuple[Seen, ...], event: str, why: str, changes: tuple[RowRef, ...] = ()
) -> Commanding:
    by, result = teller(case), _result(row)
    change = PolicyChange(
        tenant=row.tenant,
        rule=result.rule if isinstance(result, RuleResult) else None,
        grant=result.grant if isinstance(result, GrantResult) else None,
        who=by.who,
        approved_by=by.approved_by,
        why=why,
        request=by.request,
        correlation=by.correlation,
        revision=row.revision,
    )
    return Commanding(
        op=None, version=None, rows=(row,), changes=changes, rests=rests, result=result, event=event, told=change
    )


def _result(row: Rule | Grant) -> RuleResult | GrantResult:
    return RuleResult(rule=rule_view(row)) if isinstance(row, Rule) else GrantResult(grant=grant_view(row))
