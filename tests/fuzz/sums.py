"""Sums made right over any bytes: a CRC-32 keeps a fuzzer out of all that is read behind it.

Bytes that do not begin with 1 are left as they are.
"""

from zlib import crc32

from agent.logformat.layout import (
    CRC,
    FRAME_HEADER,
    FRAME_MAGIC,
    HEADER_MAGIC,
    HEADER_PREFIX,
    TAG_BYTES,
    VERSION,
)

_MAGIC = FRAME_MAGIC.to_bytes(2, "little")


def summed(data: bytes) -> bytes:
    """With its CRC-32 behind it."""
    return data + CRC.pack(crc32(data))


def header(data: bytes) -> bytes:
    """A segment's header; `data` is the suite, then fields and wraps with a zero byte between them."""
    if data[:1] != b"\1":
        return data
    fields, _, wraps = data[2:].partition(b"\0")
    suite = data[1] if len(data) > 1 else 1
    return summed(
        HEADER_PREFIX.pack(HEADER_MAGIC, VERSION, suite, 0, len(fields), len(wraps)) + fields + wraps
    )


def frames(data: bytes) -> bytes:
    """Frames one after the other; wherever the magic stands in `data`, one begins."""
    if data[:1] != b"\1":
        return data
    before, *rest = data[1:].split(_MAGIC)
    return before + b"".join(_frame(_MAGIC + piece) for piece in rest)


def _frame(data: bytes) -> bytes:
    size = FRAME_HEADER.size
    if len(data) < size + TAG_BYTES:
        return data
    magic, kind, flags, _, count, first_seq, index = FRAME_HEADER.unpack_from(data)
    head = FRAME_HEADER.pack(magic, kind, flags, len(data) - size - TAG_BYTES, count, first_seq, index)
    return summed(head + data[size:])


def as_fields(whole: bytes) -> bytes:
    """What `header` makes that header of."""
    _, _, suite, _, fields_len, _ = HEADER_PREFIX.unpack_from(whole)
    middle = HEADER_PREFIX.size + fields_len
    return b"\1" + bytes([suite]) + whole[HEADER_PREFIX.size : middle] + b"\0" + whole[middle : -CRC.size]


def as_frames(*whole: bytes) -> bytes:
    """What `frames` makes those frames of."""
    return b"\1" + b"".join(one[: -CRC.size] for one in whole)
