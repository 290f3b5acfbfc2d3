import json
from io import BytesIO
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link import encode_packet
from agent.recorder.lines import (
    MAX_BOOTS,
    MAX_LINE,
    Opening,
    Senders,
    opening_line,
    parse_line,
    read_lines,
    record_line,
    segment_name,
    segment_number,
)
from agent.recorder.log import Record, StreamTotals
from tests.link.test_packets import values
from tests.recorder.logs import BOOT, record

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
counts = st.integers(0, 2**63 - 1)


def sealed(content: bytes) -> bytes:
    """A line with a right sum, whatever it says."""
    return content + b',"crc":"%08x"}\n' % crc32(content)


@given(words, words, counts, words, words, counts, counts, st.dictionaries(words, values, max_size=3))
def test_a_record_reads_back_as_it_was(
    source: str,
    boot: str,
    seq: int,
    stream: str,
    kind: str,
    wall_ns: int,
    boottime_ns: int,
    body: dict[str, object],
) -> None:
    written = Record(source, boot, seq, stream, kind, wall_ns, boottime_ns, body)
    line = record_line(written)
    assert line.count(b"\n") == 1
    assert parse_line(line) == written


def test_an_opening_reads_back_as_it_was() -> None:
    opening = Opening(7, (("reflex", BOOT, 12), ("remote", BOOT, 3)), {"safety": StreamTotals(5, 900, 17)})
    assert parse_line(opening_line(opening)) == opening


def test_the_sum_is_the_last_field_and_of_all_before_it() -> None:
    line = record_line(record(1))
    fields = json.loads(line)
    assert list(fields)[-1] == "crc"
    content = line[: line.index(b',"crc"')]
    assert fields["crc"] == f"{crc32(content):08x}"


def test_every_changed_bit_is_found() -> None:
    line = record_line(record(1, text="急停"))
    for bit in range(8 * len(line)):
        altered = bytearray(line)
        altered[bit // 8] ^= 1 << bit % 8
        assert parse_line(bytes(altered)) is None, f"bit {bit}"


def test_every_cut_is_found() -> None:
    line = record_line(record(1))
    for length in range(len(line)):
        assert parse_line(line[:length]) is None


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b'{"type":"event"',
        b'{"type":"segment","number":-1,"senders":[],"totals":{}',
        b'{"type":"segment","number":1,"senders":{},"totals":{}',
        b'{"type":"segment","number":1,"senders":[["a","b"]],"totals":{}',
        b'{"type":"segment","number":1,"senders":[["a","b",true]],"totals":{}',
        b'{"type":"segment","number":1,"senders":[],"totals":[]',
        b'{"type":"segment","number":1,"senders":[],"totals":{"a":[1,2,3,4]}',
        b'{"type":"other","number":1',
        b'{"type":"event","v":' + b"[" * 500,
        b"\xff",
        record_line(record(1))[:-19].replace(b'"reflex"', b"7"),
        record_line(record(1))[:-19].replace(b'{"text":""}', b"[]"),
    ],
)
def test_a_right_sum_alone_makes_no_line(content: bytes) -> None:
    assert parse_line(sealed(content)) is None


def test_the_largest_event_that_a_link_takes_fits_a_line() -> None:
    """`1e15` is four bytes on the link and eighteen in a line."""
    body = {"v": [1e15] * 13_000}
    assert len(json.dumps(body)) > 200_000
    assert len(record_line(Record("a", BOOT, 1, "safety", "k", 0, 0, body))) < MAX_LINE
    assert len(encode_packet({"type": "x", **body}, MAX_LINE)) < MAX_LINE


def test_lines_come_one_at_a_time_and_endless_ones_in_pieces() -> None:
    data = b"a\nb" + b"x" * (2 * MAX_LINE) + b"\nend"
    pieces = list(read_lines(BytesIO(data)))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) == MAX_LINE
    assert (pieces[0], pieces[-1]) == (b"a\n", b"end")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("events-000001.jsonl", 1),
        ("events-1234567.jsonl", 1_234_567),
        ("events-1.jsonl", None),
        ("events-000001.jsonl.torn-1", None),
        ("state", None),
    ],
)
def test_names_of_segments(name: str, number: int | None) -> None:
    assert segment_number(name) == number
    if number is not None:
        assert segment_name(number) == name
        assert Path(name).name == name


class TestSenders:
    def test_keeps_the_larger(self) -> None:
        senders = Senders()
        senders.note("a", "1", 5)
        senders.note("a", "1", 3)
        assert senders.last("a", "1") == 5
        assert senders.last("a", "2") == senders.last("b", "1") == 0

    def test_the_boot_heard_longest_ago_makes_room_and_only_within_its_source(self) -> None:
        senders = Senders()
        senders.note("quiet", "0", 1)
        for boot in range(MAX_BOOTS):
            senders.note("a", str(boot), 1)
        senders.note("a", "0", 2)
        senders.note("a", "new", 1)
        assert senders.last("a", "1") == 0
        assert senders.last("a", "0") == 2
        assert senders.last("quiet", "0") == 1
        assert len(senders.rows()) == MAX_BOOTS + 1

    def test_rows_build_the_same_table(self) -> None:
        senders, again = Senders(), Senders()
        for boot in ("b", "a", "c", "b"):
            senders.note("s", boot, 1)
        for row in senders.rows():
            again.note(*row)
        assert again.rows() == senders.rows() == [("s", "a", 1), ("s", "c", 1), ("s", "b", 1)]
