"""No secret gets into a log, whatever put it there; and what is no secret stays readable."""

import io
import json
import logging
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator

import pytest
import structlog

from worker.model.rows import Algorithm
from worker.seal.identity import generate_private_key_pem
from worker.watch import set_up_logs

KEY = secrets.token_bytes(32)
SMALL = bytes.fromhex("00112233445566778899aabbccddeeff")
PIN, PASSWORD = "PIN-8472-zebra", "pass-4711-giraffe"
DSN = f"postgresql://keyriver:{PASSWORD}@db.example:5432/keyriver?sslmode=verify-full"
PEM = generate_private_key_pem(Algorithm.ED25519)
PLANTED = [
    PIN,
    PASSWORD,
    PEM.splitlines()[1],
    *(form(key) for key in (KEY, SMALL) for form in (bytes.hex, lambda k: b64encode(k).decode(), repr)),
    KEY.hex().upper(),
    urlsafe_b64encode(KEY).decode().rstrip("="),
]


@pytest.fixture(params=[False, True], ids=["json", "console"])
def out(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    set_up_logs("debug", stream, pretty=request.param)
    yield stream
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def assert_clean(out: io.StringIO) -> None:
    text = out.getvalue()
    assert text
    assert [secret for secret in PLANTED if secret in text] == []


def test_secrets_in_fields_are_not_logged(out: io.StringIO) -> None:
    log = structlog.stdlib.get_logger("t")
    log.info("one", pin=PIN, password=PASSWORD, dek=KEY, private_key=PEM, postgres_dsn=DSN, user_pin=PIN)
    log.info("two", nested={"secret": PIN, "list": [KEY, SMALL, {"deks": b64encode(KEY).decode()}]}, dsn=DSN)
    log.info(
        "three", value=KEY, other=bytearray(KEY), view=memoryview(KEY), text=b64encode(SMALL).decode(), hex=KEY.hex()
    )
    assert_clean(out)


def test_secrets_in_messages_are_not_logged(out: io.StringIO) -> None:
    log = logging.getLogger("flow")
    log.warning("connecting to %s with pin=%s", DSN, PIN)
    log.error("%r and %r, %s, %s", KEY, {"k": SMALL}, KEY.hex(), KEY.hex().upper())
    log.info("key %s dek: %s, %s", PEM, b64encode(KEY).decode(), urlsafe_b64encode(KEY).decode().rstrip("="))
    structlog.stdlib.get_logger("t").info("password=%s", PASSWORD)
    assert_clean(out)


def fail() -> None:
    inner = ValueError(f"cannot use {KEY!r} at {DSN}")
    raise RuntimeError(f"user-pin: {PIN}; {PEM}; {SMALL.hex()}") from inner


def test_secrets_in_exceptions_are_not_logged(out: io.StringIO) -> None:
    for log in (logging.getLogger("flow"), structlog.stdlib.get_logger("t")):
        try:
            fail()
        except RuntimeError:
            log.exception("failed")
    assert_clean(out)
    assert "RuntimeError" in out.getvalue()


def test_the_search_finds_a_planted_secret() -> None:
    stream = io.StringIO(f"text {KEY.hex()} text")
    with pytest.raises(AssertionError):
        assert_clean(stream)


def test_what_is_no_secret_stays_readable(out: io.StringIO) -> None:
    kept = {
        "dek_count": 1000,
        "pin_file": "/etc/keyriver/pin",
        "request_id": "01a20fcf-6f11-7a1f-9cd5-2117632ec9c3",
        "path": "/usr/lib/python3.11/site-packages/prometheus_client/exposition.py",
        "topic": "keyriver.wrap.v1",
        "seconds": 0.25,
        "live": True,
    }
    structlog.stdlib.get_logger("t").info("dead letters: UnknownTopicOrPartitionError", **kept)
    text = out.getvalue()
    assert "UnknownTopicOrPartitionError" in text
    for value in kept.values():
        assert str(value) in text or json.dumps(value) in text


def test_libraries_are_heard_only_when_they_warn(out: io.StringIO) -> None:
    logging.getLogger("aiokafka.consumer").info("chatter")
    logging.getLogger("aiokafka.consumer").warning("trouble")
    assert "chatter" not in out.getvalue()
    assert "trouble" in out.getvalue()


def test_json_lines_are_one_object_each() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        set_up_logs("info", stream, pretty=False)
        logging.getLogger("a").info("first\nsecond")
        structlog.stdlib.get_logger("b").warning("third", lane="bulk")
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["message"], first["level"], first["logger"]) == ("first\nsecond", "info", "a")
    assert (second["message"], second["lane"], second["level"]) == ("third", "bulk", "warning")
