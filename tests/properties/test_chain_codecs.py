"""Bytes that are read for ever: whatever is written comes back, and nothing else is taken for it."""

from contextlib import suppress
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from worker.chain import blob, payload
from worker.chain.outcomes import decode, encode
from worker.model.codes import Code, is_retryable
from worker.model.hsm import Purpose
from worker.model.outcomes import Commanded, Failed, Outcome, Rewrapped, Wrapped
from worker.model.replies import (
    ClientListResult,
    ClientResult,
    ClientView,
    CommandResult,
    KeyListResult,
    KeyResult,
    KeyView,
    TenantResult,
    VersionView,
)
from worker.model.rows import Algorithm, Origin, Role, State

IDS = st.uuids()
VERSIONS = st.integers(1, 2**31 - 1)
CHARACTERS = st.characters(codec="utf-8")
TEXTS = st.text(CHARACTERS, max_size=12)
NUMBERS = st.integers(0, 2**53 - 1)
KEY_VIEWS = st.builds(
    KeyView,
    id=IDS,
    tenant=TEXTS,
    alias=TEXTS,
    parent=st.none() | IDS,
    layer=st.integers(1, 8),
    purpose=st.sampled_from(Purpose),
    origin=st.sampled_from(Origin),
    region=TEXTS,
    enabled=st.booleans(),
    active_version=VERSIONS,
    versions=st.lists(
        st.builds(VersionView, number=VERSIONS, state=st.sampled_from(State), created_ms=NUMBERS), max_size=2
    ),
)
CLIENT_VIEWS = st.builds(
    ClientView,
    id=TEXTS,
    tenant=TEXTS,
    role=st.sampled_from(Role),
    algorithm=st.sampled_from(Algorithm),
    permissions=st.lists(TEXTS, max_size=2),
    pattern=TEXTS,
    reply_topics=st.lists(TEXTS, max_size=2),
    not_after_ms=NUMBERS,
    revoked=st.booleans(),
)
RESULTS: st.SearchStrategy[CommandResult] = st.one_of(
    st.builds(TenantResult, tenant=TEXTS, layers=st.integers(2, 8), key=KEY_VIEWS),
    st.builds(KeyResult, key=KEY_VIEWS),
    st.builds(KeyListResult, keys=st.lists(KEY_VIEWS, max_size=2), more=st.booleans()),
    st.builds(ClientResult, client=CLIENT_VIEWS),
    st.builds(ClientListResult, clients=st.lists(CLIENT_VIEWS, max_size=2), more=st.booleans()),
)
BLOBS = st.binary(min_size=1, max_size=80)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Failed, st.sampled_from([code for code in Code if not is_retryable(code)])),
    st.builds(Wrapped, IDS, IDS, VERSIONS, BLOBS),
    st.builds(Rewrapped, IDS, IDS, VERSIONS, BLOBS, unchanged=st.booleans()),
    st.builds(Commanded, RESULTS),
)


@given(OUTCOMES)
def test_an_outcome_comes_back_from_the_ledger_as_it_was(outcome: Outcome) -> None:
    raw = encode(outcome)
    assert raw is not None
    assert decode(raw) == outcome
    assert encode(decode(raw)) == raw


@given(st.binary(max_size=120))
def test_other_bytes_are_refused_or_are_what_would_be_written(raw: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(decode(raw), Failed | Wrapped | Rewrapped | Commanded)


@given(IDS, VERSIONS, IDS, st.binary(min_size=12, max_size=12), st.binary(min_size=17, max_size=200))
def test_a_blob_comes_back_as_its_parts(key: UUID, version: int, dek: UUID, nonce: bytes, text: bytes) -> None:
    raw = blob.header(key, version, dek) + nonce + text
    parsed = blob.parse(raw)
    assert (parsed.key, parsed.version, parsed.dek, parsed.nonce, parsed.ciphertext) == (key, version, dek, nonce, text)
    assert parsed.header + parsed.nonce + parsed.ciphertext == raw


@given(st.binary(max_size=400))
def test_no_bytes_harm_the_reader(raw: bytes) -> None:
    for made in (raw, b"KR\x01\x01" + raw):
        with suppress(blob.BadBlob):
            parsed = blob.parse(made)
            assert parsed.header + parsed.nonce + parsed.ciphertext == made
    with suppress(ValueError):
        dek, digest = payload.unpack(raw)
        assert payload.pack(dek, digest) == raw


@given(st.text(CHARACTERS), st.text(CHARACTERS))
def test_two_tenants_never_share_what_is_authenticated(one: str, other: str) -> None:
    head = blob.header(UUID(int=1), 1, UUID(int=2))
    assert (blob.aad(head, one) == blob.aad(head, other)) is (one == other)
