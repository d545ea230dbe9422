"""The contract as data, made from the code: every message, code and topic, and the documents that show them."""

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from schemas import campaigns, headers
from schemas.samples import Sample, samples
from worker.chain.conclude import HINT
from worker.model.alarms import PinLocked, RowReverted
from worker.model.audit import CheckpointBody
from worker.model.bodies import BODIES
from worker.model.campaign_replies import CampaignTold
from worker.model.codes import MEANINGS, Family
from worker.model.fleet import FleetKeyResult
from worker.model.imported import ImportFact
from worker.model.linked import LinkChange, MoveResult
from worker.model.operations import Operation
from worker.model.policies import PolicyChange
from worker.model.regional import RegionChange
from worker.model.replies import REPLIES, ApprovalResult, ClientResult, Hint, KeyResult, TenantResult, Transition
from worker.model.sequences import SEQUENCE, SequenceBody
from worker.model.topics import Cleanup, Topics, TopicSpec, specs
from worker.model.triggering import TriggerChange, TriggerTold
from worker.seal.announcements import CertificateBody, IntakeBody
from worker.seal.identity import IdentityDocument
from worker.seal.lineage import SuccessionBody

Json = dict[str, Any]
VERSION = "1.1.0"
"""Of the contract, not of the code: minor for additions, and there is no major one (DESIGN: stable for ever)."""
DRAFT = "http://json-schema.org/draft-07/schema#"
FORMAT = "application/schema+json;version=draft-07"
TOPICS = Topics()
EVENTS: dict[str, type[BaseModel]] = {
    "keyriver.tenant.created.v1": TenantResult,
    "keyriver.key.created.v1": KeyResult,
    "keyriver.key.rotated.v1": KeyResult,
    "keyriver.key.activation.scheduled.v1": Transition,
    "keyriver.key.activated.v1": Transition,
    "keyriver.key.suspended.v1": Transition,
    "keyriver.key.resumed.v1": Transition,
    "keyriver.key.deactivated.v1": Transition,
    "keyriver.key.compromised.v1": Transition,
    "keyriver.key.disabled.v1": Transition,
    "keyriver.key.enabled.v1": Transition,
    "keyriver.key.destruction.scheduled.v1": Transition,
    "keyriver.key.destruction.cancelled.v1": Transition,
    "keyriver.key.activation.lapsed.v1": Transition,
    "keyriver.key.destruction.begun.v1": Transition,
    "keyriver.key.destroyed.v1": Transition,
    "keyriver.key.imported.v1": Transition,
    "keyriver.key.material.expired.v1": Transition,
    "keyriver.key.material.deleted.v1": Transition,
    "keyriver.import.offered.v1": ImportFact,
    "keyriver.import.refused.v1": ImportFact,
    "keyriver.import.expired.v1": ImportFact,
    "keyriver.import.ended.v1": ImportFact,
    "keyriver.approval.requested.v1": ApprovalResult,
    "keyriver.approval.approved.v1": ApprovalResult,
    "keyriver.approval.rejected.v1": ApprovalResult,
    "keyriver.approval.voided.v1": ApprovalResult,
    "keyriver.approval.expired.v1": ApprovalResult,
    "keyriver.pin.locked.v1": PinLocked,
    "keyriver.row.reverted.v1": RowReverted,
    "keyriver.region.changed.v1": RegionChange,
    HINT: Hint,
    SEQUENCE: SequenceBody,
    "keyriver.fleet.rotated.v1": FleetKeyResult,
    "keyriver.fleet.retired.v1": FleetKeyResult,
    "keyriver.client.added.v1": ClientResult,
    "keyriver.client.rotated.v1": ClientResult,
    "keyriver.client.revoked.v1": ClientResult,
    "keyriver.key.retired.v1": Transition,
    **dict.fromkeys(campaigns.STATED, CampaignTold),
    "keyriver.link.created.v1": LinkChange,
    "keyriver.link.severed.v1": LinkChange,
    "keyriver.link.restored.v1": LinkChange,
    "keyriver.link.unlinked.v1": LinkChange,
    "keyriver.link.sovereign.v1": LinkChange,
    "keyriver.link.rotated.v1": LinkChange,
    "keyriver.tenant.moved.v1": MoveResult,
    "keyriver.rule.added.v1": PolicyChange,
    "keyriver.rule.revoked.v1": PolicyChange,
    "keyriver.grant.given.v1": PolicyChange,
    "keyriver.grant.revoked.v1": PolicyChange,
    "keyriver.quota.set.v1": PolicyChange,
    "keyriver.trigger.added.v1": TriggerChange,
    "keyriver.trigger.removed.v1": TriggerChange,
    "keyriver.trigger.fired.v1": TriggerTold,
}
ANNOUNCEMENTS: dict[str, type[BaseModel]] = {
    "keyriver.certificate.v1": CertificateBody,
    "keyriver.intake-key.v1": IntakeBody,
    "keyriver.fleet-key.v1": SuccessionBody,
}
CHECKPOINTS: dict[str, type[BaseModel]] = {"keyriver.checkpoint.v1": CheckpointBody}


class _Quiet(GenerateJsonSchema):
    """Without the titles that only repeat a field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's signature
        return False


def schema_of(model: type[BaseModel], name: str) -> Json:
    """The JSON Schema of a body. Nothing in it is newer than draft-07, which AsyncAPI tools read."""
    return {"$schema": DRAFT, "title": name} | model.model_json_schema(schema_generator=_Quiet) | {"title": name}


@cache
def messages() -> dict[str, Json]:
    """Every message by its type: who says it, which headers it has, and its payload."""
    found: dict[str, Json] = {}
    for operation in Operation:
        asked, told = operation.request_type, operation.reply_type
        found[asked] = _message("caller", "request", schema_of(BODIES[operation], asked))
        found[told] = _message("fleet", "reply", schema_of(REPLIES[operation], told))
    for name, model in EVENTS.items():
        found[name] = _message("fleet", "event", schema_of(model, name))
    for name, model in (ANNOUNCEMENTS | CHECKPOINTS).items():
        found[name] = _message("fleet", "announcement", schema_of(model, name))
    return found


def _message(speaker: str, head: str, payload: Json) -> Json:
    return {"from": speaker, "headers": head, "payload": payload}


def codes() -> Json:
    """The one table of codes."""
    return {
        code.value: {
            "family": meaning.family.value,
            "retry": meaning.retry,
            "answered": meaning.family is not Family.POISON,
            "message": meaning.message,
        }
        for code, meaning in MEANINGS.items()
    }


@cache
def contract() -> Json:
    """All that must stay compatible."""
    heads = {
        f"headers of {name}s": _message("caller" if name == "request" else "fleet", name, head)
        for name, head in headers.ALL.items()
    }
    return {
        "topics": sorted(spec.name for spec in specs(TOPICS)),
        "codes": codes(),
        "messages": messages() | heads,
    }


@cache
def documents() -> dict[str, Json]:
    """Every generated file by its path below `schemas/`."""
    said, shown = messages(), samples()
    files: dict[str, Json] = {f"messages/{name}.json": message["payload"] for name, message in said.items()}
    files["identity.json"] = schema_of(IdentityDocument, "identity")
    files["codes.json"] = codes()
    for name, sample in shown.items():
        files[f"examples/{name}.json"] = {"headers": sample.headers, "payload": sample.payload}
    files["asyncapi.json"] = asyncapi(said, shown)
    return files


def asyncapi(said: dict[str, Json], shown: dict[str, Sample]) -> Json:
    """The AsyncAPI 3 document, seen from the fleet: it receives requests and sends the rest."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Keyriver",
            "version": VERSION,
            "description": "Wrap, unwrap and rewrap data keys over Kafka. The prefix of all topics is configurable. "
            "Signatures, sealing and golden vectors: README.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {spec.name: _channel(spec, said) for spec in specs(TOPICS)},
        "operations": _operations(),
        "components": {
            "schemas": {f"{name}Headers": head for name, head in headers.ALL.items()},
            "messages": {name: _shown(name, message, shown) for name, message in said.items()}
            | {name: _set_aside(name) for name in ("deadLetter", "undelivered")},
        },
    }


def _channel(spec: TopicSpec, said: dict[str, Json]) -> Json:
    cleanup = ["compact", "delete"] if spec.cleanup is Cleanup.BOTH else [spec.cleanup.value]
    return {
        "address": spec.name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _on(spec.name, said)},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "topicConfiguration": {
                    "cleanup.policy": cleanup,
                    "retention.ms": -1 if spec.retention_ms is None else spec.retention_ms,
                    "max.message.bytes": spec.max_message_bytes,
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _on(topic: str, said: dict[str, Json]) -> list[str]:
    if topic == TOPICS.undelivered:
        return ["undelivered"]
    return ["deadLetter"] if topic.endswith(".dlq") else [name for name in said if _topic(name) == topic]


def _topic(name: str) -> str:
    for operation in Operation:
        if name == operation.request_type:
            return f"{TOPICS.prefix}.{operation.topic}"
    if name in (HINT, SEQUENCE):
        return TOPICS.hints if name == HINT else TOPICS.sequences
    if name in EVENTS:
        return TOPICS.events
    if name in CHECKPOINTS:
        return TOPICS.audit
    return TOPICS.intake if name in ANNOUNCEMENTS else TOPICS.replies


def _operations() -> Json:
    found: Json = {}
    for operation in Operation:
        asked = f"#/channels/{_topic(operation.request_type)}"
        told = f"#/channels/{TOPICS.replies}"
        found[operation.value] = {
            "action": "receive",
            "channel": {"$ref": asked},
            "messages": [{"$ref": f"{asked}/messages/{operation.request_type}"}],
            "reply": {
                "address": {"location": "$message.header#/ce_replyto"},
                "channel": {"$ref": told},
                "messages": [{"$ref": f"{told}/messages/{operation.reply_type}"}],
            },
        }
    sent = (
        ("events", TOPICS.events),
        ("hints", TOPICS.hints),
        ("sequences", TOPICS.sequences),
        ("announcements", TOPICS.intake),
        ("checkpoints", TOPICS.audit),
    )
    for name, topic in sent:
        found[name] = {"action": "send", "channel": {"$ref": f"#/channels/{topic}"}}
    return found


def _shown(name: str, message: Json, shown: dict[str, Sample]) -> Json:
    return {
        "name": name,
        "title": message["payload"].get("description", name).split(".")[0],
        "contentType": "application/json",
        "headers": {"$ref": f"#/components/schemas/{message['headers']}Headers"},
        "payload": {"schemaFormat": FORMAT, "schema": {"$ref": f"./messages/{name}.json"}},
        "examples": [
            {"name": title, "headers": sample.headers, "payload": sample.payload}
            for title, sample in shown.items()
            if sample.type == name
        ],
    }


def _set_aside(name: str) -> Json:
    headers_ = {"$ref": f"#/components/schemas/{name}Headers"}
    return {"name": name, "summary": "The record's own bytes, and its headers with more.", "headers": headers_}
