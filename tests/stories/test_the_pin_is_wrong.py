"""S9, S16: a worker whose PIN the token refuses ends at once, and that stands on the fleet's audit trail."""

import json

import pytest

from tests.fleet import Fleet
from tests.stack import Services
from worker.local import softhsm
from worker.model.rows import FLEET_TENANT


async def test_a_refused_pin_is_a_security_event(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Given a worker that has the wrong PIN
    folder = tmp_path_factory.mktemp("pin")
    wrong = folder / "wrong.pin"
    wrong.touch(0o600)
    wrong.write_text("not the PIN")
    wrong.chmod(0o400)
    async with Fleet.founded(stack, folder, softhsm.token(folder / "token")) as fleet:
        # When it starts
        worker = fleet.start(hsm_pin_file=wrong)
        # Then it ends at once, and the fleet's own log says why and who it was
        assert await worker.ended() != 0
        rows = await fleet.pool.fetch("SELECT body FROM keyriver.leaves WHERE tenant = $1", FLEET_TENANT)
        (leaf,) = [told for row in rows if "PIN_LOCKED" in (told := json.loads(row["body"]))["counts"]]
        assert leaf["type"] == "keyriver.pin.locked.v1"
        assert leaf["request"].endswith(f"/{worker.pid}")
        assert "not the PIN" not in worker.log
