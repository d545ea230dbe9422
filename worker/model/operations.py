"""The operations of the wire contract, the CloudEvents type and the topic of each."""

from enum import StrEnum


class Operation(StrEnum):
    """What a request asks for. Its CloudEvents type is `keyriver.<operation>.v1`, its answer's adds `.reply`."""

    WRAP = "wrap"
    UNWRAP = "unwrap"
    REWRAP = "rewrap"
    TENANT_CREATE = "tenant.create"
    KEY_CREATE = "key.create"
    KEY_ROTATE = "key.rotate"
    KEY_SHOW = "key.show"
    KEY_LIST = "key.list"
    KEY_ACTIVATE = "key.activate"
    KEY_SUSPEND = "key.suspend"
    KEY_RESUME = "key.resume"
    KEY_DEACTIVATE = "key.deactivate"
    KEY_COMPROMISE = "key.compromise"
    KEY_DISABLE = "key.disable"
    KEY_ENABLE = "key.enable"
    KEY_DESTROY = "key.destroy"
    KEY_CANCEL_DESTROY = "key.cancel-destroy"
    KEY_IMPORT_PARAMETERS = "key.import-parameters"
    KEY_IMPORT = "key.import"
    LINK_CREATE = "link.create"
    LINK_SHOW = "link.show"
    LINK_LIST = "link.list"
    LINK_CUT = "link.cut"
    LINK_RESTORE = "link.restore"
    LINK_UNLINK = "link.unlink"
    LINK_DECLARE = "link.declare"
    TENANT_MOVE = "tenant.move"
    REGION_SET = "region.set"
    REGION_LIST = "region.list"
    APPROVAL_APPROVE = "approval.approve"
    APPROVAL_REJECT = "approval.reject"
    APPROVAL_LIST = "approval.list"
    CLIENT_ADD = "client.add"
    CLIENT_ROTATE = "client.rotate"
    CLIENT_REVOKE = "client.revoke"
    CLIENT_LIST = "client.list"
    FLEET_ROTATE = "fleet.rotate"
    FLEET_RETIRE = "fleet.retire"
    FLEET_SHOW = "fleet.show"
    POLICY_ALLOW = "policy.allow"
    POLICY_REVOKE = "policy.revoke"
    POLICY_LIST = "policy.list"
    POLICY_CHECK = "policy.check"
    GRANT_GIVE = "grant.give"
    GRANT_REVOKE = "grant.revoke"
    GRANT_LIST = "grant.list"
    TENANT_QUOTA = "tenant.quota"
    TENANT_QUOTAS = "tenant.quotas"

    CAMPAIGN_PLAN = "campaign.plan"
    CAMPAIGN_START = "campaign.start"
    CAMPAIGN_SHOW = "campaign.show"
    CAMPAIGN_LIST = "campaign.list"
    CAMPAIGN_PAUSE = "campaign.pause"
    CAMPAIGN_RESUME = "campaign.resume"
    CAMPAIGN_CANCEL = "campaign.cancel"
    CAMPAIGN_THROTTLE = "campaign.throttle"
    CAMPAIGN_REPLAY = "campaign.replay"
    CAMPAIGN_FAILURES = "campaign.failures"
    CAMPAIGN_EXPOSED = "campaign.exposed"
    TRIGGER = "trigger"
    TRIGGER_ADD = "trigger.add"
    TRIGGER_REMOVE = "trigger.remove"
    TRIGGER_LIST = "trigger.list"
    TRIGGER_CHECK = "trigger.check"

    @property
    def request_type(self) -> str:
        """The CloudEvents type of the request."""
        return f"keyriver.{self.value}.v1"

    @property
    def reply_type(self) -> str:
        """The CloudEvents type of the answer."""
        return f"keyriver.{self.value}.v1.reply"

    @property
    def topic(self) -> str:
        """The request topic's name, without the configurable prefix."""
        return _TOPICS.get(self, "keys.v1")

    @property
    def is_ledgered(self) -> bool:
        """Whether it makes or changes something, so that its outcome is kept (D1). A rewrap is when it is stored."""
        return self not in _READS


_TOPICS = {
    Operation.WRAP: "wrap.v1",
    Operation.UNWRAP: "unwrap.v1",
    Operation.REWRAP: "rewrap.v1",
    Operation.KEY_ROTATE: "rotate.v1",
    Operation.KEY_DISABLE: "control.v1",
    Operation.KEY_SUSPEND: "control.v1",
    Operation.KEY_COMPROMISE: "control.v1",
    Operation.LINK_CUT: "control.v1",
    Operation.APPROVAL_APPROVE: "control.v1",
    Operation.APPROVAL_REJECT: "control.v1",
    Operation.POLICY_REVOKE: "control.v1",
    Operation.GRANT_REVOKE: "control.v1",
    Operation.CAMPAIGN_PAUSE: "control.v1",
    Operation.CAMPAIGN_CANCEL: "control.v1",
    Operation.TRIGGER_REMOVE: "control.v1",
    Operation.TRIGGER: "triggers.v1",
}
_READS = frozenset(
    {
        Operation.UNWRAP,
        Operation.KEY_SHOW,
        Operation.KEY_LIST,
        Operation.CLIENT_LIST,
        Operation.APPROVAL_LIST,
        Operation.FLEET_SHOW,
        Operation.REGION_LIST,
        Operation.POLICY_LIST,
        Operation.POLICY_CHECK,
        Operation.GRANT_LIST,
        Operation.TENANT_QUOTAS,
        Operation.CAMPAIGN_PLAN,
        Operation.CAMPAIGN_SHOW,
        Operation.CAMPAIGN_LIST,
        Operation.CAMPAIGN_FAILURES,
        Operation.CAMPAIGN_EXPOSED,
        Operation.TRIGGER_LIST,
        Operation.TRIGGER_CHECK,
        Operation.LINK_SHOW,
        Operation.LINK_LIST,
    }
)

BY_TYPE = {operation.request_type: operation for operation in Operation}

DATA_OPERATIONS = frozenset({Operation.WRAP, Operation.UNWRAP, Operation.REWRAP})
"""What services ask on DEKs, item by item."""

SERVICE_OPERATIONS = DATA_OPERATIONS | {Operation.TRIGGER}
"""What only services may send; the rest is the officers'."""

SECOND_OFFICER = frozenset(
    {
        Operation.KEY_DISABLE,
        Operation.KEY_ENABLE,
        Operation.KEY_DESTROY,
        Operation.KEY_CANCEL_DESTROY,
        Operation.KEY_IMPORT,
        Operation.LINK_RESTORE,
        Operation.LINK_UNLINK,
        Operation.TENANT_MOVE,
        Operation.REGION_SET,
        Operation.CLIENT_ADD,
        Operation.CLIENT_ROTATE,
        Operation.CLIENT_REVOKE,
        Operation.FLEET_ROTATE,
        Operation.FLEET_RETIRE,
        Operation.POLICY_ALLOW,
        Operation.GRANT_GIVE,
        Operation.TRIGGER_ADD,
        Operation.CAMPAIGN_START,
    }
)
"""What may be answered "pending" until a second officer agrees (S14).

A disable only of a layer 1 key, a revocation only of an officer, an import only where the fleet held the key so far, a
campaign only if the old version is to be destroyed after it.
"""


class Permission(StrEnum):
    """What a service may be allowed on the keys that its pattern names. Another key as target takes the last two."""

    WRAP = "wrap"
    UNWRAP = "unwrap"
    REWRAP = "rewrap"
    REWRAP_FROM = "rewrap-from"
    REWRAP_TO = "rewrap-to"
    TRIGGER = "trigger"
    """Report what happened to them (S18)."""
