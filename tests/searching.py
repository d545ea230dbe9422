"""Searching bytes for secrets as they are, in hex and in base64, wherever in a longer text they stand."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping


def forms(secret: bytes) -> set[bytes]:
    """How a secret may be written. In base64 it looks different at each of three offsets; the edges are cut off."""
    written = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for encode in (b64encode, urlsafe_b64encode):
        for offset in range(3):
            text = encode(bytes(offset) + secret).rstrip(b"=")
            written.add(text[-(-offset * 4 // 3) : len(text) - (1 if (offset + len(secret)) % 3 else 0)])
    return written


def found(secrets: Mapping[str, bytes], places: Iterable[tuple[str, bytes]]) -> set[tuple[str, str]]:
    """Which secret stands where."""
    needles = [(name, form) for name, secret in secrets.items() for form in forms(secret)]
    return {(name, place) for place, content in places for name, form in needles if form in content}
