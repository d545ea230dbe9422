"""Bodies of the officers' commands that bring a customer's key into the fleet (BYOK, SECURITY S12)."""

from typing import Annotated

from pydantic import Field, StringConstraints

from worker.model.fields import MAX_INT, AliasName, Base64, Body, TenantName, Uuid, Why
from worker.model.imports import ImportAlgorithm, RsaBits

MAX_BLOB = 1024
"""Longer than any blob that these algorithms make."""
CheckValue = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{6}$")]
"""Three bytes in hex: the first of a zero block under the key, AES-256 in ECB."""


class KeyImportParametersBody(Body):
    """Ask for an RSA key of the token that this layer 1 key's material may be wrapped for, once and within 24 hours."""

    tenant: TenantName
    key: AliasName
    algorithm: ImportAlgorithm = ImportAlgorithm.RSA_AES_KEY_WRAP_SHA_256
    bits: RsaBits = 3072
    why: Why = ""


class KeyImportBody(Body):
    """Import a wrapped AES-256 key as the material of a layer 1 version that has none.

    Without `version` the newest. What was imported before comes back only as the same. `rotate`: as a new version,
    which becomes the active one. `not_after_ms`: when the material is deleted again, on the database's clock.
    """

    tenant: TenantName
    key: AliasName
    parameters: Uuid
    algorithm: ImportAlgorithm
    blob: Base64 = Field(max_length=MAX_BLOB)
    check_value: CheckValue
    version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    rotate: bool = False
    not_after_ms: int | None = Field(default=None, gt=0, le=MAX_INT)
    why: Why = ""
