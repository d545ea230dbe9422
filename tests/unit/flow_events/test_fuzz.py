"""Whatever comes in, nothing but the typed refusals comes out."""

import json
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.flow_events.letters import BODY, FLEET, PREFIX, caught, draft, identity, record, row
from tests.unit.flow_events.test_events import RELEVANT
from tests.unit.flow_events.test_opening import Rows
from worker.flow.bodies import BodyLimits, read
from worker.flow.events import STRUCTURED, Event, Unreadable, decode
from worker.flow.opening import Dead, Opening, Rejected
from worker.model.bodies import BODIES
from worker.model.codes import MEANINGS, Code, Family
from worker.model.operations import Operation
from worker.model.requests import Request

ME = identity()
OPENING = Opening(FLEET, PREFIX, BodyLimits(), Rows({ME.client: row(ME)}))
BYTES = st.binary(max_size=300)
WORDS = st.sampled_from(
    [b"1.0", b"acme", b"billing", b"u.replies.v1", b"keyriver.wrap.v1", b"2026-09-21T14:13:20Z", b"x25519:AAAA", b"3"]
)
VALUES = st.one_of(WORDS, BYTES, st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
NAMES = st.one_of(st.sampled_from([*RELEVANT, "ce_x"]), st.text(max_size=12))
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=16).map(tuple)
TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                st.text(max_size=8), st.sampled_from(["key", "items", "sealed", "context", "id", "blob", "bits"])
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=20,
)
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def readable(headers: tuple[tuple[str, bytes], ...], value: bytes) -> Event | None:
    try:
        return decode(record(headers, value))
    except Unreadable:
        return None


@FUZZ
@given(HEADERS, BYTES)
def test_any_headers_are_read_or_unreadable(headers: tuple[tuple[str, bytes], ...], value: bytes) -> None:
    readable(headers, value)


@FUZZ
@given(st.dictionaries(st.sampled_from(RELEVANT), VALUES, max_size=8), BYTES)
def test_what_is_nearly_right_is_opened_or_refused(changes: dict[str, bytes], value: bytes) -> None:
    honest = caught(draft(ME).record())
    changed = {**dict(honest.headers), **changes}
    _open_one(tuple(changed.items()), value)


@FUZZ
@given(st.dictionaries(st.sampled_from([name.removeprefix("ce_") for name in RELEVANT] + ["data"]), TREES), TREES)
def test_any_structured_event_is_read_or_refused(changes: dict[str, object], data: object) -> None:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "tests",
        "type": "keyriver.wrap.v1",
        "time": "2026-09-21T14:13:20Z",
        "tenant": "acme",
        "client": "billing",
        "replyto": "u.replies.v1",
        "data": data,
    } | changes
    _open_one((("content-type", STRUCTURED.encode()),), json.dumps(event).encode())


def _open_one(headers: tuple[tuple[str, bytes], ...], value: bytes) -> None:
    """Without a loop: all that `open` waits for here is its turn."""
    work = OPENING.open([record(headers, value)])
    try:
        while True:
            work.send(None)
    except StopIteration as done:
        (found,) = done.value
    assert isinstance(found, Request | Rejected | Dead)
    if isinstance(found, Dead):
        assert MEANINGS[found.code].family is Family.POISON


@FUZZ
@given(st.sampled_from(list(Operation)), st.one_of(BYTES, TREES.map(lambda tree: json.dumps(tree).encode())))
def test_any_body_is_read_or_has_a_code(operation: Operation, raw: bytes) -> None:
    found = read(operation, raw, BodyLimits())
    assert isinstance(found, Code | BODIES[operation])
    if isinstance(found, Code):
        assert MEANINGS[found].family is Family.CALLER


@FUZZ
@given(st.data())
def test_a_body_with_any_byte_changed_is_read_or_has_a_code(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(BODY) - 1))
    changed = BODY[:at] + data.draw(st.binary(max_size=3)) + BODY[at + 1 :]
    assert isinstance(read(Operation.WRAP, changed, replace(BodyLimits(), items=2)), Code | BODIES[Operation.WRAP])
