"""Records of files: where the blob stands, that all else stays byte for byte, and that a bad one harms no neighbour."""

import csv
import io
import json
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.client.files import Csv, FileRefused, Format, JsonLines, Record, format_of
from worker.client.files.jsonlines import read
from worker.client.files.lines import LONGEST, Lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CELL = st.text(st.sampled_from('ab ",;\n\té"'), max_size=6)  # Python's writer leaves a lone \\r unquoted
BLOB = st.binary(max_size=40)


def records(form: Format, data: bytes) -> list[Record]:
    reader, lines = form.reader(), Lines(io.BytesIO(data))
    heading = reader.heading(lines)
    found = [] if heading is None else [heading]
    while (record := reader.next(lines)) is not None:
        found.append(record)
    assert lines.offset == len(data)
    return found


def faults(form: Format, data: bytes) -> list[tuple[int, str]]:
    return [(one.line, one.fault.message) for one in records(form, data) if one.fault is not None]


def text(blob: bytes) -> str:
    return b64encode(blob).decode()


# JSON Lines.


@given(
    before=st.dictionaries(st.text(), JSON, max_size=3), blob=BLOB, new=BLOB, ascii_=st.booleans(), wide=st.booleans()
)
def test_only_the_blob_of_a_json_line_changes(
    before: dict[str, object], blob: bytes, new: bytes, ascii_: bool, wide: bool
) -> None:
    whole = {**before, "wrapped": text(blob), "after": [{"wrapped": "no"}, before]}
    separators = (" , ", "\t: ") if wide else None
    line = (json.dumps(whole, ensure_ascii=ascii_, separators=separators) + "\r\n").encode(errors="surrogatepass")
    (record,) = records(JsonLines("wrapped"), line)
    try:
        line.decode()
    except UnicodeDecodeError:
        assert record.fault is not None
        return
    assert record.blob == blob
    assert json.loads(record.carrying(new)) == {**whole, "wrapped": text(new)}
    assert list(json.loads(record.carrying(new))) == list(whole)
    assert record.carrying(blob) == line


def test_an_escaped_blob_is_read_and_written_plainly() -> None:
    line = '\ufeff{"é": 1.50, "blob": "++\\/\\u0041"}'.encode()
    record = read(1, line, "blob")
    assert record.blob == b"\xfb\xef\xc0"
    assert record.carrying(b"\x00\x00\x00") == '\ufeff{"é": 1.50, "blob": "AAAA"}'.encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "the line is not JSON"),
        (b'{"blob": "AAAA"', "the line is not JSON"),
        (b'{"blob": "AAAA",}', "the line is not JSON"),
        (b'{"blob": "AAAA"} {}', "the line is not JSON"),
        (b'{"blob" "AAAA"}', "the line is not JSON"),
        (b'{"blob": NaN}', "the line is not JSON"),
        (b'{blob: "AAAA"}', "the line is not JSON"),
        (b'{1: "AAAA"}', "the line is not JSON"),
        (b'{"blob": "AAAA\xff"}', "the line is not JSON"),
        (b"[" * 100_000, "the line is not JSON"),
        (b'{"a": ' + b"[" * 100_000, "the line is not JSON"),
        (b"{", "the line is not JSON"),
        (b'["AAAA"]', "the line is not a JSON object"),
        (b"{}", "there is no field blob"),
        (b'{"a": {"blob": "AAAA"}}', "there is no field blob"),
        (b'{"blob": "AAAA", "blob": "AAAA"}', "the field blob stands there twice"),
        (b'{"blob": null}', "the field blob is not a text"),
        (b'{"blob": 17}', "the field blob is not a text"),
        (b'{"blob": "AAA"}', "the blob is not base64"),
        (b'{"blob": "AA_-"}', "the blob is not base64"),
        (b'{"blob": "AA AA"}', "the blob is not base64"),
        ('{"blob": "é"}'.encode(), "the blob is not base64"),
    ],
)
def test_a_bad_json_line_says_what_is_wrong(line: bytes, said: str) -> None:
    good = b'{"blob": "AAAA"}\n'
    assert faults(JsonLines("blob"), good + line + b"\n" + good) == [(2, said)]


def test_numbers_of_any_length_and_empty_lines_are_nobodys_business() -> None:
    data = b'{"n": %s, "blob": "AAAA"}\n\n  \r\n{"blob": "AAAA"}' % (b"9" * 10_000)
    assert [one.blob for one in records(JsonLines("blob"), data)] == [bytes(3), None, None, bytes(3)]
    assert faults(JsonLines("blob"), data) == []


@pytest.mark.parametrize("form", [JsonLines("blob"), Csv("blob")])
def test_a_line_that_is_too_long_is_rejected_without_being_held(form: Format) -> None:
    good = b'{"blob": "AAAA"}\n' if isinstance(form, JsonLines) else b"AAAA\n"
    head = b"" if isinstance(form, JsonLines) else b"blob\n"
    data = head + good + b"x" * (3 * LONGEST) + b"\n" + good
    first, last = (one for one in records(form, data) if one.blob)
    (bad,) = (one for one in records(form, data) if one.fault)
    assert bad.fault is not None
    assert (bad.raw, bad.fault.code, bad.line) == (b"", "TOO_LARGE", first.line + 1)
    assert last.line == first.line + 2


# CSV.


@given(
    names=st.lists(CELL, max_size=3, unique=True),
    rows=st.lists(st.tuples(st.lists(CELL, min_size=3, max_size=3), BLOB), max_size=5),
    ends=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    delimiter=st.sampled_from(",;\t"),
)
def test_only_the_blob_of_a_csv_record_changes(
    names: list[str], rows: list[tuple[list[str], bytes]], ends: str, quoting: int, delimiter: str
) -> None:
    made = io.StringIO(newline="")
    written = csv.writer(made, lineterminator=ends, quoting=quoting, delimiter=delimiter)  # type: ignore[arg-type]
    written.writerow([*names, "wrapped"])
    for cells, blob in rows:
        written.writerow([*cells[: len(names)], text(blob)])
    data = made.getvalue().encode()
    found = records(Csv("wrapped", delimiter), data)
    assert b"".join(one.raw for one in found) == data
    assert [one.blob for one in found[1:]] == [blob for _, blob in rows]
    swapped = b"".join(one.raw if one.blob is None else one.carrying(b"new") for one in found)
    was = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter))
    now = list(csv.reader(io.StringIO(swapped.decode(), newline=""), delimiter=delimiter))
    assert [row[:-1] for row in now] == [row[:-1] for row in was]
    assert all(row[-1] == text(b"new") for row in now[1:])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"1,AAAA", "there are 2 fields, and 3 in the heading"),
        (b"1,AAAA,x,y", "there are 4 fields, and 3 in the heading"),
        (b"1,AAA,x", "the blob is not base64"),
        (b'1,"AA""AA",x', "the blob is not base64"),
        (b'1,"AAAA"x,x', "something stands behind a closing quote"),
        (b'1,"AAAA,x', "a quote is not closed"),
    ],
)
def test_a_bad_csv_record_says_what_is_wrong_and_harms_no_neighbour(line: bytes, said: str) -> None:
    data = b"id,blob,note\n1,AAAA,x\n" + line + b'\n1,AAAA,"two\nlines"\n\n1,BBBB,\n'
    assert faults(Csv("blob"), data)[0][0] == 3
    if "quote is" not in said:
        assert faults(Csv("blob"), data) == [(3, said)]
    assert sum(one.blob is not None for one in records(Csv("blob"), data)) == 3


def test_a_quote_that_is_never_closed_costs_its_own_line_only() -> None:
    good = b"1,AAAA,x\n"
    data = b"id,blob,note\n" + good + b'2,AAAA,"open\n' + good * 100_000
    assert faults(Csv("blob"), data) == [(3, "a quote is not closed")]
    assert faults(Csv("blob"), data[: data.index(b"open") + 5] + good) == [(3, "a quote is not closed")]


def test_a_quote_within_a_field_is_text() -> None:
    data = b'\xef\xbb\xbf"id",blob\n5" pipe,AAAA\n'
    found = records(Csv("blob"), data)
    assert [one.blob for one in found] == [None, bytes(3)]
    assert records(Csv("id"), data)[1].fault is not None  # the byte order mark is not part of the name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no heading"),
        (b"id,note\n", "blob is not in the heading"),
        (b"blob,blob\n", "stands twice"),
        (b'"id\n', "no CSV"),
    ],
)
def test_a_heading_without_the_column_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(FileRefused, match=said):
        records(Csv("blob"), data)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jsonl", JsonLines("b")),
        ("a.ndjson.gz", JsonLines("b")),
        ("a.csv", Csv("b")),
        ("a.tsv.zst", Csv("b", "\t")),
        ("a.csv.bz2", None),
        ("a.gz", None),
        ("a", None),
    ],
)
def test_the_name_tells_the_format(name: str, form: Format | None) -> None:
    assert format_of(Path(name), "b") == form
