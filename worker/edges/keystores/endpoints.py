"""Where keystores may be (SECURITY S13): an allow list of URL prefixes, deny by default.

So no command can make a worker call an address inside its own network. One strict form of URL: what can be read in two
ways is refused.
"""

import re
from collections.abc import Iterable

LONGEST = 256
"""Of a whole URI, as the XKS specification has it."""
_HTTPS = re.compile(
    r"https://(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:(?P<port>[1-9][0-9]{0,4}))?(?P<path>(/[A-Za-z0-9_-]+)*)"
)
_KEY = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")


def is_key(text: str) -> bool:
    """Whether this can be the id of a key within a URL: the XKS specification's form, and no step up the path."""
    return _KEY.fullmatch(text) is not None


def is_endpoint(text: str) -> bool:
    """Whether this is `https://host[:port][/path]`: no user, query, fragment, dots or escapes in the path."""
    return len(text) <= LONGEST and _HTTPS.fullmatch(text) is not None


def is_allowed(endpoint: str, prefixes: Iterable[str]) -> bool:
    """Whether scheme, host and port are those of a prefix, and the path lies at or below its path."""
    if not is_endpoint(endpoint):
        return False
    return any(endpoint == prefix or endpoint.startswith(f"{prefix}/") for prefix in prefixes if is_endpoint(prefix))
