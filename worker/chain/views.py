"""Rows as people see them in answers: nothing wrapped, no MAC."""

from collections.abc import Iterable

from worker.model.linked import LinkView
from worker.model.policies import GrantView, RuleView
from worker.model.replies import ApprovalView, ClientView, KeyView, VersionView
from worker.model.rows import Approval, Client, Grant, Key, Link, Rule, Version


def key_view(key: Key, names: Iterable[str], versions: Iterable[Version] = ()) -> KeyView:
    """One key, its first name and its versions in their order."""
    shown = [
        VersionView(
            number=version.number,
            state=version.state,
            created_ms=version.created_ms,
            due_ms=version.due_ms or None,
            not_after_ms=version.not_after_ms or None,
            absent=version.absent or None,
            parent_version=version.parent_version or None,
            link=version.link,
        )
        for version in sorted(versions, key=lambda version: version.number)
    ]
    return KeyView(
        id=key.id,
        tenant=key.tenant,
        alias=min(names, default=""),
        parent=key.parent,
        layer=key.layer,
        purpose=key.purpose,
        origin=key.origin,
        region=key.region,
        enabled=key.enabled,
        disabled_revision=None if key.enabled else key.disabled_revision,
        active_version=key.active_version,
        versions=shown,
    )


def client_view(client: Client) -> ClientView:
    """One client without its keys."""
    return ClientView(
        id=client.id,
        tenant=client.tenant,
        role=client.role,
        algorithm=client.algorithm,
        permissions=list(client.permissions),
        pattern=client.pattern,
        reply_topics=list(client.reply_topics),
        not_after_ms=client.not_after_ms,
        revoked=client.revoked,
    )


def approval_view(approval: Approval, digest: bytes) -> ApprovalView:
    """One approval with the command that it is about."""
    return ApprovalView(
        id=approval.id,
        tenant=approval.tenant,
        operation=approval.operation,
        body=approval.body.decode(),
        asked_by=approval.asked_by,
        asked_ms=approval.asked_ms,
        expires_ms=approval.expires_ms,
        touched=list(approval.touched),
        digest=digest,
        state=approval.state,
        decided_by=approval.decided_by or None,
    )


def rule_view(rule: Rule) -> RuleView:
    """One rule as people see it."""
    return RuleView(
        id=rule.id,
        tenant=rule.tenant,
        client=rule.client,
        permissions=list(rule.permissions),
        pattern=rule.pattern,
        region=rule.region,
        not_after_ms=rule.not_after_ms,
        context_keys=list(rule.context_keys),
        minimum_suite=rule.minimum_suite,
        why=rule.why,
        enrolled_by=rule.enrolled_by,
        created_ms=rule.created_ms,
        revoked=rule.revoked,
    )


def grant_view(grant: Grant) -> GrantView:
    """One grant as people see it."""
    return GrantView(
        id=grant.id,
        tenant=grant.tenant,
        client=grant.client,
        key=grant.key,
        version=grant.version or None,
        permissions=list(grant.permissions),
        why=grant.why,
        given_by=grant.given_by,
        given_ms=grant.given_ms,
        not_after_ms=grant.not_after_ms,
        revoked=grant.revoked,
    )


def link_view(link: Link) -> LinkView:
    """One link; it holds no secret."""
    return LinkView(
        id=link.id,
        tenant=link.tenant,
        key=link.key,
        version=link.version,
        provider=link.provider,
        endpoint=link.endpoint,
        external_key=link.external_key,
        credential=link.credential,
        external_version=link.external_version,
        state=link.state,
        cut_revision=link.cut_revision or None,
        sovereign=link.sovereign,
        created_ms=link.created_ms,
        revision=link.revision,
    )
