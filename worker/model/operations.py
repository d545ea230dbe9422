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
    CLIENT_ADD = "client.add"
    CLIENT_ROTATE = "client.rotate"
    CLIENT_REVOKE = "client.revoke"
    CLIENT_LIST = "client.list"

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
}
_READS = frozenset({Operation.UNWRAP, Operation.KEY_SHOW, Operation.KEY_LIST, Operation.CLIENT_LIST})

BY_TYPE = {operation.request_type: operation for operation in Operation}

DATA_OPERATIONS = frozenset({Operation.WRAP, Operation.UNWRAP, Operation.REWRAP})
"""The services' operations; the rest is the officers'."""


class Permission(StrEnum):
    """What a service may be allowed on the keys that its pattern names. Another key as target takes the last two."""

    WRAP = "wrap"
    UNWRAP = "unwrap"
    REWRAP = "rewrap"
    REWRAP_FROM = "rewrap-from"
    REWRAP_TO = "rewrap-to"
