import json
import math
from contextlib import suppress
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link import PacketError, decode_packet, encode_packet
from agent.link.packets import MAX_DEPTH, MAX_DIGITS

LIMIT = 4_096

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10 ** (MAX_DIGITS - 1)) + 1, 10**MAX_DIGITS - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('ab"\\', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def nested(levels: int) -> bytes:
    """An object with lists in it, `levels` deep in all."""
    return b'{"type":"x","v":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@given(values)
def test_what_is_encoded_is_decoded(value: object) -> None:
    message = {"type": "x", "v": value}
    assert decode_packet(encode_packet(message, 10**6), 10**6) == message


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_a_packet_error(data: bytes) -> None:
    message = None
    with suppress(PacketError):
        message = decode_packet(data)
    assert message is None or isinstance(message["type"], str)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"\x00", "not JSON"),
        (b'{"type":"x"', "not JSON"),
        (b'{"type":"x"}{"type":"x"}', "not JSON"),
        (b'\xef\xbb\xbf{"type":"x"}', "not JSON"),
        (b'{"type":"\xff"}', "not UTF-8"),
        ('{"type":"x"}'.encode("utf-16"), "not UTF-8"),
        (b'["type"]', "not a JSON object"),
        (b"1", "not a JSON object"),
        (b"{}", "no string field type"),
        (b'{"type":1}', "no string field type"),
        (b'{"type":null}', "no string field type"),
        (b'{"type":"x","v":NaN}', "NaN is not a JSON number"),
        (b'{"type":"x","v":-Infinity}', "-Infinity is not a JSON number"),
        (b'{"type":"x","v":1e999}', "number out of range"),
        (b'{"type":"x","v":' + b"9" * (MAX_DIGITS + 1) + b"}", "number out of range"),
        (b'{"type":"x","v":' + b"9" * 5_000 + b"}", "number out of range"),
        (rb'{"type":"x","v":"\ud800"}', "lone surrogate in a string"),
        (rb'{"type":"x","\uDfff":1}', "lone surrogate in a string"),
        (nested(MAX_DEPTH + 1), "nested too deeply"),
        (nested(60_000), "nested too deeply"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(PacketError) as caught:
        decode_packet(data)
    assert caught.value.reason == reason


def test_the_deepest_and_the_longest_are_still_taken() -> None:
    assert decode_packet(nested(MAX_DEPTH))["type"] == "x"
    longest = b'{"type":"x"' + b" " * (LIMIT - 12) + b"}"
    assert decode_packet(longest, LIMIT) == {"type": "x"}
    with pytest.raises(PacketError, match=f"longer than {LIMIT} bytes"):
        decode_packet(longest + b" ", LIMIT)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert decode_packet(b'{"type":"x","v":[' + b"[]," * 500 + b"[]]}")["type"] == "x"


def test_a_surrogate_pair_is_one_character() -> None:
    assert decode_packet(rb'{"type":"x","v":"\ud83d\ude00"}')["v"] == "\U0001f600"


@pytest.mark.parametrize("value", [math.nan, math.inf, b"bytes", {1, 2}, object(), {("a", "b"): 1}, 1 + 2j])
def test_what_json_cannot_carry_is_not_encoded(value: object) -> None:
    with pytest.raises(PacketError, match="cannot be written as JSON"):
        encode_packet({"type": "x", "v": value})


def test_a_message_that_holds_itself_is_not_encoded() -> None:
    message: dict[str, object] = {"type": "x"}
    message["self"] = message
    with pytest.raises(PacketError):
        encode_packet(message)


def test_the_longest_message_that_is_encoded() -> None:
    overhead = len(encode_packet({"type": "x", "v": ""}))
    assert len(encode_packet({"type": "x", "v": "a" * (LIMIT - overhead)}, LIMIT)) == LIMIT
    with pytest.raises(PacketError, match=f"longer than {LIMIT} bytes"):
        encode_packet({"type": "x", "v": "a" * (LIMIT - overhead + 1)}, LIMIT)


def test_chinese_goes_as_it_is_and_a_lone_surrogate_as_a_question_mark() -> None:
    data = encode_packet({"type": "x", "v": "急停\udcff"})
    assert "急停?" in data.decode("utf-8")
    assert decode_packet(data)["v"] == "急停?"


def test_compact() -> None:
    assert encode_packet({"type": "x", "v": [1, 2]}) == b'{"type":"x","v":[1,2]}'
    assert cast("object", json.loads(encode_packet({"type": "x"}))) == {"type": "x"}
