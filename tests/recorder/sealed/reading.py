"""The format read once more, by a decoder of the tests' own: nothing of the writer or of `agent.audit`.

Offsets and labels are spelled out here (README of agent/logformat): a constant changed by mistake shows.
"""

import base64
import hashlib
import hmac
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from agent.logformat.layout import ZSTD_DICTIONARY
from agent.logformat.suites import suite_by_number

FRAME = struct.Struct("<HBBIIQI")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


@dataclass
class Frame:
    offset: int
    raw: bytes
    type: int
    flags: int
    count: int
    first_seq: int
    index: int
    records: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Segment:
    """A file read to the end of its whole frames; asserts on all that is not as the format says."""

    path: Path
    fields: dict[str, Any]
    header_hash: bytes
    header_bytes: int
    frames: list[Frame]
    seal: dict[str, Any] | None
    h: bytes
    """Before the seal."""
    seal_hash: str
    end: int
    more: bool
    """Whether anything but zeros follows what is whole."""

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for frame in self.frames for record in frame.records]

    @property
    def next_seq(self) -> int:
        last = self.frames[-1] if self.frames else None
        return last.first_seq + last.count if last else int(self.fields["first_seq"])


def read_segment(path: Path, keys: dict[str, bytes], damaged: Mapping[int, int] | None = None) -> Segment:
    """`keys`: kid → private key of a recipient; all that the header names, where it takes all.

    `damaged`: offset → bytes that are skipped, as the ledger says.
    """
    data = path.read_bytes()
    magic, version, number, zero, fields_len, wraps_len = struct.unpack_from("<4sBBHII", data)
    assert (magic, version, number, zero) == (b"WLOG", 1, 1, 0)
    middle = 16 + fields_len
    end = middle + wraps_len
    assert crc32(data[:end]) == int.from_bytes(data[end : end + 4], "little")
    fields = json.loads(data[16:middle])
    fields_hash = sha(b"robot-warden log v1 header", data[:8], data[16:middle])
    header_hash = sha(fields_hash, sha(data[middle:end]))
    secret = unwrapped(fields, json.loads(data[middle:end]), fields_hash, keys)
    assert hmac.digest(secret, b"robot-warden log v1 commitment", "sha256") == unb64(fields["commitment"])
    frames, seal, h, after, stop = read_frames(data, end + 4, header_hash, damaged or {})
    key = HKDF(SHA256(), 32, fields_hash, b"robot-warden log v1 root").derive(secret)
    decrypt(frames, key)
    return Segment(path, fields, header_hash, end + 4, frames, seal, h, after, stop, any(data[stop:]))


def unwrapped(
    fields: dict[str, Any], wraps: dict[str, str], fields_hash: bytes, keys: dict[str, bytes]
) -> bytes:
    assert list(wraps) == fields["recipients"]
    parts = []
    for kid, wrapped in wraps.items():
        if kid in keys:
            info = b"robot-warden log v1 wrap" + fields_hash + kid.encode()
            parts.append(suite_by_number(1).unwrap(keys[kid], unb64(wrapped), info))
    if fields["opening"] == "any":
        assert len(set(parts)) == 1, "every recipient has the same key"
        return parts[0]
    assert len(parts) == len(wraps)
    total = bytes(32)
    for part in parts:
        total = bytes(a ^ b for a, b in zip(total, part, strict=True))
    return total


def read_frames(
    data: bytes, offset: int, h: bytes, damaged: Mapping[int, int]
) -> tuple[list[Frame], dict[str, Any] | None, bytes, str, int]:
    """(frames of records, seal, h before the seal, seal hash, offset after all that is whole)."""
    frames: list[Frame] = []
    offset += damaged.get(offset, 0)
    while (frame := whole_frame(data, offset)) is not None:
        if frame.type == 2:
            told = json.loads(frame.raw[24:-20])
            assert frame.raw[-20:-4] == bytes(16)
            assert told["bytes"] == offset
            assert (frame.count, frame.index, frame.index) == (0, len(frames), told["frames"])
            assert told["records"] == sum(each.count for each in frames)
            return frames, told, h, sha(h, frame.raw[:-4]).hex(), offset + len(frame.raw)
        assert frame.index == len(frames) or damaged
        frames.append(frame)
        h = sha(h, frame.raw[:-4])
        offset += len(frame.raw)
        offset += damaged.get(offset, 0)
    return frames, None, h, "", offset


def whole_frame(data: bytes, offset: int) -> Frame | None:
    if len(data) - offset < 44:
        return None
    magic, kind, flags, ct_len, count, first_seq, index = FRAME.unpack_from(data, offset)
    raw = data[offset : offset + 44 + ct_len]
    if magic != 0x4657 or len(raw) < 44 + ct_len or crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        return None
    return Frame(offset, raw, kind, flags, count, first_seq, index)


def decrypt(frames: list[Frame], key: bytes) -> None:
    for frame in frames:
        pair = HKDFExpand(SHA256(), 64, b"robot-warden log v1 ratchet").derive(key)
        key, frame_key = pair[:32], pair[32:]
        nonce = frame.index.to_bytes(12, "little")
        frame.records = unpacked(AESGCM(frame_key).decrypt(nonce, frame.raw[24:-4], frame.raw[:24]), frame)


def unpacked(plain: bytes, frame: Frame) -> list[dict[str, Any]]:
    if frame.flags & 1:
        dictionary = zstandard.ZstdCompressionDict(ZSTD_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        reader = zstandard.ZstdDecompressor(dict_data=dictionary)
        plain = reader.decompress(plain, max_output_size=4 << 20)
    records = []
    while plain:
        size = int.from_bytes(plain[:2], "little")
        records.append(json.loads(plain[2 : 2 + size]))
        plain = plain[2 + size :]
    assert len(records) == frame.count
    return records


def told(folder: Path, kind: str, stream: str) -> dict[int, dict[str, Any]]:
    """By segno, the last entry of that kind."""
    path = folder / "ledger.jsonl"
    lines = map(json.loads, path.read_bytes().splitlines()) if path.exists() else ()
    bodies = [line["body"] for line in lines if line["kind"] == kind]
    return {body["segno"]: body for body in bodies if body["stream"] == stream}


def prev_seals(folder: Path, stream: str) -> dict[int, str]:
    """By segno, the seal hash that its header names: of the highest number sealed when it was opened."""
    path = folder / "ledger.jsonl"
    lines = map(json.loads, path.read_bytes().splitlines()) if path.exists() else ()
    last, found = (0, "0" * 64), dict[int, str]()
    for kind, body in ((line["kind"], line["body"]) for line in lines):
        if kind == "seg.open" and body["stream"] == stream:
            found[body["segno"]] = last[1]
        elif kind == "seg.seal" and body["stream"] == stream:
            last = max(last, (body["segno"], body["seal"]))
    return found


def read_stream(
    folder: Path, stream: str, keys: dict[str, bytes], *, passed_over: bool = False
) -> list[Segment]:
    """All its segments in order; the numbers of segments and records and the chain of seals asserted.

    `passed_over`: some may not be sealed yet; what is in the next one does not count in them.
    """
    before = prev_seals(folder, stream)
    recovered, sealed = told(folder, "seg.recover", stream), told(folder, "seg.seal", stream)
    segments = []
    for path in sorted((folder / stream).glob("*.seg")):
        damaged = dict(recovered.get(int(path.stem), {"damaged": []})["damaged"])
        segments.append(read_segment(path, keys, damaged))
    next_seq, prev_seal = 1, "0" * 64
    for segment, after in zip(segments, [*segments[1:], None], strict=False):
        segno = segment.fields["segno"]
        assert segment.path.name == f"{segno:010}.seg"
        assert segment.fields["stream"] == stream
        assert segment.fields["prev_seal"] == before.get(segno, prev_seal)
        assert segment.fields["first_seq"] == next_seq
        if passed_over and after is not None and segno not in sealed:
            assert segno in recovered
            segment.frames = [each for each in segment.frames if each.first_seq < after.fields["first_seq"]]
        else:
            assert not segment.more
            assert after is None or segment.seal is not None
            prev_seal = segment.seal_hash
        for frame in segment.frames:
            assert frame.first_seq == next_seq
            next_seq += frame.count
    return segments
