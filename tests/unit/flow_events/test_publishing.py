"""Answers go out, dead letters go where they must or the batch fails, and what nobody takes is not lost (D5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.unit.flow_events.letters import REPLIES, record
from worker.flow.deadletters import Bucket, DeadLetters
from worker.flow.opening import Dead
from worker.flow.publishing import Letter, Publishing, UndeliverableError
from worker.model.codes import Code
from worker.model.records import Outgoing, Record, Undeliverable
from worker.ports import BusUnavailable

ANSWER = Outgoing(REPLIES, b"key", b"sealed", (("ce_id", b"request-1"),), 2)


@dataclass
class Mail:
    """A sink that refuses some topics, and who counts."""

    refuses: dict[str, Undeliverable] = field(default_factory=dict)
    sent: list[Outgoing] = field(default_factory=list)
    buried_: list[tuple[int, Code]] = field(default_factory=list)
    noted_: list[tuple[int, Code]] = field(default_factory=list)
    undelivered_: list[tuple[str, Undeliverable]] = field(default_factory=list)
    is_away: bool = False

    async def publish(self, records: Sequence[Outgoing]) -> list[Undeliverable | None]:
        if self.is_away:
            raise BusUnavailable
        self.sent += [each for each in records if each.topic not in self.refuses]
        return [self.refuses.get(each.topic) for each in records]

    def buried(self, record: Record, code: Code) -> None:
        self.buried_.append((record.offset, code))

    def noted(self, record: Record, code: Code) -> None:
        self.noted_.append((record.offset, code))

    def undelivered(self, topic: str, reason: Undeliverable) -> None:
        self.undelivered_.append((topic, reason))


def publishing(mail: Mail, rate: float = 50.0) -> Publishing:
    return Publishing(mail, DeadLetters("u.undelivered.v1", "host/1", mail, Bucket(rate, lambda: 0.0)))


async def test_an_answer_goes_out_once() -> None:
    mail = Mail()
    await publishing(mail).publish([Letter(record(), ANSWER)])
    await publishing(mail).publish([])
    assert mail.sent == [ANSWER]


async def test_an_answer_that_nobody_takes_is_kept_with_its_reason() -> None:
    mail = Mail({REPLIES: Undeliverable.NO_TOPIC})
    await publishing(mail).publish([Letter(record(), ANSWER)])
    (kept,) = mail.sent
    told = dict(kept.headers)
    assert (kept.topic, kept.value) == ("u.undelivered.v1", b"sealed")
    assert told["keyriver-undelivered-reason"] == b"no-topic"
    assert told["keyriver-undelivered-topic"] == REPLIES.encode()
    assert told["keyriver-undelivered-origin-offset"] == b"11"
    assert mail.undelivered_ == [(REPLIES, Undeliverable.NO_TOPIC)]


async def test_unauthentic_records_are_buried_at_a_rate_and_then_noted(caplog: pytest.LogCaptureFixture) -> None:
    mail = Mail()
    dead = [Dead(record({"ce_id": None}), Code.UNREADABLE, "no id")] * 60
    await publishing(mail).bury(dead)
    assert len(mail.sent) == len(mail.buried_) == 50
    assert len(mail.noted_) == 10
    told = dict(mail.sent[0].headers)
    assert mail.sent[0].topic == "u.wrap.v1.dlq"
    assert told["keyriver-dlq-origin-topic"] == b"u.wrap.v1"
    assert (told["keyriver-dlq-origin-partition"], told["keyriver-dlq-origin-offset"]) == (b"0", b"11")
    assert told["keyriver-dlq-code"] == b"UNREADABLE"
    assert [line.message for line in caplog.records] == [
        "u.wrap.v1/0@11: beyond the rate, not dead-lettered: UNREADABLE"
    ] * 10
    await publishing(mail).bury([])


async def test_without_a_grave_the_batch_fails_and_nothing_is_lost() -> None:
    mail = Mail({"u.wrap.v1.dlq": Undeliverable.NO_TOPIC, "u.undelivered.v1": Undeliverable.TOO_LARGE})
    with pytest.raises(UndeliverableError, match=r"u\.wrap\.v1\.dlq"):
        await publishing(mail).bury([Dead(record(), Code.UNAUTHENTICATED, "")])
    with pytest.raises(UndeliverableError, match=r"u\.wrap\.v1\.dlq"):
        await publishing(mail).set_aside(record(), Code.POISON, 3)
    mail.refuses[REPLIES] = Undeliverable.REFUSED
    with pytest.raises(UndeliverableError, match="undelivered"):
        await publishing(mail).publish([Letter(record(), ANSWER)])


async def test_without_the_bus_nothing_is_told() -> None:
    with pytest.raises(BusUnavailable):
        await publishing(Mail(is_away=True)).publish([Letter(record(), ANSWER)])


async def test_an_authentic_record_is_set_aside_whatever_the_rate() -> None:
    mail = Mail()
    await publishing(mail, rate=0.0).set_aside(record(), Code.POISON, 3)
    assert dict(mail.sent[0].headers)["keyriver-dlq-attempts"] == b"3"
    assert mail.sent[0].value == record().value
