"""The wireless e-stop's frames: vectors made by hand, and what no bytes whatever may do."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import WardenError
from drivers.vsc.codec import (
    LONGEST,
    MOST_DATA,
    PATIENCE_NS,
    CheckSumError,
    CodecError,
    Heard,
    Heartbeat,
    Message,
    Parser,
    fletcher16,
    our_heartbeat,
)
from tests.drivers.vsc import frames

CLOSED_HEX = "10 01 20 06 09 00 00 00 00 00 40 09"
EVERY_STOP_HEX = "10 01 20 06 09 00 ff ff ff ff 3c ff"
OUR_HEX = "10 01 21 01 00 33 b9"

u8 = st.integers(0, 0xFF)
u32 = st.integers(0, 0xFFFFFFFF)
messages = st.builds(Message, kind=u8, data=st.binary(max_size=MOST_DATA))
wire_frames = messages.map(lambda message: frames.frame(message.kind, message.data))
mixed = st.lists(
    st.one_of(
        wire_frames,
        st.builds(frames.heartbeat, u32),
        st.binary(max_size=40),
        st.sampled_from([b"\x10", b"\x10\x01", b"\x10\x01\x20\xf8", b"\x10\x01\x20\xff"]),
    ),
    max_size=8,
)


def read(parser: Parser, data: bytes, now_ns: int = 0) -> list[Message]:
    return [heard.message for heard in parser.feed(data, now_ns, now_ns)]


# ----------------------------------------------------------------------------------------------- one frame


@pytest.mark.parametrize(
    ("text", "heartbeat"),
    [
        (CLOSED_HEX, Heartbeat(9, 0, 0)),
        (EVERY_STOP_HEX, Heartbeat(9, 0, 0xFFFFFFFF)),
        ("10 01 20 06 0a 02 01 00 00 00 44 1d", Heartbeat(10, 2, 1)),
        ("10 01 20 06 09 01 04 03 02 01 4b 2c", Heartbeat(9, 1, 0x01020304)),
    ],
)
def test_heartbeats_by_hand(text: str, heartbeat: Heartbeat) -> None:
    whole = bytes.fromhex(text)
    assert Heartbeat.from_message(Message.from_bytes(whole)) == heartbeat
    assert frames.heartbeat(heartbeat.estop_status, mode=whole[4], autonomy=whole[5]) == whole


def test_our_heartbeat_by_hand() -> None:
    assert our_heartbeat() == bytes.fromhex(OUR_HEX)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "00 00"),
        (b"\x01", "01 01"),
        (b"\x01\x02", "03 04"),
        (b"abcde", "ef c3"),
        (b"\xff", "ff ff"),  # the modulo 255 of the textbook would make this 00 00
        (b"\xff\x01", "00 ff"),
        (b"\xff" * 4, "fc f6"),
    ],
)
def test_check_sums_by_hand(data: bytes, text: str) -> None:
    assert fletcher16(data) == bytes.fromhex(text)


@given(st.binary(max_size=LONGEST))
def test_check_sums_are_what_a_hand_makes_of_them(data: bytes) -> None:
    assert fletcher16(data) == frames.check_bytes(data)


@given(messages)
@example(Message(0xFF, bytes(248)))
@example(Message(0, b""))
def test_a_message_there_and_back(message: Message) -> None:
    whole = frames.frame(message.kind, message.data)
    assert message.to_bytes() == whole
    assert Message.from_bytes(whole) == message


@pytest.mark.parametrize("message", [Message(-1, b""), Message(256, b""), Message(0, bytes(249))])
def test_a_message_that_does_not_fit(message: Message) -> None:
    with pytest.raises(CodecError, match="does not fit"):
        message.to_bytes()


def test_a_wrong_check_sum_is_an_error_of_its_own() -> None:
    for spoil in (0x01, 0x80, 0x0100, 0x8000):
        with pytest.raises(CheckSumError) as caught:
            Message.from_bytes(frames.heartbeat(0, spoil=spoil))
        assert isinstance(caught.value, WardenError)
        assert caught.value.reason == "wrong check sum"


@pytest.mark.parametrize(
    "whole",
    [
        b"",
        b"\x10\x01\x20",
        bytes.fromhex(CLOSED_HEX)[:-1],
        bytes.fromhex(CLOSED_HEX) + b"\0",
        b"\x10\x02" + bytes.fromhex(CLOSED_HEX)[2:],
        frames.frame(0x20, bytes(249)),
    ],
)
def test_what_is_no_frame(whole: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        Message.from_bytes(whole)
    assert not isinstance(caught.value, CheckSumError)


@pytest.mark.parametrize(
    "message", [Message(0x20, bytes(5)), Message(0x20, bytes(7)), Message(0x21, bytes(6))]
)
def test_what_is_no_heartbeat(message: Message) -> None:
    with pytest.raises(CodecError, match="is no heartbeat"):
        Heartbeat.from_message(message)


@given(st.binary(max_size=LONGEST + 4), st.booleans())
@example(data=b"\x10\x01\x20\xff" + bytes(257), headed=False)
def test_no_bytes_raise_anything_but_the_codec_s_error(data: bytes, headed: bool) -> None:
    whole = b"\x10\x01" + data if headed else data
    with suppress(CodecError):
        Heartbeat.from_message(Message.from_bytes(whole))


@given(u32)
def test_damage_within_one_byte_is_always_found(status: int) -> None:
    sound = frames.heartbeat(status)
    for at in range(len(sound)):
        for flip in (0x01, 0x10, 0x80, 0xFF):
            damaged = bytearray(sound)
            damaged[at] ^= flip
            with pytest.raises(CodecError):
                Message.from_bytes(bytes(damaged))


# ------------------------------------------------------------------------------------------------ a stream


@given(mixed, st.data())
def test_where_the_stream_is_cut_makes_no_difference(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces, whole = Parser(), Parser()
    found = [message for a, b in pairwise([0, *cuts, len(stream)]) for message in read(pieces, stream[a:b])]
    assert found == read(whole, stream)
    assert (pieces.dropped, pieces.broken) == (whole.dropped, whole.broken)


@given(mixed)
def test_no_message_is_made_up(parts: list[bytes]) -> None:
    """What no stretch of the stream carries with a right check sum is not heard: not closed, not anything."""
    stream = b"".join(parts)
    carried = [Message.from_bytes(whole) for whole in frames.every_frame(stream)]
    parser = Parser()
    for message in read(parser, stream) + read(parser, b"", PATIENCE_NS):
        assert message in carried


@given(st.lists(wire_frames, max_size=6))
def test_frames_in_a_row_are_all_heard(whole: list[bytes]) -> None:
    parser = Parser()
    assert read(parser, b"".join(whole)) == [Message.from_bytes(frame) for frame in whole]
    assert (parser.dropped, parser.broken) == (0, 0)


@given(st.binary(max_size=300), u32)
@example(b"\x10", 0)
@example(b"\x10\x01", 0)
@example(b"\x10\x01\x20\xf8", 0)
@example(bytes.fromhex(CLOSED_HEX)[:-1], 1)
def test_a_frame_after_garbage_is_heard_once_its_false_start_is_overdue(garbage: bytes, status: int) -> None:
    """Unless the garbage makes another frame of it, it is heard; and nothing waits for longer than that."""
    parser = Parser()
    stream = garbage + frames.heartbeat(status)
    heard = read(parser, stream) + read(parser, b"", PATIENCE_NS)
    if len(frames.every_frame(stream)) == 1:
        assert heard == [Message.from_bytes(frames.heartbeat(status))]
    assert not parser._kept


@given(st.lists(st.binary(max_size=400), max_size=12))
def test_memory_is_bounded_and_every_byte_accounted_for(chunks: list[bytes]) -> None:
    parser = Parser()
    out = 0
    for chunk in chunks:
        out += sum(len(message.data) + 6 for message in read(parser, chunk))
        assert len(parser._kept) < LONGEST
    assert out + parser.dropped + len(parser._kept) == sum(map(len, chunks))


def test_a_header_in_a_damaged_frame_hides_nothing_behind_it() -> None:
    parser = Parser()
    stop = frames.heartbeat(4)
    damaged = frames.heartbeat(0, spoil=1)
    assert read(parser, damaged + stop) == [Message.from_bytes(stop)]
    assert (parser.broken, parser.dropped) == (1, len(damaged))


def test_a_frame_within_a_whole_frame_is_its_data() -> None:
    parser = Parser()
    outer = frames.frame(0x12, b"text" + frames.heartbeat(0) + b"text")
    assert read(parser, outer) == [Message.from_bytes(outer)]


def test_the_longest_frame_there_can_be() -> None:
    parser = Parser()
    longest = frames.frame(0x12, bytes(range(248)))
    assert read(parser, longest[:-1]) == []
    assert read(parser, longest[-1:]) == [Message.from_bytes(longest)]


def test_an_impossible_length_is_seen_at_once() -> None:
    parser = Parser()
    assert read(parser, b"\x10\x01\x20\xf9") == []
    assert parser.dropped == 4


def test_a_false_start_is_waited_for_and_then_let_go() -> None:
    parser = Parser()
    assert read(parser, b"\x10\x01\x20\xf8" + frames.heartbeat(4), 1_000) == []
    assert read(parser, b"", 1_000 + PATIENCE_NS - 1) == []
    assert read(parser, b"", 1_000 + PATIENCE_NS) == [Message.from_bytes(frames.heartbeat(4))]
    assert parser.dropped == 4


def test_patience_counts_from_the_frame_s_own_start() -> None:
    parser = Parser()
    whole = frames.heartbeat(4)
    assert read(parser, b"\x10", 0) == []
    assert read(parser, whole[:3], PATIENCE_NS) == []
    assert read(parser, b"", 2 * PATIENCE_NS - 1) == []
    assert read(parser, whole[3:], 2 * PATIENCE_NS - 1) == [Message.from_bytes(whole)]
    assert parser.dropped == 1


def test_what_is_whole_is_never_overdue() -> None:
    parser = Parser()
    whole = frames.heartbeat(4)
    assert read(parser, whole[:11], 0) == []
    assert read(parser, whole[11:] + whole, 9 * PATIENCE_NS) == [Message.from_bytes(whole)] * 2


def test_a_message_is_as_old_as_its_first_byte() -> None:
    parser = Parser()
    whole = frames.heartbeat(0)
    message = Message.from_bytes(whole)
    assert parser.feed(whole + whole[:5], 100, 120) == [Heard(message, 100)]
    assert parser.feed(whole[5:] + whole, 130, 140) == [Heard(message, 100), Heard(message, 130)]


def test_clear_forgets_what_has_begun() -> None:
    parser = Parser()
    whole = frames.heartbeat(0)
    assert read(parser, whole[:7]) == []
    parser.clear()
    assert parser.dropped == 7
    assert read(parser, whole[7:]) == []
    assert read(parser, whole) == [Message.from_bytes(whole)]
