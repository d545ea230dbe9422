"""SQL by name: the statements of `sql/*.sql`, each under a line `-- name: <name>`."""

import re
from importlib.resources import files

_NAMED = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load() -> dict[str, str]:
    """Every named statement. A name that stands twice is a ValueError."""
    found: dict[str, str] = {}
    for file in sorted(files(__package__).joinpath("sql").iterdir(), key=lambda file: file.name):
        _, *parts = _NAMED.split(file.read_text())
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"{file.name}: the statement {name} has two texts")
            found[name] = text.strip().removesuffix(";")
    return found


SQL = load()
