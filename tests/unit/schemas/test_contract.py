"""The committed contract is the code's, its examples are valid, signed and sealed, and what it refers to exists."""

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel, ValidationError

from schemas import contract, generate, headers
from schemas.samples import FLEET, KEYS, REPLY_TOPIC, Sample, samples
from worker.flow import events
from worker.flow.bodies import BodyLimits
from worker.flow.bodies import read as read_body
from worker.flow.events import decode
from worker.model.bodies import BODIES
from worker.model.codes import Code
from worker.model.operations import BY_TYPE, Operation
from worker.model.records import Partition, Record
from worker.model.replies import REPLIES
from worker.model.rows import Algorithm, Suite
from worker.seal import hpke
from worker.seal.claims import ReplyClaims, RequestClaims, recipient_claim, signed_digest
from worker.seal.signatures import verify_jws

SCHEMAS = Path(generate.__file__).parent
SAMPLES = samples()
MODELS: dict[str, type[BaseModel]] = {
    **{operation.request_type: BODIES[operation] for operation in Operation},
    **{operation.reply_type: REPLIES[operation] for operation in Operation},
    **contract.EVENTS,
    **contract.ANNOUNCEMENTS,
    **contract.CHECKPOINTS,
}
WRONG: list[object] = [None, [], {}, -1, True, "", "1", 1, [{"surprise": 1}], [{}]]
each = pytest.mark.parametrize("name", SAMPLES)


def committed(path: str) -> Any:  # noqa: ANN401 - any JSON
    return json.loads((SCHEMAS / path).read_text(encoding="utf-8"))


def public(name: str) -> bytes:
    return bytes.fromhex(KEYS["signers"][name]["public"])


def record(sample: Sample, operation: Operation) -> Record:
    raw = tuple((name, value.encode()) for name, value in sample.headers.items())
    return Record(Partition(f"keyriver.{operation.topic}", 0), 0, None, sample.value, raw, 0, 1)


def request_payload(sample: Sample, operation: Operation) -> bytes:
    """What the worker finds signed in the record, by its own decoder."""
    event = decode(record(sample, operation))
    return RequestClaims(
        fleet=FLEET,
        tenant=event.tenant,
        client=event.client,
        topic=f"keyriver.{operation.topic}",
        id=event.id,
        type=event.type,
        source=event.source,
        time=event.time,
        deadline=event.deadline,
        reply_topic=event.reply_topic,
        reply_partition=event.reply_partition,
        recipient=recipient_claim(event.recipient),
        body_sha256=sha256(sample.value).digest(),
    ).payload()


def test_the_committed_files_are_the_codes() -> None:
    assert generate.problems() == []


def test_every_message_has_an_example() -> None:
    assert {sample.type for sample in SAMPLES.values()} == set(contract.messages()) == set(MODELS)


@each
def test_example_fits_schema_and_model(name: str) -> None:
    sample, example = SAMPLES[name], committed(f"examples/{name}.json")
    schema = committed(f"messages/{sample.type}.json")
    Draft7Validator.check_schema(schema)
    Draft7Validator(schema).validate(example["payload"])
    head = headers.ALL[contract.messages()[sample.type]["headers"]]
    Draft7Validator.check_schema(head)
    Draft7Validator({**head, "additionalProperties": False}).validate(example["headers"])
    read = MODELS[sample.type].model_validate_json(sample.value)
    assert read.model_validate_json(read.model_dump_json(exclude_none=True)) == read


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if sample.type in BY_TYPE])
def test_request_is_read_and_authentic_to_a_worker(name: str) -> None:
    sample = SAMPLES[name]
    operation = BY_TYPE[sample.type]
    signer = "client" if sample.headers["ce_client"] == "payments" else "officer"
    payload = request_payload(sample, operation)
    verify_jws(sample.headers["keyriver-signature"], payload, Algorithm.ED25519, public(signer))
    assert isinstance(read_body(operation, sample.value, BodyLimits()), BODIES[operation])


@pytest.mark.parametrize("operation", Operation)
def test_reply_answers_its_request_and_is_the_fleets(operation: Operation) -> None:
    told = SAMPLES[operation.reply_type]
    claims = ReplyClaims(
        fleet=FLEET,
        topic=REPLY_TOPIC,
        type=operation.reply_type,
        request_id=told.headers["ce_id"],
        request_sha256=signed_digest(request_payload(SAMPLES[operation.request_type], operation)),
        body_sha256=sha256(told.value).digest(),
    )
    verify_jws(told.headers["keyriver-signature"], claims.payload(), Algorithm.ED25519, public("worker"))


@pytest.mark.parametrize("operation", [Operation.WRAP, Operation.UNWRAP])
def test_sealed_part_has_a_dek_for_each_item_that_succeeded(operation: Operation) -> None:
    told = SAMPLES[operation.reply_type]
    recipient = KEYS["recipients"]["x25519"]
    bound = hpke.info(
        "reply",
        Suite.X25519,
        FLEET,
        "acme",
        "payments",
        operation,
        told.headers["ce_id"],
        bytes.fromhex(recipient["public"]),
    )
    sealed = b64decode(told.payload["sealed"]["ciphertext"])
    packed = hpke.open_sealed(Suite.X25519, bytes.fromhex(recipient["private"]), bound, sealed)
    results = told.payload["results"]
    deks = hpke.unpack_slots(packed, len(results))
    assert [bool(dek) for dek in deks] == ["code" not in result for result in results]


@pytest.mark.parametrize("operation", Operation)
def test_schema_and_worker_refuse_the_same(operation: Operation) -> None:
    """Every field taken away, doubted or added: the schema tells a caller what the worker will say."""
    validator = Draft7Validator(committed(f"messages/{operation.request_type}.json"))
    body = SAMPLES[operation.request_type].payload
    variants: list[object] = [[], None, {**body, "surprise": 1}]
    for name in body:
        variants.append({key: value for key, value in body.items() if key != name})
        variants += [{**body, name: value} for value in WRONG]
    for variant in variants:
        read = read_body(operation, json.dumps(variant).encode(), BodyLimits())
        assert validator.is_valid(variant) == (read is not Code.MALFORMED), variant


def test_one_of_id_and_blob_in_the_schema_too() -> None:
    validator = Draft7Validator(committed("messages/keyriver.unwrap.v1.json"))
    both = SAMPLES["keyriver.unwrap.v1"].payload["items"]
    good, bad = [both[0], both[2], {**both[2], "id": None}], [{}, {"id": None}, {**both[0], **both[2]}]
    assert validator.is_valid({"items": good})
    for item in bad:
        assert not validator.is_valid({"items": [item]})
        with pytest.raises(ValidationError):
            BODIES[Operation.UNWRAP].model_validate({"items": [item]})


def references(node: object) -> list[str]:
    if isinstance(node, list):
        return [found for one in node for found in references(one)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for one in node.values() for found in references(one)]


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = committed("asyncapi.json")
    found = references(document)
    assert found
    for reference in found:
        path, _, pointer = reference.partition("#")
        node = committed(path) if path else document
        for step in pointer.split("/")[1:]:
            node = node[step]


def test_every_topic_is_a_channel_and_every_message_is_on_one() -> None:
    channels = committed("asyncapi.json")["channels"]
    assert sorted(channels) == contract.contract()["topics"]
    said = {name for channel in channels.values() for name in channel["messages"]}
    assert said == set(contract.messages()) | {"deadLetter", "undelivered"}


def test_the_headers_that_mean_something_to_a_worker_are_all_described() -> None:
    told = set(headers.REQUEST["properties"])
    assert told >= events._MEANT


def test_the_changelog_begins_with_this_version() -> None:
    lines = (SCHEMAS / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert next(line for line in lines if line.startswith("## ")) == f"## {contract.VERSION}"
