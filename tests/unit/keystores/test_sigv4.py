"""SigV4 against the examples that AWS publishes (the `aws4` test suite) and against its own rules."""

from datetime import UTC, datetime

import pytest

from worker.edges.keystores.sigv4 import signed_headers

AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SCOPE = ("us-east-1", "service")


def signature(
    secret: str = SECRET,
    scope: tuple[str, str] = SCOPE,
    target: tuple[str, str] = ("example.amazonaws.com", "/"),
    body: bytes = b"",
    now: datetime = AT,
) -> str:
    return signed_headers("AKIDEXAMPLE", secret, scope, target, body, now)["authorization"]


def test_the_published_example_post_vanilla() -> None:
    assert signature() == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    )


@pytest.mark.parametrize(
    "other",
    [
        signature(secret=SECRET[:-1] + "Z"),
        signature(scope=("us-east-2", "service")),
        signature(scope=("us-east-1", "kms-xks-proxy")),
        signature(target=("example.amazonaws.com:8443", "/")),
        signature(target=("example.amazonaws.com", "/x")),
        signature(body=b"{}"),
        signature(now=AT.replace(second=1)),
    ],
)
def test_everything_is_in_the_signature(other: str) -> None:
    assert other.rpartition("=")[2] != signature().rpartition("=")[2]
