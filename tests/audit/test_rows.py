"""A frame's records read at once are what they are one by one; so is what it holds, and its key."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audit.errors import FormatError
from agent.audit.frames import measure_records, read_record, split_records
from agent.audit.keys import Ratchet
from agent.audit.rows import read_rows, row_of
from agent.logformat.layout import LABEL_RATCHET, LABEL_ROOT
from agent.logformat.suites import suite_by_number
from tests.audit.forge import WALL, Forge, record, text
from tests.audit.test_decoders import JSON
from tests.audit.test_decrypt import keys, read

FIELDS = st.lists(st.tuples(st.sampled_from(sorted(record(1))), JSON), max_size=2)


@settings(max_examples=300)
@given(changes=st.lists(FIELDS, max_size=4), cuts=st.lists(st.integers(0, 900), max_size=1))
def test_rows_are_what_each_record_says_alone(
    changes: list[list[tuple[str, object]]], cuts: list[int]
) -> None:
    try:
        texts = [text(record(n) | dict(pairs)) for n, pairs in enumerate(changes, 1)]
    except UnicodeEncodeError:
        return
    whole = b"".join(texts)
    for cut in cuts:  # the same bytes, parted elsewhere
        texts = [whole[: cut % (len(whole) + 1)], whole[cut % (len(whole) + 1) :]]
    rows = read_rows(texts)
    assert rows is None or rows == [row_of(read_record(each)) for each in texts]


def test_rows_of_the_writer_are_read_at_once() -> None:
    plain = [text(record(n, what=what)) for n, what in enumerate(("急停", {"a": [1.5, None]}, ""), 1)]
    assert read_rows(plain) == [row_of(read_record(each)) for each in plain]


GOOD = text(record(1))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [GOOD, b""],
        [GOOD, GOOD + b" "],
        [GOOD + b"\n" + GOOD],
        [GOOD.replace(b":{", b":{\n"), GOOD],
        [GOOD.replace(b"_", b"\x7f")],
        [GOOD.replace(b"_", "\u202e".encode())],
        [GOOD.replace(b"_", b"\xff")],
        [GOOD.replace(b'"estop_pressed"', b"[")[:-1], b'],{"a":1}}'],
        [GOOD.replace(b'"estop_pressed"', b"NaN")],
        [GOOD.replace(b'"estop_pressed"', b"1} ,{")],
        [GOOD.replace(b'"estop_pressed"', b"[" * 100_000)],
        [GOOD.replace(b'"q":1', b'"q":01')],
        [GOOD.replace(b'"q":1', b'"q":9223372036854775808')],
        [GOOD.replace(b'"w":1', b'"w":9')],
        [GOOD.replace(b'"k":"', b'"k":"\\u0041')],
        [GOOD.replace(b'"q"', b'"q" ')],
        [GOOD.replace(b'{"w"', b'{"w":1,"w"')],
    ],
)
def test_what_is_spelled_in_another_way_is_left_to_the_slow_way(texts: list[bytes]) -> None:
    assert read_rows(texts) is None


@given(texts=st.lists(st.binary(max_size=3), max_size=5), bent=st.binary(max_size=9), off=st.integers(-2, 2))
def test_records_are_measured(texts: list[bytes], bent: bytes, off: int) -> None:
    plain = b"".join(len(each).to_bytes(2, "little") + each for each in texts)
    measure_records(plain, len(texts))
    assert split_records(plain) == texts
    if off > 0 or (off < 0 and len(texts) + off >= 0):
        with pytest.raises(FormatError, match=f"holds {len(texts)} records and says {len(texts) + off}"):
            measure_records(plain, len(texts) + off)
    try:
        measure_records(plain + bent, len(texts) + 1)
    except FormatError:
        return
    assert split_records(plain + bent) == [*texts, bent[2:]]


@pytest.mark.parametrize("number", [1, 2])
def test_the_ratchet_is_hkdf_expand(number: int) -> None:
    suite, k = suite_by_number(number), bytes(range(32))
    ratchet = Ratchet(suite, k, b"salt")
    k = suite.hkdf(k, b"salt", LABEL_ROOT, 32)
    for index in range(5):
        both = suite.expand(k, LABEL_RATCHET, 32 + suite.key_bytes)
        k, key = both[:32], both[32:]
        assert ratchet.key(index) == key


def test_however_records_are_spelled_the_same_is_told_of_them(tmp_path: Path) -> None:
    records = [record(q, source="远程", nested={"a": [1.5, True]}) for q in (3, 1, 2, 2)]
    told = []
    for name, spaces in (("writer", (",", ":")), ("other", (", ", ": "))):
        forge = Forge(tmp_path / name)
        forge.genesis()
        one = forge.open("net")
        texts = [json.dumps(row, separators=spaces, ensure_ascii=False).encode() for row in records]
        plain = b"".join(len(each).to_bytes(2, "little") + each for each in texts)
        one.put(one.sealed_frame(plain, 0, len(records)), len(records))
        forge.seal(one)
        span = (WALL + 1_000_000, WALL + 2_000_000)
        told += [read(forge, keys(forge.recipients[0]), **row)[1] for row in ({}, {"span_ns": span})]
    assert told[:2] == told[2:]
    assert [(row["seq"], row["n"], row["duplicate"]) for row in told[1]] == [
        (1, 2, False),
        (2, 3, False),
        (2, 4, True),
    ]
