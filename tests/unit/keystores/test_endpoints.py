"""The allow list (S13, SSRF): what is no plain HTTPS address, and what only looks like an allowed one, is denied."""

import pytest

from worker.edges.keystores.endpoints import is_allowed, is_endpoint, is_key

ALLOWED = ["https://kms.acme.example", "https://vault.example:8200/acme"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://kms.acme.example",
        "https://kms.acme.example/tenant-1",
        "https://vault.example:8200/acme",
        "https://vault.example:8200/acme/eu_1",
    ],
)
def test_at_or_below_a_prefix(endpoint: str) -> None:
    assert is_allowed(endpoint, ALLOWED)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "http://kms.acme.example",
        "https://kms.acme.example.evil.example",
        "https://kms.acme.example@evil.example",
        "https://kms.acme.example:8443",
        "https://evil.example/https://kms.acme.example",
        "https://KMS.acme.example",
        "https://kms.acme.example/",
        "https://kms.acme.example//",
        "https://kms.acme.example/../x",
        "https://kms.acme.example/%2e%2e/x",
        "https://kms.acme.example/a?b=c",
        "https://kms.acme.example/a#b",
        "https://kms.acme.example\\@evil.example",
        "https://kms.acme.example\n",
        "https://kms.acme.example/" + "a" * 256,
        "https://vault.example:8200",
        "https://vault.example:8200/acme2",
        "https://vault.example/acme",
        "https://169.254.169.254",
        "https://[::1]/acme",
        "file:///etc/passwd",
    ],
)
def test_everything_else_is_denied(endpoint: str) -> None:
    assert not is_allowed(endpoint, ALLOWED)


def test_nothing_is_allowed_by_default() -> None:
    assert not is_allowed("https://kms.acme.example", [])


@pytest.mark.parametrize("prefix", ["https://", "https://*", "*", "https://kms.acme.example/"])
def test_a_prefix_is_an_endpoint_itself(prefix: str) -> None:
    assert not is_endpoint(prefix)
    assert not is_allowed("https://kms.acme.example/a", [prefix])


def test_keys_of_a_url() -> None:
    assert is_key("a.B_9-")
    assert not any(map(is_key, ["", ".", "..", "a/b", "a b", "a\n", "ä", "%2e", "a" * 129]))
