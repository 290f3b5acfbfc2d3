"""A segment's bytes: header, keys, frames, seal (README of agent/logformat, "Segment"). Touches no disk."""

import ctypes
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from agent.logformat.layout import (
    CRC,
    FRAME_HEADER,
    FRAME_MAGIC,
    FRAME_RECORDS,
    FRAME_SEAL,
    HASHED_PREFIX_BYTES,
    HEADER_MAGIC,
    HEADER_PREFIX,
    LABEL_COMMITMENT,
    LABEL_HEADER,
    LABEL_RATCHET,
    LABEL_ROOT,
    LABEL_WRAP,
    MAX_HEADER_BYTES,
    SECRET_BYTES,
    TAG_BYTES,
    VERSION,
)
from agent.logformat.suites import Suite, SuiteError
from agent.recorder.sealed.packing import Pack
from agent.recorder.sealed.parts import Clocks, Point, Sealing, compact

KEY_BYTES: Final = 32
"""Of a ratchet key K_i."""
NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its stream a segment stands. `prev_seal`: 64 hex digits."""

    stream: str
    segno: int
    first_seq: int
    prev_seal: str


class SegmentWriter:
    """One segment's keys, of which there is always only the next. SuiteError: nothing can be sealed here.

    `header`: its bytes; `point`: after the last frame sealed; `wall_ns`, `boottime_ns`: when it was made.
    """

    def __init__(self, sealing: Sealing, place: Place, clocks: Clocks) -> None:
        suite = sealing.suite
        self.suite = suite
        self.place = place
        self.wall_ns, self.boottime_ns = clocks.wall_ns(), clocks.boottime_ns()
        secret = _random_secret()
        try:
            prefix = HEADER_PREFIX.pack(HEADER_MAGIC, VERSION, suite.number, 0, 0, 0)[:HASHED_PREFIX_BYTES]
            fields = compact(self._fields(sealing, clocks, secret))
            fields_hash = suite.hash(LABEL_HEADER, prefix, fields)
            wraps = compact(_wraps(sealing, secret, fields_hash))
            self._key = bytearray(suite.hkdf(secret, fields_hash, LABEL_ROOT, KEY_BYTES))
        finally:
            wipe(secret)
        self.header = _header(prefix, fields, wraps)
        h = suite.hash(fields_hash, suite.hash(wraps))
        self.point = Point(len(self.header), 0, 0, place.first_seq, h)

    def _fields(self, sealing: Sealing, clocks: Clocks, secret: bytearray) -> dict[str, object]:
        return {
            "stream": self.place.stream,
            "robot": sealing.robot,
            "segno": self.place.segno,
            "first_seq": self.place.first_seq,
            "boot_id": clocks.boot_id,
            "wall_ns": self.wall_ns,
            "boottime_ns": self.boottime_ns,
            "prev_seal": self.place.prev_seal,
            "opening": sealing.opening,
            "recipients": [kid for kid, _ in sealing.recipients],
            "commitment": base64url(sealing.suite.hmac(secret, LABEL_COMMITMENT)),
        }

    def seal_frame(self, pack: Pack) -> bytes:
        """The whole frame, to be written at `point.end` as that was before; its key is gone afterwards."""
        at = self.point
        header = FRAME_HEADER.pack(
            FRAME_MAGIC, FRAME_RECORDS, pack.flags, len(pack.payload), pack.count, at.next_seq, at.frames
        )
        pair = self.suite.expand(self._key, LABEL_RATCHET, KEY_BYTES + self.suite.key_bytes)
        view, frame_key = memoryview(pair), bytearray(self.suite.key_bytes)
        try:
            frame_key[:] = view[KEY_BYTES:]
            nonce = at.frames.to_bytes(NONCE_BYTES, "little")
            sealed = header + self.suite.seal(frame_key, nonce, pack.payload, header)
            self._key[:] = view[:KEY_BYTES]  # last: had anything failed, the index would still be this one's
        finally:
            view.release()
            wipe(frame_key)
            wipe(pair)
        self.point = Point(
            at.end + len(sealed) + CRC.size,
            at.frames + 1,
            at.records + pack.count,
            at.next_seq + pack.count,
            self.suite.hash(at.h, sealed),
        )
        return sealed + CRC.pack(crc32(sealed))

    def wipe(self) -> None:
        """Nothing more can be sealed with it."""
        wipe(self._key)


def plain_seal(at: Point, reason: str) -> bytes:
    """The seal frame that ends a segment at this point; it takes no key."""
    told = compact({"frames": at.frames, "records": at.records, "bytes": at.end, "reason": reason})
    header = FRAME_HEADER.pack(FRAME_MAGIC, FRAME_SEAL, 0, len(told), 0, at.next_seq, at.frames)
    sealed = header + told + bytes(TAG_BYTES)
    return sealed + CRC.pack(crc32(sealed))


def seal_hash(suite: Suite, at: Point, seal: bytes) -> str:
    """The chain after the seal, hexadecimal: what the next segment's `prev_seal` says."""
    return suite.hash(at.h, memoryview(seal)[: -CRC.size]).hex()


def wipe(secret: bytearray | bytes) -> None:
    """Overwrites key material, whatever still refers to it.

    Also `bytes`: a primitive that can only return those would leave every past key in freed memory. They
    are overwritten in place, as CPython keeps them at the object's end before one zero; ours are longer
    than one byte, so none is a shared constant.
    """
    if isinstance(secret, bytearray):
        secret[:] = bytes(len(secret))
    else:
        ctypes.memset(id(secret) + bytes.__basicsize__ - 1, 0, len(secret))


def base64url(data: bytes) -> str:
    """Without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _random_secret() -> bytearray:
    """Straight into memory that can be wiped, which os.urandom's result cannot."""
    secret = bytearray(SECRET_BYTES)
    with Path("/dev/urandom").open("rb", buffering=0) as source:
        if source.readinto(secret) != SECRET_BYTES:
            raise SuiteError("no random bytes")
    return secret


def _wraps(sealing: Sealing, secret: bytearray, fields_hash: bytes) -> Mapping[str, str]:
    shares = _shares(secret, len(sealing.recipients)) if sealing.opening == "all" else None
    wraps = {}
    for index, (kid, public) in enumerate(sealing.recipients):
        part = shares[index] if shares else secret
        wrapped = sealing.suite.wrap(public, part, LABEL_WRAP + fields_hash + kid.encode())
        wraps[kid] = base64url(wrapped)
    for share in shares or ():
        wipe(share)
    return wraps


def _shares(secret: bytearray, count: int) -> list[bytearray]:
    """`count` shares whose XOR is the secret; any fewer of them are random bytes."""
    shares = [_random_secret() for _ in range(count - 1)]
    last = secret[:]
    for share in shares:
        for index, byte in enumerate(share):
            last[index] ^= byte
    return [*shares, last]


def _header(prefix: bytes, fields: bytes, wraps: bytes) -> bytes:
    lengths = HEADER_PREFIX.pack(HEADER_MAGIC, VERSION, 0, 0, len(fields), len(wraps))[HASHED_PREFIX_BYTES:]
    header = prefix + lengths + fields + wraps
    if len(header) + CRC.size > MAX_HEADER_BYTES:
        raise SuiteError(f"more recipients than a header of {MAX_HEADER_BYTES} bytes holds")
    return header + CRC.pack(crc32(header))
