"""Dead letters keep every byte and say where they came from; rubbish is buried at a bounded rate."""

from dataclasses import dataclass, field

from worker.flow.deadletters import Bucket, DeadLetters
from worker.model.codes import Code
from worker.model.records import Outgoing, Partition, Record, Undeliverable
from worker.model.topics import TOPIC_LIMIT_BYTES

RECORD = Record(Partition("k.wrap.v1", 3), 42, b"key", b"\x00bytes", (("a", b"1"), ("a", b"2")), 5, 1)
TOLD = (
    ("origin-topic", b"k.wrap.v1"),
    ("origin-partition", b"3"),
    ("origin-offset", b"42"),
)


@dataclass
class Mourners:
    told: list[tuple[str, ...]] = field(default_factory=list)

    def buried(self, record: Record, code: Code) -> None:
        self.told.append(("buried", record.place, code))

    def noted(self, record: Record, code: Code) -> None:
        self.told.append(("noted", record.place, code))

    def undelivered(self, topic: str, reason: Undeliverable) -> None:
        self.told.append(("undelivered", topic, reason))


def letters(mourner: Mourners, now: list[float]) -> DeadLetters:
    return DeadLetters("k.undelivered.v1", "worker-7", mourner, Bucket(50.0, lambda: now[0]))


def test_a_dead_letter_is_the_record_and_its_story() -> None:
    mourner = Mourners()
    letter = letters(mourner, [0.0]).authentic(RECORD, Code.POISON, 3)
    assert (letter.topic, letter.key, letter.value) == ("k.wrap.v1.dlq", RECORD.key, RECORD.value)
    assert letter.headers[:2] == RECORD.headers
    told = (*TOLD, ("code", b"POISON"), ("attempts", b"3"), ("worker", b"worker-7"))
    assert letter.headers[2:] == tuple((f"keyriver-dlq-{name}", value) for name, value in told)
    assert mourner.told == [("buried", "k.wrap.v1/3@42", "POISON")]


def test_unauthentic_records_are_buried_fifty_a_second_and_then_only_noted() -> None:
    mourner, now = Mourners(), [100.0]
    dead = letters(mourner, now)
    burst = [dead.unauthentic(RECORD, Code.UNREADABLE) for _ in range(60)]
    assert [letter is not None for letter in burst] == [True] * 50 + [False] * 10
    now[0] += 0.125
    later = [dead.unauthentic(RECORD, Code.UNREADABLE) for _ in range(8)]
    assert [letter is not None for letter in later] == [True] * 6 + [False] * 2
    assert sum(each[0] == "noted" for each in mourner.told) == 12


def test_a_long_silence_does_not_save_up_for_a_flood() -> None:
    now = [0.0]
    bucket = Bucket(2.0, lambda: now[0])
    now[0] = 3600.0
    assert [bucket.take() for _ in range(4)] == [True, True, False, False]


def test_an_authentic_one_is_never_only_noted() -> None:
    dead = letters(Mourners(), [0.0])
    for _ in range(200):
        dead.unauthentic(RECORD, Code.UNREADABLE)
    assert dead.authentic(RECORD, Code.POISON, 1).value == RECORD.value


def test_an_undelivered_answer_says_where_it_was_to_go_and_what_it_answers() -> None:
    mourner = Mourners()
    answer = Outgoing("their.replies", b"key", b"sealed", (("ce_id", b"1"),), 2)
    letter = letters(mourner, [0.0]).undelivered(answer, RECORD, Undeliverable.NO_TOPIC)
    assert (letter.topic, letter.key, letter.value, letter.partition) == ("k.undelivered.v1", b"key", b"sealed", None)
    told = (("topic", b"their.replies"), ("partition", b"2"), ("reason", b"no-topic"), ("worker", b"worker-7"), *TOLD)
    assert letter.headers == (("ce_id", b"1"), *((f"keyriver-undelivered-{name}", value) for name, value in told))
    assert mourner.told == [("undelivered", "their.replies", "no-topic")]


def test_an_answer_too_large_for_every_topic_leaves_its_digest() -> None:
    answer = Outgoing("their.replies", b"key", b"x" * (TOPIC_LIMIT_BYTES + 1), ())
    letter = letters(Mourners(), [0.0]).undelivered(answer, RECORD, Undeliverable.TOO_LARGE)
    headers = dict(letter.headers)
    assert letter.value == b""
    assert headers["keyriver-undelivered-size"] == str(TOPIC_LIMIT_BYTES + 1).encode()
    assert len(headers["keyriver-undelivered-sha256"]) == 64
