"""What an auditor trusts: the fleet's pinned key, and the last checkpoint of each log that was accepted, in a file."""

import json
import os
from base64 import b64decode, b64encode
from pathlib import Path

from worker.cli.errors import Refused, Usage
from worker.cli.identities import officer
from worker.flow.auditing import Report
from worker.model.audit import Checkpoint
from worker.model.rows import Algorithm
from worker.seal import checkpoints
from worker.seal.errors import SealError
from worker.seal.lineage import FleetKey
from worker.seal.signatures import check_public_key


def base64(raw: bytes) -> str:
    """As it stands in JSON."""
    return b64encode(raw).decode()


def pinned(told: str, identity: Path | None, folder: Path) -> tuple[str, bytes]:
    """The fleet's id and key: as told, or from an identity file. Raises `Usage`, `Refused`."""
    if not told:
        found = officer(identity, folder)
        return found.fleet, found.fleet_key
    fleet, _, key = told.partition(":")
    try:
        raw = b64decode(key, validate=True)
        check_public_key(Algorithm.ES256, raw)
    except (ValueError, SealError):
        raise Usage("--fleet-key: FLEET:KEY with the 65-byte P-256 point in base64") from None
    return fleet, raw


class Accepted:
    """The file. Each checkpoint in it was signed by the fleet, so only its absence could be forged: keep it safe."""

    def __init__(self, path: Path, fleet: str, fleet_key: FleetKey) -> None:
        self._path = path
        self._fleet = fleet
        self._key = fleet_key
        self._kept: dict[str, Checkpoint] = {}

    def read(self) -> list[Checkpoint]:
        """None if there is no file yet. Raises `Refused`: a file that can't be read is no reason to begin anew."""
        try:
            document = json.loads(self._path.read_bytes())
            found = [checkpoints.parse(json.dumps(one).encode(), self._fleet, self._key) for one in document]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, SealError) as error:
            raise Refused(f"{self._path}: not this fleet's accepted checkpoints ({error})") from None
        self._kept = {said.tenant: said for said in found}
        return found

    def write(self, report: Report) -> None:
        """Keep the longest checkpoint of each log that is whole; replaced at once or not at all."""
        fresh = {one.tenant: one.accepted for one in report.verdicts if one.accepted is not None}
        if not fresh:
            return
        kept = self._kept | fresh
        document = [json.loads(checkpoints.to_json(kept[tenant])) for tenant in sorted(kept)]
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(document, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
