"""A worker signs with a key that clients accept now, or not at all (S1)."""

import pytest

from worker.edges.bus.fake import FakeBus
from worker.edges.hsm.fake import FakeToken
from worker.flow.voice import LIFE_MS, RunVoice
from worker.ports import BusUnavailable

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3_600_000


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def voice(clock: Time) -> RunVoice:
    bus = FakeBus()
    bus.create("intake", 1)
    return RunVoice("dev-test", "intake", FakeToken().fleet_keys, bus.sink(), clock=clock)


def test_without_a_certificate_nothing_is_signed(voice: RunVoice) -> None:
    with pytest.raises(BusUnavailable, match="no certificate yet"):
        voice.signer  # noqa: B018 - it is a property


async def test_after_its_certificate_s_end_nothing_is_signed_until_there_is_a_new_one(
    voice: RunVoice, clock: Time
) -> None:
    """The token was away for a day: answers that clients refuse must not count as given."""
    await voice.renew(NOW_MS)
    first = voice.signer
    clock.now_ms = NOW_MS + LIFE_MS // 2
    assert voice.signer is first
    for late_ms in (LIFE_MS - 90_000, LIFE_MS, LIFE_MS + DAY_MS):
        clock.now_ms = NOW_MS + late_ms
        with pytest.raises(BusUnavailable, match="has expired"):
            voice.signer  # noqa: B018 - it is a property
    await voice.renew(clock.now_ms)
    assert voice.signer is not first
