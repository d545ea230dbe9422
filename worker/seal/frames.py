"""Length-prefixed concatenation: the one way in which several values become bytes to sign, to bind or to MAC."""


def framed(*parts: bytes) -> bytes:
    """Each part as a 4-byte big-endian length and its bytes. Injective: other parts never give the same result."""
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(4, "big"), part)])
