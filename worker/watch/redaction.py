"""Takes secrets out of log events, whatever put them there: the first processor of every record (invariant 1).

The rule is wide on purpose: a log without a harmless value can be read, one with a key can't be taken back.
"""

import re
from collections.abc import Mapping, MutableMapping

MASK = "[redacted]"
DEEP = 6
_NAMES = re.compile(
    r"password|passwd|passphrase|secret|credential|private|(^|[_-])pin($|[_-])|dek|dsn|seed|plaintext|authorization"
    r"|api_?key|key_?(bytes|material|pem|hex)",
    re.IGNORECASE,
)
"""Names of fields whose value is never shown. A name of a count or a file (`dek_count`, `pin_file`) is none of them."""
_HARMLESS = re.compile(r"(count|files?|folder|path|bits|id|ids|number|seconds|state|version)$", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_URL = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@]*(?=@)", re.IGNORECASE)
_SAID = re.compile(
    r"(?P<head>\b[\w-]*(?:password|passwd|passphrase|secret|user[_-]?pin|so[_-]?pin|\bpin|private[_-]?key|dek)"
    r"['\"]?\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;)}\]]+)",
    re.IGNORECASE,
)
_BYTES = re.compile(r"""\bb(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_HEX = re.compile(r"(?<![0-9a-zA-Z])[0-9a-fA-F]{32,}(?![0-9a-zA-Z])")
_BASE64 = re.compile(r"(?<![\w+/=-])[\w+/-]{22,}={0,2}(?![\w+/=-])", re.ASCII)
"""16 bytes or more. UUIDs and paths look alike, but lack one of the three kinds of characters below."""
_KINDS = (re.compile(r"[A-Z]"), re.compile(r"[a-z]"), re.compile(r"[0-9+=]"))


def redact(_logger: object, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """A structlog processor: the same event, without what looks like a secret."""
    for name, value in event.items():
        if not name.startswith("_") and name != "exc_info":  # structlog's own; errors are cleaned once they are text
            event[name] = MASK if is_secret_name(name) else clean(value)
    return event


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    return _NAMES.search(name) is not None and _HARMLESS.search(name) is None


def clean(value: object, depth: int = 0) -> object:
    """The value without secrets; bytes never pass, and what is nested too deep or unknown is shown by its text."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth < DEEP and isinstance(value, Mapping):
        return {str(k): MASK if is_secret_name(str(k)) else clean(v, depth + 1) for k, v in value.items()}
    if depth < DEEP and isinstance(value, list | tuple | set | frozenset):
        return [clean(each, depth + 1) for each in value]
    return clean_text(str(value))


def clean_text(text: str) -> str:
    """Text without PEM blocks, passwords in URLs, `pin=…`, bytes literals, and long runs of hex or base64."""
    text = _PEM.sub(MASK, text)
    text = _URL.sub(rf"\g<head>{MASK}", text)
    text = _SAID.sub(rf"\g<head>{MASK}", text)
    text = _BYTES.sub(MASK, text)
    text = _HEX.sub(MASK, text)
    return _BASE64.sub(lambda found: MASK if all(kind.search(found[0]) for kind in _KINDS) else found[0], text)
