"""Versions of the fleet's own keys on every token: made once, followed by the rows, old ones read for ever (S5)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.contract.hsm_rig import AnyToken, opened
from worker.edges.hsm import templates
from worker.edges.hsm.ck import CKM_GENERIC_SECRET_KEY_GEN
from worker.edges.hsm.fake import FakeToken
from worker.edges.hsm.fleet_objects import make
from worker.edges.hsm.token import Token
from worker.local import Token as LocalToken
from worker.model.fleet import FleetKey, FleetKeyState, FleetKind
from worker.model.hsm import CreatedFleetKey, CreateFleetKey, Fault, HsmFault
from worker.ports import Mac
from worker.seal import lineage
from worker.seal.errors import BadCertificate, BadSignature
from worker.seal.lineage import Lineage

NOW = 1_795_557_600_000


@pytest.fixture(params=["fake", "softhsm", "kryoptic"])
async def token(request: pytest.FixtureRequest) -> AsyncIterator[AnyToken]:
    made = FakeToken() if request.param == "fake" else await opened(request.getfixturevalue(request.param))
    yield made
    await made.close()


async def rotated(token: AnyToken, kind: FleetKind, number: int, before: FleetKey | None = None) -> FleetKey:
    op = CreateFleetKey(kind, number, NOW, b"" if before is None else before.public_key)
    [made] = await token.hsm.run([op], 20)
    assert isinstance(made, CreatedFleetKey), made
    signed = (made.public_key, made.predecessor, made.by_predecessor, made.by_itself)
    return FleetKey(f"{kind}/{number}", kind, number, FleetKeyState.ACTIVE, NOW, 1, "fleet", *signed)


async def test_after_a_rotation_the_newest_makes_and_the_old_one_reads(token: AnyToken) -> None:
    keys = token.fleet_keys
    [old] = await keys.mac([b"row"])
    half = await keys.wrap_secret(b"half", b"aad")
    rows = [await rotated(token, kind, 2) for kind in (FleetKind.ROW_MAC, FleetKind.INTAKE_WRAP)]
    assert (await keys.mac([b"row"])) == [old], "nothing changes before the rows say so"
    keys.follow(rows)
    assert [keys.newest(kind) for kind in FleetKind] == [2, 2, 1]
    [new] = await keys.mac([b"row"])
    assert (old.version, new.version, old.value == new.value) == (1, 2, False)
    assert await keys.verify([b"row"] * 2, [old, new]) == [True, True]
    assert (await keys.wrap_secret(b"half", b"aad"))[:4] == bytes([0, 0, 0, 2])
    assert await keys.unwrap_secret(half, b"aad") == b"half"


async def test_a_rotation_that_is_tried_again_finds_what_the_first_try_made(token: AnyToken) -> None:
    first = await rotated(token, FleetKind.SIGNING, 2)
    again = await rotated(token, FleetKind.SIGNING, 2)
    assert (first.public_key, first.predecessor) == (again.public_key, again.predecessor)
    await rotated(token, FleetKind.ROW_MAC, 2)
    token.fleet_keys.follow([FleetKey("row-mac/2", FleetKind.ROW_MAC, 2, FleetKeyState.ACTIVE, NOW, 1, "fleet")])
    [made] = await token.fleet_keys.mac([b"row"])
    await rotated(token, FleetKind.ROW_MAC, 2)
    assert await token.fleet_keys.mac([b"row"]) == [made]


async def test_each_signing_key_is_certified_by_the_one_before(token: AnyToken) -> None:
    keys = token.fleet_keys
    pinned = keys.signing_key
    second = await rotated(token, FleetKind.SIGNING, 2)
    keys.follow([second])
    third = await rotated(token, FleetKind.SIGNING, 3, second)
    keys.follow([second, third])
    assert keys.lineage.keys == (third.public_key, second.public_key, pinned)
    reader = Lineage("dev-test", pinned)
    for row in (third, second):
        reader.accept(lineage.announcement("dev-test", row))
    signature = await keys.sign(b"said")
    reader.verify(signature, b"said", NOW)
    with pytest.raises(BadSignature):
        lineage.verify(pinned, signature, b"said", NOW)


async def test_a_row_whose_chain_does_not_hold_is_not_followed(token: AnyToken) -> None:
    keys = token.fleet_keys
    second = await rotated(token, FleetKind.SIGNING, 2)
    forged = FleetKey(
        *[getattr(second, name) for name in ("id", "kind", "number", "state", "since_ms", "revision", "tenant")]
    )
    with pytest.raises(BadCertificate):
        keys.follow([forged])
    assert keys.lineage.keys == (keys.signing_key,)


@pytest.mark.parametrize("name", ["softhsm", "kryoptic"])
async def test_twins_of_a_version_harm_nobody(request: pytest.FixtureRequest, name: str) -> None:
    """Two machines on one network HSM may both make it: what either of the objects made is read."""
    local: LocalToken = request.getfixturevalue(name)
    one = await opened(local)
    pool = one.fleet_keys._pool
    for kind in FleetKind:
        await rotated(one, kind, 2)
        await pool.call(lambda crew, kind=kind: make(crew, "dev-test", kind, 2), 20)  # type: ignore[misc]
    rows = [await rotated(one, kind, 2) for kind in FleetKind]
    one.fleet_keys.follow(rows)
    wrapped, [mac] = await one.fleet_keys.wrap_secret(b"s", b"a"), await one.fleet_keys.mac([b"row"])
    signed = [await one.fleet_keys.sign(b"said") for _ in range(4)]
    handles = await pool.call(lambda crew: one.fleet_keys._objects.handles(crew, FleetKind.ROW_MAC, 2), 20)
    assert len(handles) == 2
    await one.close()
    other = await opened(local)
    try:
        other.fleet_keys.follow(rows)
        assert await other.fleet_keys.verify([b"row"], [mac]) == [True]
        assert await other.fleet_keys.unwrap_secret(wrapped, b"a") == b"s"
        for signature in signed:
            other.fleet_keys.lineage.verify(signature, b"said", NOW)
    finally:
        await other.close()


async def test_a_signing_key_that_is_not_there_certifies_nothing(token: AnyToken) -> None:
    if not isinstance(token, Token):
        return
    [made] = await token.hsm.run([CreateFleetKey(FleetKind.SIGNING, 2, NOW, b"\x04another")], 20)
    assert isinstance(made, HsmFault)
    assert made.fault is Fault.INTEGRITY


async def test_rotations_at_once_make_one_object(token: AnyToken) -> None:
    made = await asyncio.gather(*[rotated(token, FleetKind.SIGNING, 2) for _ in range(4)])
    assert len({row.public_key for row in made}) == 1


def test_the_templates_of_all_versions_differ_by_their_label_alone() -> None:
    one, two = (templates.row_mac(f"keyriver/f/row-mac/{number}", restrict=True) for number in (1, 2))
    assert len([pair for pair in zip(one, two, strict=True) if pair[0] != pair[1]]) == 2
    assert CKM_GENERIC_SECRET_KEY_GEN


async def test_a_retired_version_is_believed_no_more_and_its_object_goes(token: AnyToken) -> None:
    keys = token.fleet_keys
    [old] = await keys.mac([b"row"])
    new = await rotated(token, FleetKind.ROW_MAC, 2)
    before = FleetKey("row-mac/1", FleetKind.ROW_MAC, 1, FleetKeyState.VERIFY_ONLY, 0, 2, "fleet")
    keys.follow([before, new])
    assert await keys.bury() == 0
    assert await keys.verify([b"row"], [old]) == [True]
    keys.follow([replace(before, state=FleetKeyState.RETIRED), new])
    assert keys.retired == {1}
    assert await keys.verify([b"row"], [old]) == [False]
    assert [await keys.bury() for _ in range(2)] == [1, 0]
    keys.follow([before, new])
    assert await keys.verify([b"row"], [old]) == [False], "whatever the rows say later"
    [made] = await keys.mac([b"row"])
    assert (made.version, await keys.verify([b"row"], [made])) == (2, [True])


@pytest.mark.parametrize("name", ["softhsm", "kryoptic"])
async def test_a_token_without_the_first_version_still_starts(request: pytest.FixtureRequest, name: str) -> None:
    local = request.getfixturevalue(name)
    token = await opened(local)
    new = await rotated(token, FleetKind.ROW_MAC, 2)
    gone = FleetKey("row-mac/1", FleetKind.ROW_MAC, 1, FleetKeyState.RETIRED, 0, 3, "fleet")
    token.fleet_keys.follow([gone, new])
    await token.fleet_keys.bury()
    await token.close()
    again = await opened(local)
    try:
        assert await again.fleet_keys.verify([b"row"], [Mac(1, b"any")]) == [False]
        again.fleet_keys.follow([gone, new])
        [made] = await again.fleet_keys.mac([b"row"])
        assert made.version == 2
    finally:
        await again.close()
