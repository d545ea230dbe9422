"""Who may do what. Whatever is not allowed by name is refused."""

from dataclasses import replace

import pytest

from tests.unit.chain.world import NOW, officer, service
from worker.chain import policy
from worker.model.operations import SERVICE_OPERATIONS, Operation, Permission
from worker.model.rows import FLEET_TENANT

CLIENT = replace(service(), permissions=("wrap",), pattern="acme/eu/*", not_after_ms=NOW)


def test_a_client_lives_until_its_end_and_not_a_millisecond_longer() -> None:
    assert policy.is_live(CLIENT, NOW - 1)
    assert not policy.is_live(CLIENT, NOW)
    assert not policy.is_live(replace(CLIENT, revoked=True), NOW - 1)


@pytest.mark.parametrize("operation", Operation)
def test_services_use_deks_and_officers_command(operation: Operation) -> None:
    is_data = operation in SERVICE_OPERATIONS
    assert policy.may_ask(CLIENT, operation) is is_data
    assert policy.may_ask(officer("ann"), operation) is not is_data
    assert policy.may_ask(replace(CLIENT, tenant=FLEET_TENANT), operation) is is_data
    assert not policy.may_ask(replace(officer("ann"), tenant="acme"), operation)


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (("acme/eu/payments",), True),
        (("acme/us/payments", "acme/eu/payments"), True),
        (("acme/eu/deep/er",), True),
        (("acme/us/payments",), False),
        (("acme/eu",), False),
        (("xacme/eu/payments",), False),
        ((), False),
    ],
)
def test_a_pattern_must_fit_one_of_the_names(names: tuple[str, ...], *, allowed: bool) -> None:
    assert policy.may_use(CLIENT, Permission.WRAP, names) is allowed
    assert not policy.may_use(CLIENT, Permission.UNWRAP, names)


def test_only_the_pattern_of_everything_fits_a_key_without_a_name() -> None:
    assert policy.may_use(replace(CLIENT, pattern="*"), Permission.WRAP, ())
    assert not policy.may_use(replace(CLIENT, pattern="**"), Permission.WRAP, ())
    assert not policy.may_use(replace(CLIENT, pattern=""), Permission.WRAP, ())
    assert not policy.may_use(replace(CLIENT, pattern="", permissions=("wrap",)), Permission.WRAP, ("acme/eu",))


@pytest.mark.parametrize(("pattern", "allowed"), [("acme/eu/[pq]*", True), ("acme/eu/[!p]*", False), ("ACME/*", False)])
def test_patterns_are_shell_patterns_and_mind_the_case(pattern: str, *, allowed: bool) -> None:
    assert policy.may_use(replace(CLIENT, pattern=pattern), Permission.WRAP, ("acme/eu/payments",)) is allowed


def test_answers_go_to_listed_topics_only() -> None:
    assert policy.may_reply_to(CLIENT, "keyriver.replies.v1")
    assert not policy.may_reply_to(CLIENT, "keyriver.replies.v2")
    assert not policy.may_reply_to(replace(CLIENT, reply_topics=()), "keyriver.replies.v1")
