"""Chains of any depth in any state: a version is usable if it allows the use, and all above is enabled and opens."""

from dataclasses import replace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.chain.world import World, key_ref, key_row, seen_of, uid, version_ref, version_row
from worker.chain.lifecycle import Use, allows
from worker.chain.resolve import Usable
from worker.model.codes import Code
from worker.model.rows import RowRef, State, Table, Tenant

OPENING = {State.ACTIVE, State.SUSPENDED, State.DEACTIVATED}
Link = tuple[State, bool, str]
MISHAPS = st.sampled_from(["", "", "", "", "", "key tampered", "version tampered", "version gone"])
LINKS = st.tuples(st.sampled_from([*OPENING, *OPENING, *State]), st.sampled_from([True, True, True, False]), MISHAPS)
CHAINS = st.lists(LINKS, min_size=1, max_size=8)


def built(links: list[Link], *, tenant_enabled: bool) -> tuple[World, list[UUID]]:
    world = World()
    world.put(replace(world.tenant(), enabled=tenant_enabled))
    ids = [uid(100 + layer) for layer in range(len(links))]
    for layer, (id_, (state, enabled, _)) in enumerate(zip(ids, links, strict=True), start=1):
        key = replace(key_row(id_, "acme", ids[layer - 2] if layer > 1 else None, layer), enabled=enabled)
        world.put(key, version_row(key, state=state))
    for id_, (_, _, mishap) in zip(ids, links, strict=True):
        match mishap:
            case "key tampered":
                world.tamper(key_ref(id_))
            case "version tampered":
                world.tamper(version_ref(id_))
            case "version gone":
                del world.rows[version_ref(id_)]
    return world, ids


def expected(links: list[Link], use: Use, *, tenant_enabled: bool) -> Code | None:
    """From the key itself upwards, the first thing that is wrong."""
    for above, (state, enabled, mishap) in enumerate(reversed(links)):
        if mishap:
            return Code.INTEGRITY
        if not enabled:
            return Code.KEY_DISABLED
        if not (allows(state, use) if above == 0 else state in OPENING):
            return Code.KEY_STATE
    return None if tenant_enabled else Code.KEY_DISABLED


@given(links=CHAINS, use=st.sampled_from(Use), tenant_enabled=st.sampled_from([True, True, True, False]))
def test_any_chain(links: list[Link], use: Use, *, tenant_enabled: bool) -> None:
    world, ids = built(links, tenant_enabled=tenant_enabled)
    if links[-1][2] == "key tampered":
        return  # who asks has no row to ask with
    found = world.chains().usable(world.key(ids[-1]), 1, use)
    code = expected(links, use, tenant_enabled=tenant_enabled)
    if code is not None:
        assert found is code
        return
    assert isinstance(found, Usable)
    refs = [ref for id_ in ids for ref in (key_ref(id_), version_ref(id_))]
    assert set(found.seen) == seen_of(world, RowRef(Table.TENANTS, "acme"), *refs)
    assert isinstance(world.rows[RowRef(Tenant.TABLE, "acme")], Tenant)
    kek, way = found.kek, []
    while True:
        way.append(kek.key)
        if kek.parent is None:
            break
        kek = kek.parent
    assert way == list(reversed(ids))


@given(CHAINS, st.sampled_from(Use))
def test_what_is_remembered_is_what_would_be_found(links: list[Link], use: Use) -> None:
    world, ids = built(links, tenant_enabled=True)
    chains = world.chains()
    for id_ in (*ids, *ids):
        if key_ref(id_) in world.rows:
            assert chains.usable(world.key(id_), 1, use) == world.chains().usable(world.key(id_), 1, use)
