"""Every decoder given any bytes: an answer, or the one error of this package."""

import json
import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audit.duplicates import MAX_BLOCKS, Run, Seen
from agent.audit.entry import BODIES, parse_entry
from agent.audit.errors import AuditError, FormatError
from agent.audit.frames import Record, expand, find_frame, parse_frame, parse_record, parse_seal, read_record
from agent.audit.header import parse_header
from agent.audit.output import iso
from agent.logformat.layout import KINDS, MAX_HEADER_BYTES
from tests.audit.forge import frame, record, text
from tests.fuzz.audit import SEEDS, TARGETS

DECODERS = ("log_header", "log_gone", "log_entry", "log_frame", "log_seal", "log_records")


@pytest.mark.parametrize("name", DECODERS)
def test_seeds_are_good(name: str) -> None:
    assert TARGETS[name][0](SEEDS[name])


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=150)
@given(
    cut=st.integers(0, 3000), bits=st.lists(st.integers(0, 20_000), max_size=4), more=st.binary(max_size=9)
)
def test_seeds_cut_and_bent(name: str, cut: int, bits: list[int], more: bytes) -> None:
    bent = bytearray(SEEDS[name][: len(SEEDS[name]) - cut % len(SEEDS[name])])
    for bit in bits:
        bent[bit // 8 % len(bent)] ^= 1 << bit % 8
    try:
        TARGETS[name][0](bytes(bent) + more)
    except FormatError:
        return


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150)
@given(data=st.binary(max_size=400))
def test_any_bytes(name: str, data: bytes) -> None:
    decode, errors = TARGETS[name]
    try:
        decode(data)
    except errors:
        return


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(field=st.sampled_from(sorted(record(1))), value=JSON)
def test_a_record_with_anything_in_a_field(field: str, value: object) -> None:
    row = {**record(1), field: value}
    try:
        data = text(row)
    except UnicodeEncodeError:
        return
    assert told(read_record, data) == told(parse_record, data)


def told(read: Callable[[bytes], Record], data: bytes) -> object:
    """The record, its body as what it means; None for what is none."""
    try:
        record = read(data)
    except FormatError:
        return None
    return record._replace(body=text(json.loads(record.body)).decode())


@settings(max_examples=300)
@given(kind=st.sampled_from(KINDS), field=st.integers(0, 9), value=JSON)
def test_an_entry_with_anything_in_its_body(kind: str, field: int, value: object) -> None:
    entry = json.loads(SEEDS["log_entry"])
    names = sorted(BODIES[kind][0])
    body = dict.fromkeys(names, 1) | {names[field % len(names)]: value}
    try:
        data = text({**entry, "kind": kind, "body": body})
    except UnicodeEncodeError:
        return
    try:
        parse_entry(data)
    except FormatError:
        return


def test_every_kind_of_the_format_has_a_body() -> None:
    assert tuple(BODIES) == KINDS


def test_a_header_that_claims_to_be_huge() -> None:
    data = bytearray(SEEDS["log_header"])
    data[8:12] = (0xFFFFFFFF).to_bytes(4, "little")
    with pytest.raises(FormatError, match=f"at most {MAX_HEADER_BYTES}"):
        parse_header(bytes(data))


def test_a_frame_that_claims_to_be_huge() -> None:
    data = bytearray(frame(1, 0, bytes(20), 1, 1, 0))
    data[4:8] = (1 << 21).to_bytes(4, "little")
    with pytest.raises(FormatError, match="at most"):
        parse_frame(bytes(data) + bytes(1 << 21))


def test_the_search_for_a_frame_is_bounded() -> None:
    """A file of nothing but beginnings of large frames; without a bound this would take hours."""
    bait = frame(1, 0, bytes(900_016), 1, 1, 0)[:24]
    assert find_frame(bait * 60_000, 0) is None


def test_the_search_finds_what_is_there() -> None:
    one = frame(1, 0, bytes(20), 1, 1, 0)
    assert find_frame(b"WF" * 50 + one, 1) == 100
    assert find_frame(memoryview(b"WF" * 50), 0) is None


def test_json_a_thousand_deep() -> None:
    deep = b'{"w":' + b"[" * 100_000
    with pytest.raises(FormatError):
        parse_record(deep)


def test_plain_frames_stay_as_they_are() -> None:
    assert expand(b"abc", 0) == b"abc"


def test_a_checksum_is_over_all_before_it() -> None:
    one = frame(2, 0, bytes(16), 0, 1, 0)
    assert zlib.crc32(one[:-4]) == int.from_bytes(one[-4:], "little")
    with pytest.raises(FormatError, match="not JSON"):
        parse_seal(one)


def test_errors_come_whole_out_of_a_process() -> None:
    import pickle
    from pathlib import Path

    again = pickle.loads(pickle.dumps(AuditError(Path("a"), "b")))  # noqa: S301 - its own
    assert (again.path, again.reason, str(again)) == (Path("a"), "b", "a: b")


@given(st.integers(0, 2**63 - 1))
def test_times_are_of_one_length(wall_ns: int) -> None:
    assert len(iso(wall_ns)) == len("2027-01-15T08:00:00.000000001Z")


# ---- duplicates


EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 12)), max_size=60)


@given(EVENTS)
def test_seen_is_a_set(events: list[tuple[str, str, int]]) -> None:
    seen, model = Seen(), set[tuple[str, str, int]]()
    for event in events:
        assert seen.add(*event) is (event in model)
        model.add(event)


@given(EVENTS, EVENTS)
def test_runs_say_what_was_seen(
    first: list[tuple[str, str, int]], second: list[tuple[str, str, int]]
) -> None:
    seens = [Seen(keep_runs=True) for _ in range(2)]
    for seen, events in zip(seens, (first, second), strict=True):
        for event in events:
            seen.add(*event)
    both = Seen()
    both.add_runs(seens[0].runs())
    assert both.meets(seens[1].runs()) is bool(set(first) & set(second))
    both.add_runs(seens[1].runs())
    assert all(both.add(*event) for event in first + second)


def test_what_is_forgotten_is_bounded() -> None:
    seen = Seen()
    chance = random.Random(1)
    runs: list[Run] = [("s", "o", n * 4096, n * 4096 + chance.randrange(4096)) for n in range(MAX_BLOCKS + 5)]
    seen.add_runs(runs)
    assert len(seen._blocks) == MAX_BLOCKS
