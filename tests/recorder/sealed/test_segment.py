"""A segment's bytes against values made by hand from the format (README of agent/logformat)."""

import hashlib
import struct
from dataclasses import replace
from typing import cast
from zlib import crc32

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.logformat.suites import Suite, SuiteError, suite_by_number
from agent.recorder.sealed import segment
from agent.recorder.sealed.packing import Pack
from agent.recorder.sealed.parts import Clocks, Point
from agent.recorder.sealed.segment import Place, SegmentWriter, plain_seal, seal_hash, wipe
from tests.recorder.sealed.logs import RECIPIENTS, SEALING, Watched

CLOCKS = Clocks(lambda: 1_700_000_000_000_000_001, lambda: 2, "0f" * 16)
PLACE = Place("safety", 7, 41, "5a" * 32)
PLAIN = b"\x02\x00{}"


def pack(payload: bytes = PLAIN, count: int = 1) -> Pack:
    return Pack(payload, 0, count, {})


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> SegmentWriter:
    """One whose secret is 32 times 0x11."""
    # The commitment below: openssl dgst -sha256 -mac HMAC -macopt hexkey:1111… of its label.
    monkeypatch.setattr(segment, "_random_secret", lambda: bytearray(b"\x11" * 32))
    return SegmentWriter(replace(SEALING, suite=cast("Suite", Watched())), PLACE, CLOCKS)


FIELDS = (
    b'{"stream":"safety","robot":"r1","segno":7,"first_seq":41,"boot_id":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",'
    b'"wall_ns":1700000000000000001,"boottime_ns":2,'
    b'"prev_seal":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","opening":"any",'
    b'"recipients":["department","authority"],"commitment":"AvZavRSibAKJbYjs5zj3c07OHtaL1Nm2L1HgLKkaO04"}'
)


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """RFC 2104 written out."""
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + data).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


def test_header(writer: SegmentWriter) -> None:
    header = writer.header
    fields_len, wraps_len = struct.unpack_from("<II", header, 8)
    assert header[:8] == b"WLOG\x01\x01\x00\x00"
    assert header[16 : 16 + fields_len] == FIELDS
    assert len(header) == 16 + fields_len + wraps_len + 4
    assert header[-4:] == crc32(header[:-4]).to_bytes(4, "little")
    fields_hash = hashlib.sha256(b"robot-warden log v1 header" + header[:8] + FIELDS).digest()
    wraps_hash = hashlib.sha256(header[16 + fields_len : -4]).digest()
    assert writer.point == Point(len(header), 0, 0, 41, hashlib.sha256(fields_hash + wraps_hash).digest())


def test_two_frames(writer: SegmentWriter) -> None:
    h, start = writer.point.h, writer.point.end
    first, second = writer.seal_frame(pack()), writer.seal_frame(pack(PLAIN * 3, 3))
    fields_hash = hashlib.sha256(b"robot-warden log v1 header" + b"WLOG\x01\x01\x00\x00" + FIELDS).digest()
    # HKDF and HKDF-Expand (RFC 5869) by hand: a 32 byte output is one block, 64 bytes are two.
    key = hmac_sha256(hmac_sha256(fields_hash, b"\x11" * 32), b"robot-warden log v1 root\x01")
    for index, (frame, plain, count, seq) in enumerate([(first, PLAIN, 1, 41), (second, PLAIN * 3, 3, 42)]):
        next_key = hmac_sha256(key, b"robot-warden log v1 ratchet\x01")
        frame_key = hmac_sha256(key, next_key + b"robot-warden log v1 ratchet\x02")
        key = next_key
        header = struct.pack("<HBBIIQI", 0x4657, 1, 0, len(plain), count, seq, index)
        sealed = AESGCM(frame_key).encrypt(index.to_bytes(12, "little"), plain, header)
        assert frame == header + sealed + crc32(header + sealed).to_bytes(4, "little")
        h = hashlib.sha256(h + header + sealed).digest()
    assert writer.point == Point(start + len(first) + len(second), 2, 4, 45, h)


def test_golden_frame(writer: SegmentWriter) -> None:
    """Where the hands above err in the same way as the writer, this still holds what is on disks."""
    frame = writer.seal_frame(pack()).hex()
    assert frame == (
        "5746010004000000010000002900000000000000000000008e549f26d35e91538ee6720d817756af37aad2e1849d7f7e"
    )


def test_seal() -> None:
    at = Point(1_000, 2, 4, 45, b"\x22" * 32)
    told = b'{"frames":2,"records":4,"bytes":1000,"reason":"size"}'
    sealed = struct.pack("<HBBIIQI", 0x4657, 2, 0, len(told), 0, 45, 2) + told + bytes(16)
    assert plain_seal(at, "size") == sealed + crc32(sealed).to_bytes(4, "little")
    assert seal_hash(suite_by_number(1), at, plain_seal(at, "size")) == (
        hashlib.sha256(b"\x22" * 32 + sealed).hexdigest()
    )


def test_a_failure_while_sealing_leaves_the_next_frame_right(
    writer: SegmentWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __getattr__(self, name: str) -> object:
            return getattr(suite_by_number(1), name)

        def seal(self, *_: object) -> bytes:
            raise SuiteError("not now")

    whole = writer.suite
    monkeypatch.setattr(writer, "suite", Failing())
    before = writer.point
    with pytest.raises(SuiteError):
        writer.seal_frame(pack())
    assert writer.point == before
    monkeypatch.setattr(writer, "suite", whole)
    assert writer.seal_frame(pack())[20:24] == bytes(4)


def test_all_recipients_together(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: list[bytes] = []
    kids = (*RECIPIENTS, ("third", RECIPIENTS[0][1]))

    class Listening:
        number, key_bytes = 1, 32

        def __getattr__(self, name: str) -> object:
            return getattr(suite_by_number(1), name)

        def wrap(self, _public: bytes, secret: bytearray, _info: bytes) -> bytes:
            wrapped.append(bytes(secret))
            return b"w"

    sealing = replace(SEALING, recipients=kids, opening="all", suite=cast("Suite", Listening()))
    writer = SegmentWriter(sealing, PLACE, CLOCKS)
    total = bytes(a ^ b ^ c for a, b, c in zip(*wrapped, strict=True))
    assert len({*wrapped, total}) == 4
    commitment = hmac_sha256(total, b"robot-warden log v1 commitment")
    assert segment.base64url(commitment).encode() in writer.header


def test_more_recipients_than_a_header_holds() -> None:
    kids = tuple((f"{number:0200}", RECIPIENTS[0][1]) for number in range(150))
    with pytest.raises(SuiteError, match="more recipients"):
        SegmentWriter(replace(SEALING, recipients=kids), PLACE, CLOCKS)


def test_a_bad_recipient() -> None:
    with pytest.raises(SuiteError):
        SegmentWriter(replace(SEALING, recipients=(("k", bytes(32)),)), PLACE, CLOCKS)


def test_no_secret_outlives_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `expand` returned, the frame's key and the secret are zeros as soon as the frame is sealed."""
    seen: list[bytes | bytearray] = []

    class Listening:
        number, key_bytes = 1, 32

        def __getattr__(self, name: str) -> object:
            return getattr(suite_by_number(1), name)

        def expand(self, key: bytearray, info: bytes, length: int) -> bytes:
            seen.append(suite_by_number(1).expand(key, info, length))
            return seen[-1]  # type: ignore[return-value]

        def seal(self, key: bytearray, *rest: bytes) -> bytes:
            seen.append(key)
            return suite_by_number(1).seal(key, *rest)

        def hkdf(self, ikm: bytearray, *rest: object) -> bytes:
            seen.append(ikm)
            return suite_by_number(1).hkdf(ikm, *rest)  # type: ignore[arg-type]

    writer = SegmentWriter(replace(SEALING, suite=cast("Suite", Listening())), PLACE, CLOCKS)
    writer.seal_frame(pack())
    key = writer._key
    assert any(key)
    writer.wipe()
    assert [len(secret) for secret in seen] == [32, 64, 32]
    assert not any(any(secret) for secret in (*seen, key))


def test_wipe_of_bytes() -> None:
    secret = bytes(range(1, 33))
    copy = bytes(bytearray(secret))
    wipe(secret)
    assert secret == bytes(32)
    assert copy == bytes(range(1, 33))
