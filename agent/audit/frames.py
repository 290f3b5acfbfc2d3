"""Frames and records: decoders (README of agent/logformat, "Segment").

Everything raises FormatError and nothing else, whatever the bytes are.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import zstandard

from agent.audit import forms
from agent.audit.errors import FormatError
from agent.logformat.layout import (
    CRC,
    FLAG_ZSTD,
    FRAME_HEADER,
    FRAME_MAGIC,
    FRAME_OVERHEAD,
    FRAME_RECORDS,
    FRAME_SEAL,
    MAX_CT_BYTES,
    MAX_PLAIN_BYTES,
    RECORD_LENGTH,
    TAG_BYTES,
    ZSTD_DICTIONARY,
)

MAX_FRAME_BYTES: Final = FRAME_OVERHEAD + MAX_CT_BYTES
MAX_SEARCH_BYTES: Final = 64 << 20
"""Checksummed while the next whole frame is looked for. Without a bound, 8 MiB made of nothing but the
beginnings of large frames would take days."""
_MAGIC: Final = FRAME_MAGIC.to_bytes(2, "little")
_REASONS: Final = ("size", "age", "boot", "recipients", "recovered", "damaged", "end")
_SEAL: Final[Mapping[str, forms.Check]] = {
    "frames": forms.is_int,
    "records": forms.is_int,
    "bytes": forms.is_int,
    "reason": forms.is_one_of(*_REASONS),
}
_RECORD: Final[Mapping[str, forms.Check]] = {
    "w": forms.is_int,
    "b": forms.is_int,
    "c": forms.is_one_of("s", "u", "x"),
    "s": forms.is_text,
    "o": forms.is_boot,
    "q": forms.is_int,
    "k": forms.is_text,
    "d": lambda value: isinstance(value, dict),
}
_NUMBER: Final = "(0|[1-9][0-9]{0,18})"
_PLAIN: Final = r'"([^"\\]{0,200})"'
_HEAD: Final = re.compile(
    rf'{{"w":{_NUMBER},"b":{_NUMBER},"c":"([sux])","s":{_PLAIN},"o":"([0-9a-f]{{32}})","q":{_NUMBER},"k":{_PLAIN},"d":'
)
_unpack, _crc_of = FRAME_HEADER.unpack_from, CRC.unpack_from
_decode: Final = json.JSONDecoder(parse_constant=forms.refuse).raw_decode
_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Record(NamedTuple):
    """One record: README's fields, `d` as the JSON text `body`."""

    w: int
    b: int
    c: str
    s: str
    o: str
    q: int
    k: str
    body: str


class Frame(NamedTuple):
    """A frame whose checksum is right. `head`: its 24 bytes; `sealed`: ciphertext ‖ tag; `size`: in all."""

    type: int
    flags: int
    records: int
    first_seq: int
    number: int
    head: bytes
    sealed: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Seal:
    """A segment's last frame. `index`: its frame_idx; `next_seq`: number after the last record's."""

    index: int
    next_seq: int
    frames: int
    records: int
    bytes: int
    reason: str
    size: int
    """Of the seal frame itself."""


def parse_frame(data: bytes | memoryview, at: int = 0) -> Frame:
    """The whole frame that begins at `at`; only its form and its checksum are looked at."""
    room = len(data) - at
    if room < FRAME_OVERHEAD:
        raise FormatError("frame: cut short")
    magic, kind, flags, ct_len, count, first_seq, index = _unpack(data, at)
    if magic != FRAME_MAGIC or kind not in (FRAME_RECORDS, FRAME_SEAL) or flags > FLAG_ZSTD:
        raise FormatError("frame: no frame begins here")
    if ct_len > MAX_CT_BYTES:
        raise FormatError(f"frame: {ct_len} bytes, at most {MAX_CT_BYTES}")
    size = FRAME_OVERHEAD + ct_len
    if room < size:
        raise FormatError("frame: cut short")
    middle, stop = at + FRAME_HEADER.size, at + size - CRC.size
    head, sealed = bytes(data[at:middle]), bytes(data[middle:stop])
    if zlib.crc32(sealed, zlib.crc32(head)) != _crc_of(data, stop)[0]:
        raise FormatError("frame: checksum wrong")
    return Frame(kind, flags, count, first_seq, index, head, sealed, size)


def parse_seal(data: bytes) -> Seal:
    """The seal frame that is the whole of `data`."""
    frame = parse_frame(data)
    if frame.size != len(data):
        raise FormatError("seal: bytes after it")
    return read_seal(frame)


def read_seal(frame: Frame) -> Seal:
    """What a frame of type 2 says."""
    if (
        frame.type != FRAME_SEAL
        or frame.flags
        or frame.records
        or frame.sealed[-TAG_BYTES:] != bytes(TAG_BYTES)
    ):
        raise FormatError("seal: type, flags, count or tag wrong")
    found = forms.read_canonical(frame.sealed[:-TAG_BYTES])
    forms.require(found, _SEAL, "seal")
    return Seal(index=frame.number, next_seq=frame.first_seq, size=frame.size, **found)


def find_frame(data: bytes | memoryview, at: int) -> int | None:
    """Where, at `at` or after it, the next whole frame begins; None when none is found within bounds."""
    budget = MAX_SEARCH_BYTES
    raw = bytes(data)
    while (at := raw.find(_MAGIC, at)) >= 0 and budget > 0:
        try:
            parse_frame(raw, at)
        except FormatError:
            budget -= _cost(raw, at)
            at += 1
        else:
            return at
    return None


def _cost(raw: bytes, at: int) -> int:
    if len(raw) - at < FRAME_OVERHEAD:
        return FRAME_OVERHEAD
    ct_len: int = FRAME_HEADER.unpack_from(raw, at)[3]
    return FRAME_OVERHEAD + (ct_len if ct_len <= len(raw) - at else 0)


# ---- what a frame holds


@lru_cache(maxsize=1)
def _decompressor() -> zstandard.ZstdDecompressor:
    raw = zstandard.ZstdCompressionDict(ZSTD_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=raw, max_window_size=MAX_PLAIN_BYTES)


def expand(plain: bytes, flags: int) -> bytes:
    """The records' bytes of a decrypted frame, at most 4 MiB, whatever a compressed text claims to hold."""
    if not flags & FLAG_ZSTD:
        return plain
    try:
        size = zstandard.frame_content_size(plain)
        if size > MAX_PLAIN_BYTES:
            raise FormatError(f"frame: holds {size} bytes, at most {MAX_PLAIN_BYTES}")
        return _bounded(plain) if size < 0 else _decompressor().decompress(plain, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"frame: not zstd: {ascii(str(error))[1:60]}") from None


def _bounded(plain: bytes) -> bytes:
    """A zstd frame that does not say its size: read up to the bound, and one byte more to see."""
    with _decompressor().stream_reader(plain, read_across_frames=False) as reader:
        data = reader.read(MAX_PLAIN_BYTES + 1)
    if len(data) > MAX_PLAIN_BYTES:
        raise FormatError(f"frame: holds more than {MAX_PLAIN_BYTES} bytes")
    return data


def measure_records(plain: bytes, count: int) -> None:
    """FormatError unless a frame's plaintext is exactly `count` records."""
    at = 0
    try:
        for _ in range(count):
            at += plain[at] + (plain[at + 1] << 8) + 2
    except IndexError:
        at = -1
    if at != len(plain):
        raise FormatError(f"frame: {_unmeasured(plain, count)}")


def _unmeasured(plain: bytes, count: int) -> str:
    at, end, found, length = 0, len(plain), 0, RECORD_LENGTH.unpack_from
    while at < end - 1:
        at += length(plain, at)[0] + 2
        found += 1
    return "a record is cut short" if at != end else f"holds {found} records and says {count}"


def split_records(plain: bytes) -> list[bytes]:
    """The JSON texts of a plaintext that `measure_records` took."""
    at, end, texts = 0, len(plain), []
    while at < end:
        start = at + 2
        at = start + plain[at] + (plain[at + 1] << 8)
        texts.append(plain[start:at])
    return texts


def parse_record(text: bytes) -> Record:
    """One record, however its JSON is spelled; `d` may hold fractions."""
    found = forms.read_object(text, floats=True)
    forms.require(found, _RECORD, "record")
    try:
        body = _encode(found["d"])
    except (ValueError, RecursionError):
        raise FormatError("record: a number too large, or nested too deep") from None
    w, b, c, s, o, q, k = (found[name] for name in "wbcsoqk")
    return Record(w, b, c, s, o, q, k, body)


def read_record(text: bytes) -> Record:
    """The same, faster for the writer's own spelling; the body stays as it was spelled."""
    try:
        told = text.decode()
        head = _HEAD.match(told)
        if head is not None and told.isprintable():
            body, end = _decode(told, head.end())
            if type(body) is dict and end == len(told) - 1 and told[end] == "}":
                w, b, c, s, o, q, k = head.groups()
                return _checked(Record(int(w), int(b), c, s, o, int(q), k, told[head.end() : end]))
    except (ValueError, RecursionError):
        pass  # what is wrong with it, the other way says
    return parse_record(text)


def _checked(record: Record) -> Record:
    if max(record.w, record.b, record.q) > forms.MAX_INT:
        raise FormatError("record: a number too large")
    return record
