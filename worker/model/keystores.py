"""A customer's keystore (HYOK, SECURITY S13): where a key of his is, what is said of it, how it fails. No secret."""

from dataclasses import dataclass
from enum import StrEnum


class Provider(StrEnum):
    """What a keystore speaks."""

    XKS = "xks"
    """The External Key Store proxy API, version 1, of AWS's published specification."""
    TRANSIT = "transit"
    """The transit engine of OpenBao or Vault, over HTTP."""
    PKCS11 = "pkcs11"
    """A second PKCS#11 token, which is the customer's."""


@dataclass(frozen=True, slots=True, order=True)
class KeystoreAddress:
    """One customer key in one keystore.

    `endpoint` is an HTTPS URL without the API's own path (XKS: `/kms/xks/v1`; transit: `/v1/transit`; its mount is the
    credential's affair), or for PKCS#11 `module/label`: the nickname of a module in the worker's settings, and the
    token's label. `key` is the key's id there (PKCS#11: its CKA_LABEL). `credential` is the name of a credential in the
    worker's settings, never the secret.
    """

    provider: Provider
    endpoint: str
    key: str
    credential: str


@dataclass(frozen=True, slots=True)
class KeystoreKey:
    """What a keystore says of a key: its id, the version that it wraps with now, and whether it may be used.

    `version` is empty where the provider has none.
    """

    id: str
    version: str
    enabled: bool


class KeystoreFault(Exception):
    """A keystore did not do what it was asked. The message holds no secret and is for the trail, not for callers."""


class KeystoreUnreachable(KeystoreFault):
    """Nobody answers, or nothing that can be understood: connect or TLS failure, timeout, 5xx, open breaker."""


class KeystoreForbidden(KeystoreFault):
    """The customer says no: key off or gone, credential refused. The link counts as cut (S13)."""


class KeystoreThrottled(KeystoreFault):
    """The keystore, or our own bound on calls to it, asks to come again after `retry_after_s` seconds."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class KeystoreRefused(KeystoreFault):
    """The bytes are not this key's, or the request is our bug. Asking again does not help."""


class KeystoreMisconfigured(KeystoreFault):
    """The settings have no such credential, or deny the endpoint; the message names the setting."""
