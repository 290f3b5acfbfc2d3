"""The safety node's frames: vectors made by hand, and what no bytes whatever may do."""

import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import WardenError
from drivers.serial_node.codec import (
    LONGEST,
    AgentFrame,
    CodecError,
    CrcError,
    NodeFrame,
    Splitter,
    cobs_decode,
    cobs_encode,
)
from tests.drivers import wire

NODE_HEX = "15 01 01 02 01 06 05 04 03 08 07 0a 09 01 0b 0d 0c d7 57 e4 db 00"
NODE = NodeFrame(
    seq=0x0102, node_ms=0x03040506, channel_a=0x0708, channel_b=0x090A, relay=1, faults=0x0B, echo=0x0C0D
)
NODE_ZERO_HEX = "03 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 05 2c 01 28 fb 00"
AGENT_HEX = "08 01 02 34 12 cd ab a5 05 71 83 a6 39 00"
AGENT_ZERO_HEX = "03 01 02 01 01 01 01 01 05 de ce 17 3e 00"

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
node_frames = st.builds(
    NodeFrame, seq=u16, node_ms=u32, channel_a=u16, channel_b=u16, relay=u8, faults=u8, echo=u16
)
agent_frames = st.builds(AgentFrame, seq=u16, echo=u16, energise=st.booleans())


def by_hand(frame: NodeFrame) -> bytes:
    return wire.node_frame(
        seq=frame.seq,
        node_ms=frame.node_ms,
        a=frame.channel_a,
        b=frame.channel_b,
        relay=frame.relay,
        faults=frame.faults,
        echo=frame.echo,
    )


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (NODE, NODE_HEX),
        (NodeFrame(0, 0, 0, 0, 0, 0, 0), NODE_ZERO_HEX),
        (AgentFrame(0x1234, 0xABCD, energise=True), AGENT_HEX),
        (AgentFrame(0, 0, energise=False), AGENT_ZERO_HEX),
    ],
)
def test_vectors(frame: NodeFrame | AgentFrame, text: str) -> None:
    assert frame.to_bytes() == bytes.fromhex(text)
    assert type(frame).from_bytes(bytes.fromhex(text)[:-1]) == frame


@given(node_frames)
def test_a_node_frame_is_what_a_hand_makes_of_it(frame: NodeFrame) -> None:
    assert frame.to_bytes() == by_hand(frame)
    assert NodeFrame.from_bytes(by_hand(frame)[:-1]) == frame


@given(agent_frames)
def test_an_agent_frame_is_what_a_hand_makes_of_it(frame: AgentFrame) -> None:
    made = wire.agent_frame(seq=frame.seq, echo=frame.echo, energise=0xA5 if frame.energise else 0)
    assert frame.to_bytes() == made
    assert AgentFrame.from_bytes(made[:-1]) == frame


@pytest.mark.parametrize("byte", sorted(set(range(256)) - {0xA5}))
def test_only_one_byte_energises(byte: int) -> None:
    stretch = wire.agent_frame(seq=1, echo=2, energise=byte)[:-1]
    assert AgentFrame.from_bytes(stretch) == AgentFrame(1, 2, energise=False)


def test_the_byte_that_must_be_zero() -> None:
    with pytest.raises(CodecError, match="must be zero is 7"):
        AgentFrame.from_bytes(wire.agent_frame(seq=1, echo=2, energise=0xA5, zero=7)[:-1])


@pytest.mark.parametrize(("version", "kind"), [(0, 1), (2, 1), (1, 0), (1, 2), (1, 3), (0x81, 1)])
def test_another_version_or_type_is_refused(version: int, kind: int) -> None:
    body = struct.pack("<BBHIHHBBH", version, kind, 1, 2, 3, 4, 5, 6, 7)
    with pytest.raises(CodecError, match=f"version {version} type {kind}"):
        NodeFrame.from_bytes(wire.seal(body)[:-1])


@pytest.mark.parametrize("length", [*range(16), *range(17, 30), 252])
def test_another_length_is_refused_though_its_crc_is_right(length: int) -> None:
    body = struct.pack("<BBHIHHBBH", 1, 1, 1, 2, 3, 4, 5, 6, 7).ljust(length, b"\1")[:length]
    with pytest.raises(CodecError, match="a frame has 21"):
        NodeFrame.from_bytes(wire.seal(body[:249])[:-1])


def test_a_wrong_crc_is_an_error_of_its_own() -> None:
    body = struct.pack("<BBHIHHBBH", 1, 1, 1, 2, 3, 4, 5, 6, 7)
    with pytest.raises(CrcError) as caught:
        NodeFrame.from_bytes(wire.seal(body, crc_xor=0x80000000)[:-1])
    assert isinstance(caught.value, WardenError)
    assert caught.value.reason == "wrong CRC-32"


@given(node_frames)
def test_every_single_flipped_bit_is_refused(frame: NodeFrame) -> None:
    sound = by_hand(frame)
    for bit in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        assert found(Splitter().feed(bytes(flipped))) == []


@given(st.binary(max_size=64))
@example(b"")
@example(b"\0")
@example(b"\xff" * LONGEST)
def test_no_bytes_raise_anything_but_the_codec_s_error(data: bytes) -> None:
    for decode in (NodeFrame.from_bytes, AgentFrame.from_bytes, cobs_decode):
        with suppress(CodecError):
            decode(data)


@given(st.binary(min_size=14, max_size=14), st.one_of(st.just(0), u32))
def test_a_frame_is_taken_only_with_its_right_crc(fields: bytes, crc_xor: int) -> None:
    stretch = wire.seal(b"\1\1" + fields, crc_xor=crc_xor)[:-1]
    assert bool(found([stretch])) == (crc_xor == 0)


@given(st.binary(max_size=253))
@example(b"\0" * 253)
@example(b"\1" * 253)
def test_stuffing_there_and_back(data: bytes) -> None:
    stuffed = cobs_encode(data)
    assert stuffed == wire.stuff(data)
    assert 0 not in stuffed
    assert cobs_decode(stuffed) == data


def test_nothing_longer_than_a_block_is_stuffed() -> None:
    with pytest.raises(CodecError, match="254 bytes"):
        cobs_encode(bytes(254))


@pytest.mark.parametrize(
    "field", [{"seq": 65536}, {"seq": -1}, {"node_ms": 1 << 32}, {"relay": 256}, {"echo": -1}]
)
def test_a_field_out_of_range_is_refused(field: dict[str, int]) -> None:
    fields = dict.fromkeys(["seq", "node_ms", "channel_a", "channel_b", "relay", "faults", "echo"], 0)
    with pytest.raises(CodecError, match="out of range"):
        NodeFrame(**{**fields, **field}).to_bytes()


def found(stretches: list[bytes]) -> list[NodeFrame]:
    frames = []
    for stretch in stretches:
        try:
            frames.append(NodeFrame.from_bytes(stretch))
        except CodecError:
            continue
    return frames


@given(st.lists(st.one_of(node_frames.map(by_hand), st.binary(max_size=60))), st.data())
def test_where_the_stream_is_cut_makes_no_difference(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(stream))).map(sorted))
    pieces = Splitter()
    in_pieces = [
        stretch for a, b in pairwise([0, *cuts, len(stream)]) for stretch in pieces.feed(stream[a:b])
    ]
    whole = Splitter()
    assert in_pieces == whole.feed(stream)
    assert pieces.dropped == whole.dropped


@given(st.binary(max_size=300), node_frames)
def test_a_delimiter_is_a_fresh_start_after_anything(garbage: bytes, frame: NodeFrame) -> None:
    assert found(Splitter().feed(garbage + b"\0" + by_hand(frame)))[-1] == frame


@given(st.lists(st.binary(max_size=200)))
def test_memory_is_bounded_and_every_byte_accounted_for(chunks: list[bytes]) -> None:
    splitter = Splitter()
    out = 0
    for chunk in chunks:
        stretches = splitter.feed(chunk)
        assert all(0 < len(stretch) <= LONGEST + 1 for stretch in stretches)
        out += sum(map(len, stretches))
        assert len(splitter._kept) <= LONGEST + 1
    delimiters = b"".join(chunks).count(b"\0")
    assert out + splitter.dropped + len(splitter._kept) + delimiters == sum(map(len, chunks))


def test_a_stretch_in_excess_is_still_refused_for_its_length() -> None:
    splitter = Splitter()
    [stretch] = splitter.feed(wire.node_frame(seq=1, node_ms=1)[:-1] + b"\x55" * 100 + b"\0")
    assert len(stretch) == LONGEST + 1
    assert splitter.dropped == 99
    assert found([stretch]) == []


def test_clear_forgets_what_has_begun() -> None:
    splitter = Splitter()
    frame = wire.node_frame(seq=1, node_ms=1)
    assert splitter.feed(b"\x11\x22" + frame[:1]) == []
    splitter.clear()
    assert splitter.dropped == 3
    assert len(found(splitter.feed(frame))) == 1
