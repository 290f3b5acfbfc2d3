"""The rig's JSON under both sanitizers, beside Python's."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hil.firmware.asked import Asked

JSON_BYTES = 64
MEMBERS = 8
Member = tuple[bytes | None, str, int | bytes]


def parse(json_cli: Asked, packet: bytes) -> list[Member] | None:
    """Key (None: not whole), kind (s, i, o) and value of each member; None where it was refused."""
    answer = json_cli.ask(packet.hex())
    if answer == "refused":
        return None
    *members, end = answer.split(" ")
    assert end == "."
    return [_member(text) for text in members]


def _member(text: str) -> Member:
    key, rest = text.split("=")
    kind, value = rest.split(":")
    known = None if key == "?" else bytes.fromhex(key)
    return known, kind, int(value) if kind == "i" else bytes.fromhex(value)


def is_whole(text: str) -> bool:
    """What the rig takes for a string: 64 bytes of UTF-8 at most, no half of a surrogate pair."""
    try:
        return len(text.encode()) <= JSON_BYTES
    except UnicodeEncodeError:
        return False


def wanted(pairs: list[tuple[str, object]]) -> list[Member]:
    """What the rig should make of an object that Python read."""
    return [(key.encode() if is_whole(key) else None, *_wanted_value(value)) for key, value in pairs]


def _wanted_value(value: object) -> tuple[str, int | bytes]:
    if isinstance(value, str) and is_whole(value):
        return "s", value.encode()
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return "i", value
    return "o", b""


def python_says(packet: bytes) -> list[Member] | None:
    """The same by Python's reader; None for what is no flat object of at most 8 members."""
    try:
        found = json.loads(packet.decode(), object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        return None
    is_flat = isinstance(found, list) and packet.lstrip()[:1] == b"{" and len(found) <= MEMBERS
    if not is_flat or any(isinstance(value, list) for _, value in found):
        return None
    return wanted(found)


texts: st.SearchStrategy[str] = st.text(max_size=12) | st.sampled_from(
    ["", "order", "press", "x" * 64, "x" * 65, "急停" * 11, "😀" * 17]
)
scalars = texts | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
scalars_of_any_kind: st.SearchStrategy[object] = scalars
flat = st.lists(st.tuples(texts, scalars_of_any_kind), max_size=MEMBERS + 2)


def dump(pairs: list[tuple[str, object]], *, ascii_only: bool, space: str) -> bytes:
    """An object with just these members, also where a key comes twice."""
    members = [
        f"{space}{words[0]}{space}:{words[1]}"
        for words in ([json.dumps(word, ensure_ascii=ascii_only) for word in pair] for pair in pairs)
    ]
    return f"{space}{{{','.join(members)}{space}}}{space}".encode()


@given(flat, st.booleans(), st.sampled_from(["", " ", "\n\t\r "]))
@settings(max_examples=200, deadline=None)
def test_what_python_writes_is_read(
    json_cli: Asked, pairs: list[tuple[str, object]], ascii_only: bool, space: str
) -> None:
    packet = dump(pairs, ascii_only=ascii_only, space=space)
    assert parse(json_cli, packet) == (wanted(pairs) if len(pairs) <= MEMBERS else None)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """An object with a few bytes changed, left out or put in."""
    packet = bytearray(dump(draw(flat), ascii_only=draw(st.booleans()), space=""))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(packet)))
        packet[at : at + draw(st.integers(0, 2))] = draw(
            st.binary(max_size=2)
            | st.sampled_from([b'"', b"\\u", b"\\", b"{", b",", b"1e", b"-", b".", b"00"])
        )
    return bytes(packet)


@given(spoilt() | st.binary(max_size=60))
@settings(max_examples=400, deadline=None)
def test_it_takes_what_python_takes_and_nothing_else(json_cli: Asked, packet: bytes) -> None:
    # Python's reader also knows these three words, which are no JSON.
    if not any(word in packet for word in (b"NaN", b"Infinity")):
        assert parse(json_cli, packet) == python_says(packet)


@pytest.mark.parametrize(
    ("packet", "members"),
    [
        (b"{}", []),
        (rb'{"a":"\ud83d\ude00"}', [(b"a", "s", "😀".encode())]),
        (rb'{"a":"\ud83d"}', [(b"a", "o", b"")]),
        (rb'{"a":"\ud83dA"}', [(b"a", "o", b"")]),
        (rb'{"a":"\ud83dA\ud83d\ude00"}', [(b"a", "o", b"")]),
        (rb'{"a":"\ude00\ud83d\ude00"}', [(b"a", "o", b"")]),
        (rb'{"a":"\"\\\/\b\f\n\r\t\u0000"}', [(b"a", "s", b'"\\/\b\f\n\r\t\0')]),
        (b'{"a":9223372036854775807}', [(b"a", "i", 2**63 - 1)]),
        (b'{"a":-9223372036854775808}', [(b"a", "i", -(2**63))]),
        (b'{"a":9223372036854775808}', [(b"a", "o", b"")]),
        (b'{"a":-9223372036854775809}', [(b"a", "o", b"")]),
        (b'{"a":1.0}', [(b"a", "o", b"")]),
        (b'{"a":1e2}', [(b"a", "o", b"")]),
        (b'{"a":-0}', [(b"a", "i", 0)]),
        (b'{"a":1,"a":2}', [(b"a", "i", 1), (b"a", "i", 2)]),
        (b'{"' + b"k" * 65 + b'":true}', [(None, "o", b"")]),
    ],
)
def test_at_the_edges(json_cli: Asked, packet: bytes, members: list[Member]) -> None:
    assert parse(json_cli, packet) == members
    assert python_says(packet) == members


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"order"',
        b'{"a":1}}',
        b'{"a":1,}',
        b'{"a" 1}',
        b'{"a":}',
        b'{"a":[1]}',
        b'{"a":{}}',
        b'{"a":01}',
        b'{"a":-}',
        b'{"a":1.}',
        b'{"a":1e}',
        b'{"a":+1}',
        b'{"a":tru}',
        b'{"a":NaN}',
        b'{"a":"\n"}',
        b'{"a":"\\x"}',
        b'{"a":"\\u12g4"}',
        b'{"a":"\\',
        b'{"a":"\\u12',
        b"{'a':1}",
        b'{"a":"\xff"}',
        b'{"a":"\xc0\x80"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xf4\x90\x80\x80"}',
        b'{"a":"\xe6\x80',
        b"{" + b",".join([b'"a":1'] * 9) + b"}",
        b"{" * 4000,
    ],
)
def test_what_is_no_flat_object_is_refused(json_cli: Asked, packet: bytes) -> None:
    assert parse(json_cli, packet) is None
