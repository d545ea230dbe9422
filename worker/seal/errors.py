"""What can be wrong with bytes that came from outside. Messages name the rule that was broken, never the bytes."""


class SealError(Exception):
    """The bytes were refused."""


class BadKey(SealError):
    """Not a key of this algorithm or suite."""


class BadSignature(SealError):
    """No valid signature of this key over this payload."""


class BadSeal(SealError):
    """The sealed bytes don't open, or what was inside is not what should be."""


class BadCertificate(SealError):
    """The fleet never said this, or it doesn't hold now (S1)."""


class BadIdentity(SealError):
    """Not an identity document."""
