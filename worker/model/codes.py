"""The one table of error codes. A code never changes its meaning; new ones are added, none is removed."""

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """What a failure means for the record that caused it."""

    CALLER = "caller"
    """The caller's fault: answered, and the river goes on."""
    TRANSIENT = "transient"
    """Ours, and passing: answered as retryable; a ledgered item stays open."""
    POISON = "poison"
    """No authentic request: never answered, dead-lettered."""


class Code(StrEnum):
    """Stable names of everything that can go wrong with a request or with one of its items."""

    # The whole request.
    MALFORMED = "MALFORMED"
    TOO_LARGE = "TOO_LARGE"
    TOO_MANY_ITEMS = "TOO_MANY_ITEMS"
    TOO_DEEP = "TOO_DEEP"
    ALIAS_TOO_LONG = "ALIAS_TOO_LONG"
    CONTEXT_TOO_LARGE = "CONTEXT_TOO_LARGE"
    DEADLINE_TOO_FAR = "DEADLINE_TOO_FAR"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    STALE = "STALE"
    ID_REUSED = "ID_REUSED"
    SUITE_TOO_WEAK = "SUITE_TOO_WEAK"
    RECIPIENT_REQUIRED = "RECIPIENT_REQUIRED"
    INTAKE_KEY_UNKNOWN = "INTAKE_KEY_UNKNOWN"
    SEALED_UNREADABLE = "SEALED_UNREADABLE"
    POISON = "POISON"
    # One item.
    NOT_FOUND = "NOT_FOUND"
    UNWRAP_FAILED = "UNWRAP_FAILED"
    DEK_LENGTH = "DEK_LENGTH"
    WRONG_PURPOSE = "WRONG_PURPOSE"
    WRONG_LAYER = "WRONG_LAYER"
    WRONG_REGION = "WRONG_REGION"
    KEY_DISABLED = "KEY_DISABLED"
    KEY_STATE = "KEY_STATE"
    KEY_EXHAUSTED = "KEY_EXHAUSTED"
    CAMPAIGN_STATE = "CAMPAIGN_STATE"
    EXISTS = "EXISTS"
    CONFLICT = "CONFLICT"
    PENDING = "PENDING"
    STILL_NEEDED = "STILL_NEEDED"
    GRACE_REFUSED = "GRACE_REFUSED"
    TOO_MANY = "TOO_MANY"
    RECOVERY_UNKNOWN = "RECOVERY_UNKNOWN"
    SECOND_OFFICER = "SECOND_OFFICER"
    DIGEST_DIFFERS = "DIGEST_DIFFERS"
    TOO_FEW_OFFICERS = "TOO_FEW_OFFICERS"
    WRONG_ORIGIN = "WRONG_ORIGIN"
    IMPORT_EXPIRED = "IMPORT_EXPIRED"
    IMPORT_USED = "IMPORT_USED"
    IMPORT_BURNED = "IMPORT_BURNED"
    IMPORT_ALGORITHM = "IMPORT_ALGORITHM"
    IMPORT_LENGTH = "IMPORT_LENGTH"
    IMPORT_REFUSED = "IMPORT_REFUSED"
    LINKED = "LINKED"
    LINK_CUT = "LINK_CUT"
    KEYSTORE_FORBIDDEN = "KEYSTORE_FORBIDDEN"
    KEYSTORE_UNFIT = "KEYSTORE_UNFIT"
    UNSUPPORTED = "UNSUPPORTED"
    INTEGRITY = "INTEGRITY"
    # Ours, passing.
    DEFERRED = "DEFERRED"
    WRONG_TOKEN = "WRONG_TOKEN"  # noqa: S105 - a code, not a secret
    KEK_OPENING = "KEK_OPENING"
    THROTTLED = "THROTTLED"
    KEYSTORE_UNREACHABLE = "KEYSTORE_UNREACHABLE"
    # Never answered.
    UNREADABLE = "UNREADABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    REPLY_TOPIC_REFUSED = "REPLY_TOPIC_REFUSED"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code says to a person, and whether the same request may succeed later."""

    family: Family
    message: str

    @property
    def retry(self) -> bool:
        """Whether sending the identical request again may succeed."""
        return self.family is Family.TRANSIENT


def _caller(message: str) -> Meaning:
    return Meaning(Family.CALLER, message)


MEANINGS: dict[Code, Meaning] = {
    Code.MALFORMED: _caller("The body is not a valid request of this type."),
    Code.TOO_LARGE: _caller("The request is larger than the limit."),
    Code.TOO_MANY_ITEMS: _caller("The request has more items than the limit."),
    Code.TOO_DEEP: _caller("The JSON is nested deeper than the limit."),
    Code.ALIAS_TOO_LONG: _caller("An alias is longer than the limit."),
    Code.CONTEXT_TOO_LARGE: _caller("A context has too many entries or bytes."),
    Code.DEADLINE_TOO_FAR: _caller("The deadline is further away than the limit."),
    Code.DEADLINE_EXCEEDED: _caller("The deadline had passed before the work began."),
    Code.STALE: _caller("The signed time is too far from the broker's append time, or older than the ledger."),
    Code.ID_REUSED: _caller("This request id was used before with another body."),
    Code.SUITE_TOO_WEAK: _caller("The tenant demands a stronger HPKE suite."),
    Code.RECIPIENT_REQUIRED: _caller("Plaintext was asked for without a recipient key to seal it to."),
    Code.INTAKE_KEY_UNKNOWN: _caller("The intake key is unknown or expired; read the current one and seal again."),
    Code.SEALED_UNREADABLE: _caller("The sealed DEKs can't be opened, or their number is not the number of items."),
    Code.POISON: _caller("This request stopped its worker three times and was set aside."),
    Code.NOT_FOUND: _caller("No such key, version or DEK that this client may use in this way."),
    Code.UNWRAP_FAILED: _caller("The blob does not unwrap under this key and context."),
    Code.DEK_LENGTH: _caller("A DEK must have 16 to 64 bytes."),
    Code.WRONG_PURPOSE: _caller("This key's purpose is another one: a key wraps keys or wraps DEKs, never both."),
    Code.WRONG_LAYER: _caller("The tenant's chain has no such layer below this parent."),
    Code.WRONG_REGION: _caller("The key's region is not registered, or its L1 is in no token of the region."),
    Code.KEY_DISABLED: _caller("The key, or a key above it, is disabled."),
    Code.KEY_STATE: _caller("The key version's state does not allow this operation."),
    Code.KEY_EXHAUSTED: _caller("The key version reached its limit of encryptions; rotate the key."),
    Code.CAMPAIGN_STATE: _caller("The campaign's state does not allow this."),
    Code.EXISTS: _caller("It exists already."),
    Code.CONFLICT: _caller("It changed in the meantime; read it again."),
    Code.PENDING: _caller("Nothing is done yet: another officer has to approve this command."),
    Code.STILL_NEEDED: _caller(
        "Rows or blobs outside still need this version; move them, or force it by the key's name."
    ),
    Code.TOO_MANY: _caller("There are as many of these as there may be; take some away first."),
    Code.GRACE_REFUSED: _caller("The grace is shorter or longer than the fleet's settings allow."),
    Code.RECOVERY_UNKNOWN: _caller(
        "Nothing is destroyed before the setting recoverable_days says how long backups live."
    ),
    Code.SECOND_OFFICER: _caller("Another officer must approve it, one who was not enrolled by the first alone."),
    Code.DIGEST_DIFFERS: _caller("The digest is not that of this approval; look at it again."),
    Code.WRONG_ORIGIN: _caller("The key's material comes from elsewhere: a new version comes from there, too."),
    Code.IMPORT_EXPIRED: _caller("These import parameters have expired; ask for new ones."),
    Code.IMPORT_USED: _caller("These import parameters were used; ask for new ones."),
    Code.IMPORT_BURNED: _caller("Too many imports with these parameters were refused; ask for new ones."),
    Code.IMPORT_ALGORITHM: _caller("The algorithm is not that of the parameters, or the fleet does not allow it."),
    Code.IMPORT_LENGTH: _caller("A wrapped AES-256 key has another length under these parameters."),
    Code.IMPORT_REFUSED: _caller("The blob is not the key that these parameters and its check value call for."),
    Code.LINKED: _caller(
        "This version stays in a customer's keystore: it ends by `link unlink`, and moves by `tenant move`."
    ),
    Code.LINK_CUT: _caller("The link to the customer's keystore is cut; it has to be restored."),
    Code.KEYSTORE_FORBIDDEN: _caller("The customer's keystore refuses its key; the customer has to allow it again."),
    Code.KEYSTORE_UNFIT: _caller(
        "The customer's key is no enabled AES-256 key that gives back what it took, or we have no such credential."
    ),
    Code.TOO_FEW_OFFICERS: _caller("At least two officers must remain; add another one first."),
    Code.UNSUPPORTED: _caller("The token does not offer what this needs."),
    Code.INTEGRITY: _caller("A stored row failed its integrity check; an operator was told."),
    Code.DEFERRED: Meaning(Family.TRANSIENT, "The HSM did not answer in time; send the same request again."),
    Code.WRONG_TOKEN: Meaning(Family.TRANSIENT, "The key's L1 is in another token than this worker's; send it again."),
    Code.KEK_OPENING: Meaning(Family.TRANSIENT, "The key is being opened; send the same request again."),
    Code.THROTTLED: Meaning(Family.TRANSIENT, "The quota is used up for now; send the same request later."),
    Code.KEYSTORE_UNREACHABLE: Meaning(
        Family.TRANSIENT, "The customer's keystore has not answered for too long; send the same request later."
    ),
    Code.UNREADABLE: Meaning(Family.POISON, "The record is not a readable CloudEvent."),
    Code.UNAUTHENTICATED: Meaning(Family.POISON, "The record has no valid signature of a registered client."),
    Code.REPLY_TOPIC_REFUSED: Meaning(Family.POISON, "The reply topic is not one of the client's."),
}


def is_retryable(code: Code) -> bool:
    """Whether an item refused with this code stays open in the ledger."""
    return MEANINGS[code].retry
