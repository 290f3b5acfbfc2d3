import json
import secrets
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.logformat.layout import FLAG_ZSTD, MAX_CT_BYTES, MAX_RECORD_BYTES, ZSTD_DICTIONARY
from agent.recorder.log import Record
from agent.recorder.sealed.packing import EXCERPT_CHARS, Compressor, PackingError, key_of, pack, record_json
from tests.recorder.sealed.logs import BOOT, record, records

COMPRESSOR = Compressor()


def test_a_record() -> None:
    item = Record("reflex", BOOT, 7, "net", "e", 5, 6, {"text": "文", "n": [1, 2.5, None]}, "u")
    line = '{"w":5,"b":6,"c":"u","s":"reflex","o":"BOOT","q":7,"k":"e","d":{"text":"文","n":[1,2.5,null]}}'
    assert record_json(item) == line.replace("BOOT", BOOT).encode()
    assert key_of(item) == ("reflex", BOOT, 7)


def test_a_plaintext() -> None:
    items = records(1, 3)
    (only,) = pack(items, None)
    lines = [record_json(item) for item in items]
    assert only.payload == b"".join(len(line).to_bytes(2, "little") + line for line in lines)
    assert (only.flags, only.count, only.seqs) == (0, 3, {("reflex", BOOT): 3})
    assert only.size == len(only.payload) + 44


def test_no_records_are_no_frame() -> None:
    assert pack([], COMPRESSOR) == []


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert json.loads(record_json(record(1, text="a\udc80b")))["d"] == {"text": "a?b"}


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": object()}, {1: {2, 3}}])
def test_what_json_cannot_carry_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(PackingError, match="cannot be written as JSON"):
        pack([record(1), replace(record(2), body=body)], None)


def test_a_body_too_deep_is_refused() -> None:
    body: dict[str, object] = {}
    for _ in range(100_000):
        body = {"x": body}
    with pytest.raises(PackingError, match="RecursionError"):
        record_json(replace(record(1), body=body))


def test_the_longest_record_is_kept_whole_and_one_byte_more_is_not() -> None:
    room = MAX_RECORD_BYTES - len(record_json(record(1)))
    assert len(record_json(record(1, text="x" * room))) == MAX_RECORD_BYTES
    line = record_json(record(1, text="x" * (room + 1)))
    size = len('{"text":""}') + room + 1
    assert json.loads(line)["d"] == {"excerpt": '{"text":"' + "x" * (EXCERPT_CHARS - 9), "bytes": size}


@given(st.text(min_size=1, max_size=8))
def test_an_excerpt_always_fits(text: str) -> None:
    line = record_json(record(1, text=text * (70_000 // len(text) + 1)))
    assert len(line) <= MAX_RECORD_BYTES
    assert set(json.loads(line)["d"]) == {"excerpt", "bytes"}


def test_a_record_too_long_without_its_body_is_refused() -> None:
    with pytest.raises(PackingError, match="without its body"):
        pack([replace(record(1), kind="k" * MAX_RECORD_BYTES)], None)


@pytest.mark.parametrize("compressor", [None, COMPRESSOR])
def test_many_long_records_are_several_frames_in_order(compressor: Compressor | None) -> None:
    items = [record(seq, text=secrets.token_hex(15_000 + seq)) for seq in range(1, 91)]
    packs = pack(items, compressor)
    assert len(packs) == 3
    assert [each.seqs["reflex", BOOT] for each in packs] == [34, 68, 90]
    assert sum(each.count for each in packs) == 90
    assert all(len(each.payload) <= MAX_CT_BYTES for each in packs)


def test_compressed_only_where_that_is_smaller() -> None:
    (small,) = pack([record(1, text=secrets.token_urlsafe(400))], COMPRESSOR)
    noise = secrets.token_bytes(400)
    assert COMPRESSOR.smaller(noise) == (noise, 0)
    (large,) = pack(records(1, 20), COMPRESSOR)
    assert large.flags == FLAG_ZSTD
    dictionary = zstandard.ZstdCompressionDict(ZSTD_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    plain = zstandard.ZstdDecompressor(dict_data=dictionary).decompress(large.payload)
    assert plain == pack(records(1, 20), None)[0].payload
    assert len(small.payload) < len(record_json(record(1, text="x" * 534)))


def test_the_largest_seq_of_each_sender() -> None:
    items = [record(3), record(2), record(9, source="remote"), record(1, boot="cd" * 16)]
    (only,) = pack(items, None)
    assert only.seqs == {("reflex", BOOT): 3, ("remote", BOOT): 9, ("reflex", "cd" * 16): 1}
