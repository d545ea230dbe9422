"""A newcomer copies the README's Python example and it runs; only the identity, the key and the prefix are others."""

import asyncio
import sys
from pathlib import Path

from tests.fleet import Fleet, House
from tests.stack import CHECKOUT
from worker.cli import identities


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"the example has no {old} any more"
    return text.replace(old, new)


async def test_the_readme_example(fleet: Fleet, house: House, tmp_path: Path) -> None:
    # Given the example, and a client's identity file
    example = (CHECKOUT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert len(example.splitlines()) <= 20
    identity = identities.path_of(tmp_path, "billing")
    identities.write(identity, house.identity)
    example = replaced(example, ".keyriver/identities/billing.json", str(identity))
    example = replaced(example, "acme/eu/payments", house.key)
    example = replaced(example, "import Envelope,", "import Envelope, Options,")
    example = replaced(example, ", bootstrap)", f", bootstrap, Options(prefix={fleet.prefix!r}))")

    # When it is run
    words = [sys.executable, "-c", example, fleet.services.kafka]
    done = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=CHECKOUT)
    said, _ = await done.communicate()

    # Then it gets back what it encrypted
    assert done.returncode == 0
    assert said == b"b'IBAN DE89 3704 ...'\n"
