"""AWS Signature Version 4 as far as an XKS proxy asks for it: POST, empty query, `host` and `x-amz-date` signed.

Source: AWS's "Signature Version 4 signing process". By hand because every library for it is a whole cloud SDK.
"""

from datetime import datetime
from hashlib import sha256
from hmac import HMAC

XKS_SERVICE = "kms-xks-proxy"
_ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNED = "host;x-amz-date"


def signed_headers(
    access_key_id: str, secret: str, scope: tuple[str, str], target: tuple[str, str], body: bytes, now: datetime
) -> dict[str, str]:
    """The headers that make a POST one of this caller's.

    `scope` is region and service, `target` host (with its port unless it is 443) and path; the path needs no escaping.
    `now` is UTC.
    """
    (region, service), (host, path) = scope, target
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    canonical = f"POST\n{path}\n\nhost:{host}\nx-amz-date:{stamp}\n\n{_SIGNED}\n{sha256(body).hexdigest()}"
    place = f"{day}/{region}/{service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{place}\n{sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in place.split("/"):
        key = _mac(key, part)
    credential = f"Credential={access_key_id}/{place}"
    authorization = f"{_ALGORITHM} {credential}, SignedHeaders={_SIGNED}, Signature={_mac(key, to_sign).hex()}"
    return {"host": host, "x-amz-date": stamp, "authorization": authorization}


def _mac(key: bytes, text: str) -> bytes:
    return HMAC(key, text.encode(), sha256).digest()
