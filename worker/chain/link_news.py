"""What customers' keystores tell without being asked for it: that a key has another version now. Pure."""

from dataclasses import replace

from worker.chain.leaves import ACTOR, own_leaf
from worker.model.effects import Announce, PutRow, Seen, Settlement
from worker.model.facts import Facts
from worker.model.ids import derived_id
from worker.model.linked import LinkChange
from worker.model.rows import Link

ROTATED = "keyriver.link.rotated.v1"


def noticed(facts: Facts, link: Link, version: str) -> Settlement | None:
    """The link's row and an event say so; what was wrapped before still opens. None: it is known already.

    Whoever else noticed it does it with the same ids, and finds that the row has moved.
    """
    if version == link.external_version:
        return None
    seen = replace(link, external_version=version, rotated_ms=facts.now_ms, revision=link.revision + 1)
    name = f"link {link.id} version {version}"
    told = LinkChange(
        tenant=link.tenant,
        link=link.id,
        key=link.key,
        alias=min(facts.names.get(link.key, ()), default=""),
        version=link.version,
        was=link.external_version,
        now=version,
        who=ACTOR,
        why="the customer's keystore says so",
        request=name,
        correlation=name,
        revision=seen.revision,
    )
    event, leaf = (derived_id(link.created_ms, str(link.id), str(seen.revision), one) for one in ("event", "leaf"))
    effects = (
        PutRow(seen),
        Announce(event, ROTATED, link.tenant, told.model_dump_json(exclude_none=True).encode()),
        own_leaf(leaf, link.tenant, facts.now_ms, ROTATED, name, place=(link.key, link.version), told=told),
    )
    return Settlement(None, None, (Seen(link.ref, link.revision),), (link.ref,), effects)
