"""The node's codec against frames worked out by hand, and against itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.node_codec import MAX_PACKET, Order, Splitter, Status, cobs_decode, cobs_encode

# Byte by byte from PROTOCOL 4; each CRC-32 was worked out bit by bit with the reversed polynomial EDB88320.
STATUS = Status(seq=5, node_ms=1000, channel_a=1, channel_b=3, relay=True, faults=0, echo=0x0700)
STATUS_LINE = bytes.fromhex("04 010105 03 e803 01 02 01 02 03 02 01 01 06 07a0fc16c4 00")
ORDER_PACKET = bytes.fromhex("06 0102341205 02 a5 05 19f7725f")

COBS_VECTORS = [
    # Plain and encoded; those with 254 and more bytes are the edges of COBS's full block.
    ("00", "0101"),
    ("0000", "010101"),
    ("001100", "01021101"),
    ("11220033", "0311220233"),
    ("11223344", "0511223344"),
    ("11000000", "0211010101"),
    (bytes(range(1, 255)).hex(), "ff" + bytes(range(1, 255)).hex()),
    (bytes(range(255)).hex(), "01ff" + bytes(range(1, 255)).hex()),
    (bytes(range(1, 256)).hex(), "ff" + bytes(range(1, 255)).hex() + "02ff"),
    (bytes(range(2, 256)).hex() + "00", "ff" + bytes(range(2, 256)).hex() + "0101"),
    (bytes(range(3, 256)).hex() + "0001", "fe" + bytes(range(3, 256)).hex() + "0201"),
]


@pytest.mark.parametrize(("plain", "encoded"), COBS_VECTORS)
def test_cobs_vectors(plain: str, encoded: str) -> None:
    assert cobs_encode(bytes.fromhex(plain)).hex() == encoded
    assert cobs_decode(bytes.fromhex(encoded)) == bytes.fromhex(plain)


@given(st.binary(max_size=1000) | st.integers(250, 520).map(lambda n: b"x" * n))
def test_cobs_gives_back_what_it_took_and_holds_no_zero(data: bytes) -> None:
    encoded = cobs_encode(data)
    assert 0 not in encoded
    assert cobs_decode(encoded) == data


@pytest.mark.parametrize("broken", ["", "00", "05112233", "0211ff", "031100"])
def test_cobs_refuses_what_no_encoder_makes(broken: str) -> None:
    assert cobs_decode(bytes.fromhex(broken)) is None


def test_status_by_hand() -> None:
    assert STATUS.to_bytes() == STATUS_LINE


def test_order_by_hand() -> None:
    assert Order.from_packet(ORDER_PACKET) == Order(seq=0x1234, echo=5, energise=0xA5)


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param("", id="nothing"),
        pytest.param("06 0102341205 02 a5 05 18f7725f", id="crc"),
        pytest.param("06 0102341205 02 65 05 19f7725f", id="one bit of energise"),
        pytest.param("06 0202341205 02 a5 05 faf0fdd1", id="version 2"),
        pytest.param("06 0101341205 02 a5 05 84ed9a6e", id="a status type"),
        pytest.param("06 0102341205 07 a501 8fc77528", id="reserved byte not zero, cut short"),
        pytest.param("06 0102341205 07 a5018fc77528", id="reserved byte not zero"),
        pytest.param("06 0102341205 02 a5", id="torn"),
        pytest.param("05 19f7725f", id="a checksum alone"),
    ],
)
def test_what_is_not_exactly_an_order_is_none(packet: str) -> None:
    assert Order.from_packet(bytes.fromhex(packet)) is None


def test_a_status_is_no_order() -> None:
    assert Order.from_packet(STATUS_LINE[:-1]) is None


@given(st.integers(0, len(ORDER_PACKET) * 8 - 1))
def test_one_flipped_bit_is_never_an_order(bit: int) -> None:
    damaged = bytearray(ORDER_PACKET)
    damaged[bit // 8] ^= 1 << bit % 8
    assert Order.from_packet(bytes(damaged)) is None


@given(st.binary(max_size=MAX_PACKET))
def test_any_bytes_are_survived(noise: bytes) -> None:
    order = Order.from_packet(noise)
    assert order is None or 0 <= order.energise <= 0xFF


packets = st.lists(st.binary(min_size=1, max_size=MAX_PACKET).filter(lambda data: 0 not in data), max_size=8)


@given(packets, st.lists(st.integers(0, 600), max_size=8))
def test_packets_come_out_whole_however_the_stream_is_torn(wanted: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(packet + b"\0" for packet in wanted)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter = Splitter()
    found = [
        each for i in range(len(places) - 1) for each in splitter.feed(stream[places[i] : places[i + 1]])
    ]
    assert found == wanted


def test_idle_delimiters_are_nothing() -> None:
    assert Splitter().feed(b"\0\0\0") == []


def test_what_is_too_long_is_told_once_and_the_next_packet_is_whole() -> None:
    splitter = Splitter()
    assert splitter.feed(b"x" * MAX_PACKET) == []
    assert splitter.feed(b"x" * 100_000) == []
    assert splitter.feed(b"x\0good\0") == [None, b"good"]


def test_a_begun_packet_can_be_forgotten() -> None:
    splitter = Splitter()
    splitter.feed(b"half")
    splitter.clear()
    assert splitter.feed(b"new\0") == [b"new"]
