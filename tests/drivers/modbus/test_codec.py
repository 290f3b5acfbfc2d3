"""Modbus frames: what is asked, and what may be taken for an answer."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.exceptions import ModbusIOException
from pymodbus.framer import FramerRTU

from drivers.modbus.codec import (
    Answer,
    CodecError,
    CrcError,
    EchoError,
    Frames,
    FunctionError,
    LateError,
    LengthError,
    Probe,
    Question,
    Read,
    StreamError,
    UnitError,
    rtu_answer,
    rtu_question,
    tcp_answer,
    tcp_question,
)
from tests.drivers.modbus import frames

READS = [
    (Read(3, 1, 7, 2), frames.bits(1, [True, False]), (1, 0)),
    (Read(3, 2, 7, 1), frames.bits(2, [True]), (1,)),
    (Read(3, 3, 12, 1), frames.registers(3, [0xFFFF]), (0xFFFF,)),
    (Read(247, 4, 65534, 2), frames.registers(4, [1, 2]), (1, 2)),
]
WORD = Read(3, 3, 12, 1)
PROBE = Probe(3, 0xBEEF)

questions = st.one_of(
    st.builds(Read, st.integers(1, 247), st.sampled_from([3, 4]), st.integers(0, 65534), st.integers(1, 2)),
    st.builds(Read, st.integers(1, 247), st.sampled_from([1, 2]), st.integers(0, 65534), st.integers(1, 2)),
    st.builds(Probe, st.integers(1, 247), st.integers(0, 65535)),
)


def by_hand(question: Question, heard: bytes) -> Answer | None:
    """The one thing that these bytes may mean."""
    unit, pdu = heard[0], heard[1:-2]
    if frames.rtu(unit, pdu) != heard or unit != question.unit:
        return None
    if len(pdu) == 2 and pdu[0] == question.function | 0x80 and pdu[1]:
        return Answer(question, exception=pdu[1])
    if isinstance(question, Probe):
        return Answer(question) if pdu == b"\x08\0\0" + question.nonce.to_bytes(2, "big") else None
    data = pdu[2:]
    if pdu[:2] != bytes([question.function, question.data_bytes]) or len(data) != question.data_bytes:
        return None
    if question.function in {1, 2}:
        return Answer(question, tuple(data[0] >> place & 1 for place in range(question.count)))
    words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
    return Answer(question, tuple(words))


@pytest.mark.parametrize("read", [read for read, _, _ in READS])
def test_a_read_on_either_line(read: Read) -> None:
    pdu = frames.ask(read.function, read.address, read.count)
    assert rtu_question(read) == frames.rtu(read.unit, pdu)
    assert tcp_question(read, 0xA1B2) == frames.tcp(0xA1B2, read.unit, pdu)


def test_a_probe() -> None:
    assert rtu_question(PROBE) == frames.rtu(3, b"\x08\0\0\xbe\xef")


@pytest.mark.parametrize(("read", "pdu", "words"), READS)
def test_an_answer(read: Read, pdu: bytes, words: tuple[int, ...]) -> None:
    frame = frames.rtu(read.unit, pdu)
    assert [rtu_answer(read, frame[:end]) for end in range(len(frame))] == [None] * len(frame)
    assert rtu_answer(read, frame) == Answer(read, words)
    assert tcp_answer(read, 9, frames.tcp(9, read.unit, pdu)) == Answer(read, words)


@pytest.mark.parametrize("read", [read for read, _, _ in READS])
def test_a_refusal(read: Read) -> None:
    pdu = frames.refusal(read.function, 2)
    assert rtu_answer(read, frames.rtu(read.unit, pdu)) == Answer(read, exception=2)
    assert tcp_answer(read, 9, frames.tcp(9, read.unit, pdu)) == Answer(read, exception=2)


def test_a_probe_comes_back_or_is_refused() -> None:
    frame = rtu_question(PROBE)
    assert [rtu_answer(PROBE, frame[:end]) for end in range(8)] == [None] * 8
    assert rtu_answer(PROBE, frame) == Answer(PROBE)
    assert rtu_answer(PROBE, frames.rtu(3, b"\x88\x01")) == Answer(PROBE, exception=1)


GOOD = frames.rtu(3, frames.registers(3, [2000]))


@pytest.mark.parametrize(
    ("question", "heard", "error", "reason"),
    [
        (WORD, frames.rtu(4, frames.registers(3, [1])), UnitError, "unit 4 speaks, unit 3 was asked"),
        (WORD, b"\x04", UnitError, "unit 4 speaks, unit 3 was asked"),
        (WORD, b"\x03\x04", FunctionError, "function 4, 3 was asked for"),
        (WORD, frames.rtu(3, frames.refusal(4, 2)), FunctionError, "function 132, 3 was asked for"),
        (WORD, frames.rtu(3, frames.refusal(3, 0)), FunctionError, "a refusal without a reason"),
        (WORD, b"\x03\x03\x04", LengthError, "4 bytes of data, 2 were asked for"),
        (WORD, GOOD + b"\0", LengthError, "8 bytes, the answer has 7"),
        (WORD, frames.rtu(3, frames.refusal(3, 2)) + b"\0", LengthError, "6 bytes, the answer has 5"),
        (WORD, GOOD[:-1] + b"\0", CrcError, "wrong CRC"),
        (WORD, rtu_question(PROBE), FunctionError, "function 8, 3 was asked for"),
        (PROBE, GOOD, FunctionError, "function 3, 8 was asked for"),
        (PROBE, rtu_question(Probe(3, 0xBEEE)), EchoError, "a probe came back changed"),
        (PROBE, rtu_question(PROBE) + b"\0", LengthError, "9 bytes, the answer has 8"),
    ],
)
def test_what_is_no_answer_on_a_serial_line(
    question: Question,
    heard: bytes,
    error: type[CodecError],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(error) as caught:
        rtu_answer(question, heard)
    assert caught.value.reason == str(caught.value) == reason
    assert caplog.records == [], "a flood must not become a flood of log lines"


@pytest.mark.parametrize(
    ("frame", "error", "reason"),
    [
        (frames.tcp(8, 3, frames.registers(3, [1])), LateError, "the answer to an earlier question"),
        (frames.tcp(9, 4, frames.registers(3, [1])), UnitError, "unit 4 speaks, unit 3 was asked"),
        (frames.tcp(9, 3, frames.registers(4, [1])), FunctionError, "function 4, 3 was asked for"),
        (frames.tcp(9, 3, frames.registers(3, [1, 2])), LengthError, "4 bytes of data, 2 were asked for"),
        (frames.tcp(9, 3, b"\x03\x02\x07"), LengthError, "10 bytes, the answer has 11"),
        (frames.tcp(9, 3, b"\x03\x02"), LengthError, "9 bytes, the answer has 11"),
        (frames.tcp(9, 3, b"\x03\x02\x07\xd0\0"), LengthError, "12 bytes, the answer has 11"),
        (frames.tcp(9, 3, b"\x83\x02\0"), LengthError, "10 bytes, the answer has 9"),
        (frames.tcp(9, 3, b"\x83\0"), FunctionError, "a refusal without a reason"),
    ],
)
def test_what_is_no_answer_on_a_connection(
    frame: bytes, error: type[CodecError], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(error) as caught:
        tcp_answer(WORD, 9, frame)
    assert caught.value.reason == reason
    assert caplog.records == []


def test_what_pymodbus_refuses_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ModbusIOException("no")

    monkeypatch.setattr(FramerRTU, "handleFrame", refuse)
    with pytest.raises(LengthError, match="no answer: "):
        rtu_answer(WORD, GOOD)


def test_every_kind_of_error_has_a_counter_of_its_own() -> None:
    counters = [error.counter for error in CodecError.__subclasses__()]
    assert len(set(counters)) == len(counters) == 8


# ----------------------------------------------------------------------------------------------------- fuzzed


@given(questions, st.data())
def test_one_flipped_bit_is_never_an_answer(question: Question, data: st.DataObject) -> None:
    right = _right(question, data.draw)
    assert rtu_answer(question, right) == by_hand(question, right)
    bit = data.draw(st.integers(0, 8 * len(right) - 1))
    wrong = (int.from_bytes(right, "big") ^ 1 << bit).to_bytes(len(right), "big")
    assert _told(question, wrong) is None


@given(questions, st.data())
def test_bytes_tell_nothing_but_what_a_right_frame_carries(question: Question, data: st.DataObject) -> None:
    heard = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.binary(max_size=12).map(lambda pdu: frames.rtu(question.unit, pdu)),
            st.binary(max_size=8).map(
                lambda rest: frames.rtu(question.unit, bytes([question.function]) + rest)
            ),
        )
    )
    told = _told(question, heard)
    assert told is None or told == by_hand(question, heard)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(min_size=2, max_size=8).map(lambda pdu: frames.tcp(9, 3, pdu)),
        st.binary(max_size=4).map(lambda rest: frames.tcp(9, 3, b"\x03" + rest)),
    )
)
def test_a_stream_tells_nothing_but_what_its_frames_carry(stream: bytes) -> None:
    for frame, told in _told_by(stream):
        pdu = frames.refusal(3, told.exception) if told.exception else frames.registers(3, told.words)
        assert frame == frames.tcp(9, 3, pdu)


@given(st.lists(st.binary(min_size=2, max_size=253), max_size=4), st.data())
def test_a_stream_is_cut_the_same_however_it_arrives(pdus: list[bytes], data: st.DataObject) -> None:
    whole = [frames.tcp(number, 3, pdu) for number, pdu in enumerate(pdus)]
    stream, cut, out = b"".join(whole), Frames(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        out += cut.feed(stream[:size])
        stream = stream[size:]
    assert out == whole


@given(st.lists(st.binary(max_size=1024), max_size=8))
def test_a_stream_of_anything_costs_no_memory(chunks: list[bytes]) -> None:
    cut = Frames()
    for chunk in chunks:
        try:
            assert all(9 <= len(frame) <= 260 for frame in cut.feed(chunk))
        except StreamError:
            return
        assert len(cut._rest) < 260


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\0\1\0\1\0\6\3", "not Modbus: protocol 1"),
        (b"HTTP/1.", "not Modbus: protocol 21584"),
        (b"\0\1\0\0\0\2\3", "not Modbus: a frame of 2 bytes"),
        (b"\0\1\0\0\0\xff\3", "not Modbus: a frame of 255 bytes"),
    ],
)
def test_what_is_no_header_ends_the_stream(header: bytes, reason: str) -> None:
    with pytest.raises(StreamError) as caught:
        Frames().feed(header)
    assert caught.value.reason == reason


def _right(question: Question, draw: Callable[[st.SearchStrategy[int]], int]) -> bytes:
    if isinstance(question, Probe):
        return rtu_question(question)
    if question.function in {1, 2}:
        return frames.rtu(
            question.unit, frames.bits(question.function, [draw(st.integers(0, 1)) > 0] * question.count)
        )
    words = [draw(st.integers(0, 65535)) for _ in range(question.count)]
    return frames.rtu(question.unit, frames.registers(question.function, words))


def _told(question: Question, heard: bytes) -> Answer | None:
    try:
        return rtu_answer(question, heard)
    except CodecError:
        return None


def _told_by(stream: bytes) -> Iterator[tuple[bytes, Answer]]:
    try:
        whole = Frames().feed(stream)
    except StreamError:
        return
    for frame in whole:
        with suppress(CodecError):
            yield frame, tcp_answer(WORD, 9, frame)
