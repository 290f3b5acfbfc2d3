"""What an answer is worth, and for how long."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.readings import Quality
from drivers.modbus.codec import Answer
from drivers.modbus.point import BUSY, EXCEPTIONS, MS, Point, Scaling
from drivers.registry import check_settings

NOW_NS = 1_000 * MS


def point(**settings: object) -> Point:
    least = {"port": "/dev/ttyS0", "unit": 3, "register": 12, "quantity": "range_m"}
    return Point("range", check_settings("modbus", "input", {**least, **settings}))


def contact(**settings: object) -> Point:
    least = {"port": "/dev/ttyS0", "unit": 3, "register": 7, "table": "coil"}
    return Point("estop", check_settings("modbus", "input", {**least, **settings}))


@pytest.mark.parametrize(
    ("kind", "words", "number"),
    [
        ("uint16", [0xFFFE], 65534),
        ("int16", [0xFFFE], -2),
        ("uint32", [0xFFFF, 0xFFFE], 4294967294),
        ("int32", [0xFFFF, 0xFFFE], -2),
        ("int32", [1, 0], 65536),
        ("float32", [0x3FC0, 0], 1.5),
        ("float32", [0xC000, 0], -2.0),
    ],
)
def test_numbers(kind: str, words: list[int], number: float) -> None:
    assert Scaling(kind, little_words=False, scale=1, offset=0).number(words) == number
    assert Scaling(kind, little_words=True, scale=1, offset=0).number(words[::-1]) == number
    assert Scaling(kind, little_words=False, scale=0.5, offset=-3).number(words) == number * 0.5 - 3


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=2), st.booleans())
def test_a_float_is_finite_or_none(words: list[int], little: bool) -> None:
    found = Scaling("float32", little_words=little, scale=1e6, offset=1e9).number(words)
    ordered = words[::-1] if little else words
    (raw,) = struct.unpack(">f", struct.pack(">2H", *ordered))
    assert (found is None) == (not math.isfinite(raw))
    assert found is None or found == raw * 1e6 + 1e9


@pytest.mark.parametrize("words", [(0x7FC0, 0), (0x7F80, 0), (0xFF80, 0), (0x7FA0, 1)])
def test_no_number_is_a_fault_until_there_is_one(words: tuple[int, int]) -> None:
    it = point(type="float32")
    trouble = it.take(Answer(it.read, words), NOW_NS)
    reading = it.reading(NOW_NS)
    assert (reading.quality, reading.value) == (Quality.FAULT, None)
    assert reading.detail == trouble == "unit 3 has no number in register 12"
    assert it.take(Answer(it.read, (0x3FC0, 0)), NOW_NS) == ""
    assert it.reading(NOW_NS).value == 1.5


def test_what_is_asked() -> None:
    reads = [point(table="input", type="int32").read, point().read, contact().read, contact(channels=2).read]
    assert [(read.function, read.address, read.count) for read in reads] == [
        (4, 12, 2),
        (3, 12, 1),
        (1, 7, 1),
        (1, 7, 2),
    ]
    assert contact(table="discrete").read.function == 2


@pytest.mark.parametrize(
    ("words", "value", "second"), [((1, 0), True, False), ((0, 1), False, True), ((1,), True, None)]
)
def test_contacts(words: tuple[int, ...], value: bool, second: bool | None) -> None:
    it = contact(channels=len(words))
    it.take(Answer(it.read, words), NOW_NS)
    reading = it.reading(NOW_NS)
    assert (reading.value, reading.second, reading.quality) == (value, second, Quality.GOOD)


@pytest.mark.parametrize("exception", [1, 2, 3, 4, 7, 8, 99, 255])
def test_a_refusal_is_a_fault_that_only_an_answer_ends(exception: int) -> None:
    it = point()
    it.take(Answer(it.read, (5,)), NOW_NS)
    trouble = it.take(Answer(it.read, exception=exception), NOW_NS)
    for now_ns in (NOW_NS, NOW_NS + 10_000 * MS):
        assert (it.reading(now_ns).quality, it.reading(now_ns).value) == (Quality.FAULT, 5)
        assert it.reading(now_ns).detail == trouble
    it.lose("line away: gone")
    assert it.reading(NOW_NS).quality is Quality.FAULT
    it.take(Answer(it.read, (6,)), NOW_NS)
    assert (it.reading(NOW_NS).quality, it.reading(NOW_NS).value) == (Quality.GOOD, 6)


def test_a_refusal_has_words() -> None:
    it = point()
    assert it.take(Answer(it.read, exception=2), NOW_NS) == (
        "unit 3 register 12: exception 2 (illegal data address)"
    )
    assert it.take(Answer(it.read, exception=99), NOW_NS) == "unit 3 register 12: exception 99"
    assert max(map(len, EXCEPTIONS.values())) < 60


@pytest.mark.parametrize("exception", sorted(BUSY))
def test_a_busy_unit_is_silent_and_not_broken(exception: int) -> None:
    it = point()
    it.take(Answer(it.read, (5,)), NOW_NS)
    assert it.take(Answer(it.read, exception=exception), NOW_NS + 100 * MS)
    assert it.reading(NOW_NS + 199 * MS).quality is Quality.GOOD
    reading = it.reading(NOW_NS + 200 * MS)
    assert reading.quality is Quality.STALE
    assert reading.detail == f"unit 3: exception {exception} ({EXCEPTIONS[exception]})"


def test_a_lost_line_knows_nothing_at_once() -> None:
    it = point()
    it.take(Answer(it.read, (5,)), NOW_NS)
    it.lose("line away: gone")
    reading = it.reading(NOW_NS)
    assert (reading.quality, reading.value, reading.detail) == (Quality.STALE, 5, "line away: gone")


def test_the_reason_of_a_silence_is_the_last_one() -> None:
    it = point()
    it.take(Answer(it.read, (5,)), NOW_NS)
    assert it.reading(NOW_NS + 200 * MS).detail == "no answer since"
    it.miss("wrong CRC")
    assert it.reading(NOW_NS + 200 * MS).detail == "wrong CRC"
    it.miss("x" * 500)
    assert len(it.reading(NOW_NS + 200 * MS).detail) == 120
