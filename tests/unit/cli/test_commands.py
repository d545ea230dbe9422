"""The command line itself: help that teaches, plain errors, exit codes."""

from uuid import UUID

import pytest

from tests.unit.cli.conftest import SECRET, Configure
from worker.cli import obey
from worker.cli.key import by_parent, nested
from worker.model.hsm import Purpose
from worker.model.replies import KeyView
from worker.model.rows import Origin

COMMANDS = [
    "local up",
    "init",
    "doctor",
    "topics",
    "run",
    "tenant create",
    "key create",
    "key rotate",
    "key show",
    "key list",
    "key tree",
    "key disable",
    "region set",
    "region list",
    "tenant move",
    "tenant follow",
    "link create",
    "link show",
    "link list",
    "link cut",
    "link restore",
    "link unlink",
    "link declare",
    "client add",
    "client rotate",
    "client revoke",
    "client list",
    "trigger add",
    "trigger remove",
    "trigger list",
    "trigger check",
    "trigger send",
    "officer add",
    "officer remove",
    "officer list",
    "fleet rotate",
    "fleet show",
    "policy allow",
    "policy revoke",
    "policy list",
    "policy check",
    "grant give",
    "grant revoke",
    "grant list",
    "tenant quota",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert obey([*command.split(), "--help"]) == 0
    assert f"keyriver {command}" in capsys.readouterr().out.split("Usage:", 1)[1].split("\n", 1)[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tenant create", "TENANT_CREATE|NAME"),
        ("tenant creat x", "creat"),
        ("tenant create UPPER", "tenant: "),
        ("tenant create acme --layers 9", "layers: "),
        ("tenant move acme --endpoint https://k.example", "--provider: name what the keystore speaks"),
        ("tenant move acme --provider xks", "endpoint: "),
        ("link create acme --provider post --endpoint x --key k --credential c", "post"),
        ("key create acme", "acme has no parent"),
        ("key show 01a20fcf-6f11-7a1f-9cd5-2117632ec9c3", "--tenant"),
        ("client add acme x --allow fly", "--allow: a comma-separated choice of wrap"),
        ("policy allow acme x fly", "OPERATIONS: a comma-separated choice of wrap"),
        ("policy allow acme x wrap --region EU", "region: "),
        ("policy check acme x fly acme/eu", "fly"),
        ("grant give x acme/eu unwrap --why y --hours 25", "for_s: "),
        ("grant give x acme/eu unwrap", "--why"),
        ("tenant quota acme --burst 5", "--per-second: how much"),
        ("tenant quota acme --client x", "--per-second: how much"),
        ("tenant quota acme --per-second 5 --unlimited", "not together"),
        ("tenant quota acme --per-second 0", "per_second: "),
        ("init ann", "at least two officers"),
        ("init ann ann", "at least two officers"),
        ("run --lanes sideways", "--lanes: a comma-separated choice of control"),
        ("run --processes 0", "from 1 to 256"),
    ],
)
def test_mistakes_are_usage_errors(
    line: str, said: str, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    assert obey(line.split()) == 2
    shown = capsys.readouterr()
    assert any(each in shown.err + shown.out for each in said.split("|"))
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("line", ["doctor", "tenant create acme", "topics", "key list acme"])
def test_what_cannot_be_reached_is_said_plainly(
    line: str, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    assert obey(line.split()) == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert SECRET not in shown.err + shown.out


def view(number: int, parent: int | None) -> KeyView:
    return KeyView(
        id=UUID(int=number),
        tenant="acme",
        alias=f"k{number}",
        parent=None if parent is None else UUID(int=parent),
        layer=1,
        purpose=Purpose.WRAPS_KEYS,
        origin=Origin.GENERATED,
        region="",
        enabled=True,
        active_version=1,
    )


def test_a_tree_is_every_key_under_its_parent() -> None:
    keys = [view(1, None), view(2, 1), view(3, 1), view(4, 3)]

    def shape(nodes: object) -> object:
        assert isinstance(nodes, list)
        return {node["alias"]: shape(node["children"]) for node in nodes}

    assert shape(nested(by_parent(keys), None)) == {"k1": {"k2": {}, "k3": {"k4": {}}}}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trigger add acme yearly --on key-age", "a period goes with key-age"),
        ("trigger add acme now --on schedule-due --do emergency", "emergency goes with"),
        ("trigger add acme below --on parent-rotated", "parent-rotated goes with move"),
        ("trigger add acme worn --on use-count --do move", "use-count goes with rotate"),
        ("trigger add acme Late --on schedule-due", "name: "),
        ("trigger send member-left acme/eu", "--as: name an identity file"),
    ],
)
def test_rules_that_make_no_sense_are_refused_here(
    line: str, said: str, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    assert obey(line.split()) == 2
    assert said in capsys.readouterr().err
