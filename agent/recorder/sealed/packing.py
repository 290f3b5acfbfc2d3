"""Records to the plaintexts of frames (README of agent/logformat, "Frame" and "Record")."""

from collections.abc import Sequence
from dataclasses import dataclass
from json import JSONEncoder
from typing import Final

import zstandard

from agent.errors import WardenError
from agent.logformat.layout import (
    FLAG_ZSTD,
    FRAME_OVERHEAD,
    MAX_CT_BYTES,
    MAX_RECORD_BYTES,
    RECORD_LENGTH,
    ZSTD_DICTIONARY,
)
from agent.recorder.log import Record

PLAIN_BYTES: Final = MAX_CT_BYTES
"""Plaintext of one frame at most, so that it fits uncompressed too."""
EXCERPT_CHARS: Final = 8_192
"""Kept of a body that is too long: at most four bytes each once it is JSON again, half a record."""
ZSTD_LEVEL: Final = 3
"""Measured, 20 records a frame: to a ninth, 0.8 µs a record. Level 12: a tenth less, at 11 µs."""

_ENCODE: Final = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

Sender = tuple[str, str]
"""(source, boot)."""
Key = tuple[str, str, int]
"""(source, boot, seq): one event."""


class PackingError(WardenError):
    """A record that cannot be JSON, or is too long without its body. `reason`: which, in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pack:
    """What one frame will hold. `payload`: the plaintext as it is sealed; `flags`: the frame's."""

    payload: bytes
    flags: int
    count: int
    seqs: dict[Sender, int]
    """The largest of each sender."""

    @property
    def size(self) -> int:
        """Bytes of its frame."""
        return len(self.payload) + FRAME_OVERHEAD


class Compressor:
    """zstd with the format's dictionary; one context for all frames."""

    def __init__(self, level: int = ZSTD_LEVEL) -> None:
        dictionary = zstandard.ZstdCompressionDict(ZSTD_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        dictionary.precompute_compress(level=level)
        self._zstd = zstandard.ZstdCompressor(dict_data=dictionary)

    def smaller(self, plain: bytes) -> tuple[bytes, int]:
        """(payload, flags): compressed only where that is smaller."""
        packed = self._zstd.compress(plain)
        return (packed, FLAG_ZSTD) if len(packed) < len(plain) else (plain, 0)


def key_of(record: Record) -> Key:
    """What makes it the same event again."""
    return record.source, record.boot, record.seq


def pack(records: Sequence[Record], compressor: Compressor | None) -> list[Pack]:
    """As few frames as hold the records, in their order; PackingError before any is made."""
    lines = [record_json(record) for record in records]
    packs: list[Pack] = []
    first = size = 0
    for index, line in enumerate(lines):
        size += RECORD_LENGTH.size + len(line)
        if size > PLAIN_BYTES:
            packs.append(_pack(records[first:index], lines[first:index], compressor))
            first, size = index, RECORD_LENGTH.size + len(line)
    if lines:
        packs.append(_pack(records[first:], lines[first:], compressor))
    return packs


def _pack(records: Sequence[Record], lines: Sequence[bytes], compressor: Compressor | None) -> Pack:
    plain = b"".join([part for line in lines for part in (RECORD_LENGTH.pack(len(line)), line)])
    payload, flags = compressor.smaller(plain) if compressor is not None else (plain, 0)
    seqs: dict[Sender, int] = {}
    for record in records:
        sender = (record.source, record.boot)
        seqs[sender] = max(record.seq, seqs.get(sender, 0))
    return Pack(payload, flags, len(records), seqs)


def record_json(record: Record) -> bytes:
    """At most MAX_RECORD_BYTES; a body that makes it longer is replaced by its beginning and its length."""
    line = _json(record, record.body)
    if len(line) > MAX_RECORD_BYTES:
        body = _ENCODE(dict(record.body))
        excerpt = {"excerpt": body[:EXCERPT_CHARS], "bytes": len(body.encode("utf-8", "replace"))}
        line = _json(record, excerpt)
    if len(line) > MAX_RECORD_BYTES:
        raise PackingError(f"longer than {MAX_RECORD_BYTES} bytes without its body")
    return line


def _json(record: Record, body: object) -> bytes:
    fields = {
        "w": record.wall_ns,
        "b": record.boottime_ns,
        "c": record.clock,
        "s": record.source,
        "o": record.boot,
        "q": record.seq,
        "k": record.kind,
        "d": body,
    }
    try:
        # A lone surrogate (a file name that is not UTF-8) becomes `?`: no reader would take it.
        return _ENCODE(fields).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise PackingError(f"cannot be written as JSON: {type(error).__name__}") from error
