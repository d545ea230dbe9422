"""What opens the customers' keystores: one JSON file of mode 0400 each, its stem the credential's name.

A credential names the endpoints that it is for, so that no command can make a worker show one customer's secret to
another's server. Those for HTTPS are read again when a file changes (`renewal`).
"""

import re
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from worker.model.keystores import KeystoreMisconfigured

_MODE = stat.S_IRUSR
_PLACE = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_VISIBLE = re.compile(r"[!-~]+")
_WORD = r"^[A-Za-z0-9_/-]{0,128}$"


def _for_a_header(secret: SecretStr) -> SecretStr:
    """Visible ASCII: what can't stand in a header, as a line's end, would be shown in the error of whoever sends it."""
    if not _VISIBLE.fullmatch(secret.get_secret_value()):
        raise ValueError("visible ASCII characters alone, without spaces or a line's end")
    return secret


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AccessKey(_Strict):
    """What the proxy knows a caller by."""

    access_key_id: Annotated[str, StringConstraints(pattern=r"^[A-Z2-7]{20,30}$")]
    secret_access_key: Annotated[SecretStr, Field(min_length=43, max_length=64)]


class XksCredential(_Strict):
    """For an XKS proxy. `next` is tried when the proxy refuses `current`, and the other way round: so they rotate."""

    provider: Literal["xks"]
    endpoints: Annotated[tuple[_PLACE, ...], Field(min_length=1)]
    region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
    current: AccessKey
    next: AccessKey | None = None
    ca_file: Path | None = None


class TransitCredential(_Strict):
    """For the transit engine at `mount`.

    The token's policy should grant `update` and never `create` on encrypt: with `create` the engine makes a new key
    under the name of one that the customer has deleted.
    """

    provider: Literal["transit"]
    endpoints: Annotated[tuple[_PLACE, ...], Field(min_length=1)]
    token: Annotated[SecretStr, AfterValidator(_for_a_header)]
    namespace: Annotated[str, StringConstraints(pattern=_WORD)] = ""
    mount: Annotated[str, StringConstraints(pattern=_WORD, min_length=1)] = "transit"
    ca_file: Path | None = None


class Pkcs11Credential(_Strict):
    """For tokens of the customer's; its endpoints are `module/label`."""

    provider: Literal["pkcs11"]
    endpoints: Annotated[tuple[_PLACE, ...], Field(min_length=1)]
    pin: Annotated[SecretStr, Field(min_length=1)]


Credential = XksCredential | TransitCredential | Pkcs11Credential
_FORM: TypeAdapter[Credential] = TypeAdapter(Annotated[Credential, Field(discriminator="provider")])


def read_credentials(folder: Path) -> Mapping[str, Credential]:
    """Every `NAME.json` in the folder.

    Raises `KeystoreMisconfigured`, whose message names the file and never shows what is in it.
    """
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def _read(path: Path) -> Credential:
    told = f"keystore_credentials: {path}"
    try:
        if stat.S_IMODE(path.stat().st_mode) != _MODE:
            raise KeystoreMisconfigured(f"{told}: its mode must be 0400")
        return _FORM.validate_json(path.read_bytes())
    except OSError as error:
        raise KeystoreMisconfigured(f"{told}: {error.strerror}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise KeystoreMisconfigured(f"{told}: {faults}") from None


def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later, the certificate and its name verified against this bundle, or the system's. Reads files.

    Raises `KeystoreMisconfigured`.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise KeystoreMisconfigured(f"keystore_credentials: ca_file {ca_file}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
