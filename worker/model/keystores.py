"""A customer's keystore (HYOK, SECURITY S13): where one key of his is, and what it says of itself. No secret is here."""

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

    `endpoint` is an HTTPS URL that ends before the API's own path (XKS: before `/kms/xks/v1`; transit: before `/v1`, and
    a fragment names another mount than `transit`), or for PKCS#11 `module/label`: the nickname of a module that the
    worker's credential names, and the token's label. `key` is the key's id there (PKCS#11: its CKA_LABEL).
    `credential` is the name of a credential in the worker's settings, never the secret.
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
