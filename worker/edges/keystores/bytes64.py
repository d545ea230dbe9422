"""Base64 (RFC 4648, section 4) as JSON carries bytes, read strictly."""

import binascii
from base64 import b64decode, b64encode
from typing import Annotated

from pydantic import BeforeValidator


def encoded(data: bytes) -> str:
    """With padding."""
    return b64encode(data).decode()


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("no text")  # noqa: TRY004 - what pydantic reports as an error of this field
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("no base64") from None


Bytes64 = Annotated[bytes, BeforeValidator(_decoded)]
"""A field whose text is base64; characters outside the alphabet are an error."""
