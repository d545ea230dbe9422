"""What an officer's command on campaigns has to know: at first by its words, then by what those led to."""

from collections.abc import Sequence
from uuid import UUID

from worker.chain.campaign_commands import campaign_paging, exposed_paging, failure_paging
from worker.chain.campaigns import campaign_id, campaign_ref
from worker.model.campaign_bodies import (
    AnyCampaignBody,
    CampaignBody,
    CampaignExposedBody,
    CampaignFailuresBody,
    CampaignListBody,
    CampaignOfKeyBody,
    CampaignPlanBody,
)
from worker.model.campaigns import Campaign
from worker.model.facts import Question
from worker.model.rows import Alias, Key, Row, Version


def first(body: AnyCampaignBody) -> Question:
    """By the body alone. Keys by name are everybody's business and not here."""
    match body:
        case CampaignListBody():
            return Question(pages=frozenset({campaign_paging(body)}))
        case CampaignFailuresBody():
            return Question(refs=frozenset({campaign_ref(body.campaign)}), failures=frozenset({failure_paging(body)}))
        case CampaignExposedBody():
            return Question(refs=frozenset({campaign_ref(body.campaign)}), exposed=frozenset({exposed_paging(body)}))
        case CampaignBody():
            return Question(refs=frozenset({campaign_ref(body.campaign)}), progress=frozenset({body.campaign}))
        case _:
            return Question()


def wider(body: AnyCampaignBody, rows: Sequence[Row]) -> Question:
    """By the rows that were found: names of campaigns' keys, and what is left under their old versions."""
    campaigns = [row for row in rows if isinstance(row, Campaign)]
    match body:
        case CampaignListBody():
            return Question(keys=frozenset(row.key for row in campaigns))
        case CampaignBody():
            mine = [row for row in campaigns if row.id == body.campaign]
            places = frozenset((row.key, row.from_version) for row in mine)
            return Question(keys=frozenset(row.key for row in mine), needs=places)
        case CampaignOfKeyBody():
            return _of_key(body, rows)


def _of_key(body: CampaignOfKeyBody, rows: Sequence[Row]) -> Question:
    named = {row.name: row.key for row in rows if isinstance(row, Alias)}
    key = next((row for row in rows if isinstance(row, Key) and row.id == _key(body.key, named)), None)
    if key is None:
        return Question()
    numbers = [row.number for row in rows if isinstance(row, Version) and row.key == key.id]
    old = [number for number in numbers if body.from_version in (None, number) and number != key.active_version]
    ids = [campaign_id(key.id, number, key.active_version) for number in old]
    return Question(
        refs=frozenset(map(campaign_ref, ids)),
        needs=frozenset((key.id, number) for number in old),
        progress=frozenset(ids),
        below=frozenset({key.id} if isinstance(body, CampaignPlanBody) else ()),
    )


def _key(name: str, named: dict[str, UUID]) -> UUID | None:
    if name in named:
        return named[name]
    try:
        return UUID(name)
    except ValueError:
        return None
