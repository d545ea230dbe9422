"""Writes the contract's files from the code; with `--check` only says what differs or what would break somebody.

`--freeze` makes today's contract the released one (`baseline.json`), which later ones must stay compatible with.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT.parent))

from schemas import contract  # noqa: E402 - this file is run as a script
from schemas.compatibility import incompatibilities  # noqa: E402

BASELINE = ROOT / "baseline.json"


def text_of(document: object) -> str:
    """How the files are written: stable, and readable in a diff."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def problems() -> list[str]:
    """Why the committed files are not the contract of this code, or may not follow the released one."""
    made = {ROOT / path: text_of(document) for path, document in contract.documents().items()}
    found = [
        f"{path.relative_to(ROOT)} differs from the code; run: python schemas/generate.py"
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    left_over = {*ROOT.glob("messages/*.json"), *ROOT.glob("examples/*.json")} - made.keys()
    found += [f"{path.relative_to(ROOT)} is of no message" for path in sorted(left_over)]
    return found + broken()


def broken() -> list[str]:
    """Why this code's contract may not follow the released one."""
    released = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else contract.contract()
    return incompatibilities(released, contract.contract())


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 1 if there are problems."""
    if arguments == ["--freeze"] and not broken():
        BASELINE.write_text(text_of(contract.contract()), encoding="utf-8")
    if arguments != ["--check"]:
        for path, document in contract.documents().items():
            (ROOT / path).parent.mkdir(exist_ok=True)
            (ROOT / path).write_text(text_of(document), encoding="utf-8")
    found = problems()
    sys.stdout.write("".join(f"schemas: {problem}\n" for problem in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
