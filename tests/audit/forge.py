"""A tiny writer of sealed logs, from agent/logformat/README.md alone: valid ones, to be damaged.

It is as direct as the text, and knows nothing of the product's writer or reader.
"""

import base64
import hashlib
import json
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.logformat import layout
from agent.logformat.suites import Suite, suite_by_number
from agent.tokens import raw_public_key, sign

ROBOT = "rw-0001"
BOOT = "0123456789abcdef0123456789abcdef"
WALL = 1_800_000_000_000_000_000
ZEROS = "0" * 64
DEPARTMENT, WITNESS = "root-1", "wit-1"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def text(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def key(name: str) -> Ed25519PrivateKey:
    """The same for the same name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def public(name: str) -> bytes:
    return raw_public_key(key(name))


def record(q: int, *, source: str = "reflex", kind: str = "stop", **body: object) -> dict[str, Any]:
    return {
        "w": WALL + q * 1_000_000,
        "b": q * 1_000_000,
        "c": "s",
        "s": source,
        "o": BOOT,
        "q": q,
        "k": kind,
        "d": {"cause": "estop_pressed", **body},
    }


def plaintext(records: list[dict[str, Any]]) -> bytes:
    return b"".join(struct.pack("<H", len(text(row))) + text(row) for row in records)


def compress(plain: bytes, *, level: int = 3) -> bytes:
    raw = zstandard.ZstdCompressionDict(layout.ZSTD_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(level=level, dict_data=raw).compress(plain)


def frame(kind: int, flags: int, body: bytes, count: int, first_seq: int, index: int) -> bytes:
    """`body`: ciphertext ‖ tag."""
    head = struct.pack("<HBBIIQI", 0x4657, kind, flags, len(body) - 16, count, first_seq, index)
    return head + body + struct.pack("<I", zlib.crc32(head + body))


@dataclass
class Recipient:
    kid: str
    private: bytes
    public: bytes


def recipient(kid: str, suite: int = 1) -> Recipient:
    if suite == 1:
        own = X25519PrivateKey.generate()
        return Recipient(kid, own.private_bytes_raw(), own.public_key().public_bytes_raw())
    return Recipient(kid, *suite_by_number(suite).new_signing_key())


@dataclass
class Segment:
    """One that is being written. `data`: all of the file so far."""

    stream: str
    segno: int
    suite: Suite
    data: bytes
    header_hash: bytes
    fields_hash: bytes
    fields: bytes
    wraps_hash: bytes
    h: bytes
    k: bytes
    first_seq: int
    next_seq: int
    frames: int = 0
    records: int = 0
    seal_frame: bytes = b""
    h_before_seal: bytes = b""
    offsets: list[int] = field(default_factory=list)

    def sealed_frame(self, plain: bytes, flags: int, count: int) -> bytes:
        """The next frame, and the ratchet one step on."""
        out = self.suite.expand(self.k, b"robot-warden log v1 ratchet", 32 + self.suite.key_bytes)
        self.k, e = out[:32], out[32:]
        head = struct.pack("<HBBIIQI", 0x4657, 1, flags, len(plain), count, self.next_seq, self.frames)
        body = self.suite.seal(e, self.frames.to_bytes(12, "little"), plain, head)
        return frame(1, flags, body, count, self.next_seq, self.frames)

    def add(self, records: list[dict[str, Any]], *, zstd: bool = True) -> None:
        plain = plaintext(records)
        self.put(self.sealed_frame(compress(plain) if zstd else plain, int(zstd), len(records)), len(records))

    def put(self, whole: bytes, count: int) -> None:
        self.offsets.append(len(self.data))
        self.data += whole
        self.h = self.suite.hash(self.h, whole[:-4])
        self.frames += 1
        self.records += count
        self.next_seq += count

    def seal(self, reason: str = "size", **changed: object) -> None:
        told = {"frames": self.frames, "records": self.records, "bytes": len(self.data), "reason": reason}
        body = text({**told, **changed}) + bytes(16)
        self.seal_frame = frame(2, 0, body, 0, self.next_seq, self.frames)
        self.h_before_seal = self.h
        self.h = self.suite.hash(self.h, self.seal_frame[:-4])
        self.data += self.seal_frame


class Forge:
    """One robot's log in `folder`. `lines`: of the ledger at hand, without newlines."""

    def __init__(self, folder: Path, *, robot: str = ROBOT, suite: int = 1, opening: str = "any") -> None:
        self.folder = folder
        self.robot = robot
        self.number = suite
        self.opening = opening
        self.recipients = [recipient("dep", suite), recipient("aut", suite)]
        self.lines: list[bytes] = []
        self.first = b""
        self.now: dict[str, Segment] = {}
        self.prev_seal = dict.fromkeys(layout.STREAMS, ZEROS)
        self.next_seq = dict.fromkeys(layout.STREAMS, 1)
        self.segno = dict.fromkeys(layout.STREAMS, 0)
        self.done: dict[tuple[str, int], Segment] = {}
        self._key, self._pk = self.suite.new_signing_key()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def suite(self) -> Suite:
        return suite_by_number(self.number)

    # ---- ledger

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.jsonl"

    def line(self, kind: str, body: dict[str, Any], **changed: object) -> bytes:
        """The next line; the key moves on, and the suite where the body changes it."""
        old, private = self.suite, self._key
        prev = old.hash(self.lines[-1]).hex() if self.lines else ZEROS
        if kind == "config" and body["suite"] in (1, 2):
            self.number = body["suite"]
        self._key, next_pk = self.suite.new_signing_key()
        entry = {
            "v": 1,
            "robot": self.robot,
            "n": len(self.lines),
            "prev_hash": prev,
            "boot_id": BOOT,
            "wall": WALL + len(self.lines),
            "boottime": len(self.lines),
            "kind": kind,
            "body": body,
            "next_pk": b64(next_pk),
            **changed,
        }
        signed = text(entry)[:-1]
        return (
            signed
            + b',"sig":"'
            + b64(old.sign(private, b"robot-warden ledger v1\0" + signed)).encode()
            + b'"}'
        )

    def entry(self, kind: str, body: dict[str, Any], **changed: object) -> None:
        line = self.line(kind, body, **changed)
        self.lines.append(line)
        with self.ledger.open("ab") as file:
            file.write(line + b"\n")

    def genesis(self, previous: dict[str, Any] | None = None, *, boot: bool = True) -> bytes:
        about = {"suite": self.number, "pk": b64(self._pk), "recipients": [r.kid for r in self.recipients]}
        agent = {"version": "1.0", "digest": "ab" * 32}
        self.entry("genesis", {**about, "opening": self.opening, "agent": agent, "previous": previous})
        state = "file"
        if boot:
            self.entry("boot", {"plan": "cd" * 32, "agent": agent, "state": state})
        self.first = self.first or self.lines[0]
        return self.lines[0]

    def break_off(self, k: int = 1, reason: str = "state lost") -> None:
        """The state is lost: this ledger is set aside, a new one begins."""
        end = {"n": len(self.lines) - 1, "hash": self.suite.hash(self.lines[-1]).hex(), "reason": reason}
        self.ledger.rename(self.folder / f"ledger-{k}.jsonl")
        self.lines = []
        self._key, self._pk = self.suite.new_signing_key()
        self.genesis(end)

    def checkpoint(self) -> None:
        streams = {
            name: {"segno": s.segno, "frames": s.frames, "next_seq": s.next_seq, "h": s.h.hex()}
            for name, s in self.now.items()
        }
        self.entry("checkpoint", {"streams": streams})

    def config(self, suite: int) -> None:
        kids = [r.kid for r in self.recipients]
        self.entry("config", {"recipients": kids, "opening": self.opening, "plan": "cd" * 32, "suite": suite})
        self.recipients = [recipient(r.kid, suite) for r in self.recipients]

    # ---- segments

    def path(self, stream: str, segno: int, ending: str = "seg") -> Path:
        return self.folder / stream / f"{segno:010}.{ending}"

    def open(self, stream: str, /, *, told: bool = True, **changed: object) -> Segment:
        self.segno[stream] += 1
        segment = self._header(stream, self.segno[stream], changed)
        self.now[stream] = segment
        self.save(segment)
        if told:
            self.tell_open(segment)
        return segment

    def tell_open(self, segment: Segment) -> None:
        body = {"stream": segment.stream, "segno": segment.segno, "first_seq": segment.first_seq}
        self.entry("seg.open", {**body, "header": segment.header_hash.hex()})

    def _header(self, stream: str, segno: int, changed: dict[str, object]) -> Segment:
        suite, first_seq = self.suite, self.next_seq[stream]
        secret = os.urandom(32)
        fields = text(
            {
                "stream": stream,
                "robot": self.robot,
                "segno": segno,
                "first_seq": first_seq,
                "boot_id": BOOT,
                "wall_ns": WALL,
                "boottime_ns": 0,
                "prev_seal": self.prev_seal[stream],
                "opening": self.opening,
                "recipients": [r.kid for r in self.recipients],
                "commitment": b64(suite.hmac(secret, b"robot-warden log v1 commitment")),
                **changed,
            }
        )
        prefix = b"WLOG" + struct.pack("<BBH", 1, self.number, 0)
        fields_hash = suite.hash(b"robot-warden log v1 header", prefix, fields)
        wraps = text(
            {
                r.kid: b64(
                    suite.wrap(r.public, part, b"robot-warden log v1 wrap" + fields_hash + r.kid.encode())
                )
                for r, part in zip(self.recipients, self.shares(secret), strict=True)
            }
        )
        data = prefix + struct.pack("<II", len(fields), len(wraps)) + fields + wraps
        data += struct.pack("<I", zlib.crc32(data))
        wraps_hash = suite.hash(wraps)
        header_hash = suite.hash(fields_hash, wraps_hash)
        root = suite.hkdf(secret, fields_hash, b"robot-warden log v1 root", 32)
        return Segment(
            stream=stream,
            segno=segno,
            suite=suite,
            data=data,
            header_hash=header_hash,
            fields_hash=fields_hash,
            fields=fields,
            wraps_hash=wraps_hash,
            h=header_hash,
            k=root,
            first_seq=first_seq,
            next_seq=first_seq,
        )

    def shares(self, secret: bytes) -> list[bytes]:
        """What each recipient gets: SK, or a share of it."""
        if self.opening == "any":
            return [secret] * len(self.recipients)
        shares = [os.urandom(32) for _ in self.recipients[1:]]
        last = secret
        for share in shares:
            last = bytes(a ^ b for a, b in zip(last, share, strict=True))
        return [*shares, last]

    def save(self, segment: Segment) -> None:
        path = self.path(segment.stream, segment.segno)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(segment.data)

    def seal(self, segment: Segment, reason: str = "size", *, told: bool = True, **changed: object) -> None:
        segment.seal(reason)
        self.save(segment)
        self.done[segment.stream, segment.segno] = segment
        self.prev_seal[segment.stream], self.next_seq[segment.stream] = segment.h.hex(), segment.next_seq
        self.now.pop(segment.stream)
        if told:
            self.entry("seg.seal", {**self.sealed(segment, reason), **changed})

    def sealed(self, segment: Segment, reason: str) -> dict[str, Any]:
        return {
            "stream": segment.stream,
            "segno": segment.segno,
            "frames": segment.frames,
            "records": segment.records,
            "next_seq": segment.next_seq,
            "bytes": len(segment.data),
            "seal": segment.h.hex(),
            "reason": reason,
        }

    def recover(
        self, segment: Segment, torn: bytes = b"", damaged: tuple[tuple[int, int], ...] = (), k: int = 1
    ) -> None:
        """After a crash: the torn bytes beside, the entry, the seal."""
        kept = f"{segment.segno:010}.seg.torn-{k}" if torn else ""
        if torn:
            (self.folder / segment.stream / kept).write_bytes(torn)
        self.entry(
            "seg.recover",
            {
                "stream": segment.stream,
                "segno": segment.segno,
                "frames": segment.frames,
                "next_seq": segment.next_seq,
                "h": segment.h.hex(),
                "torn_bytes": len(torn),
                "kept_as": kept,
                "damaged": [list(row) for row in damaged],
            },
        )

    def fill(self, stream: str, frames: int = 2, records: int = 2, reason: str = "size") -> Segment:
        """A sealed segment with a checkpoint in its middle."""
        segment = self.open(stream)
        for number in range(frames):
            first = segment.next_seq
            segment.add([record(first + i, source=stream) for i in range(records)])
            if number == 0:
                self.save(segment)
                self.checkpoint()
        self.seal(segment, reason)
        return segment

    # ---- deletion, witness

    def order(
        self, *segments: Segment, signer: str = DEPARTMENT, kid: str = DEPARTMENT, **changed: object
    ) -> str:
        claims = {
            "iss": kid,
            "aud": self.robot,
            "iat": 1_800_000_000,
            "jti": "j-1",
            "order": "delete",
            "segments": [self.named(s) for s in segments],
            "reason": "past its time",
            **changed,
        }
        return sign(claims, key=key(signer), kid=kid, typ="warden-order+jwt")

    @staticmethod
    def named(segment: Segment) -> dict[str, Any]:
        return {"stream": segment.stream, "segno": segment.segno, "seal": segment.h.hex()}

    def delete(self, *segments: Segment, order: str = "") -> None:
        rows = [self.named(s) for s in segments]
        self.entry("delete", {"order": order or self.order(*segments), "segments": rows})
        for segment in segments:
            self.path(segment.stream, segment.segno, "gone").write_bytes(text(self.gone(segment)))
            self.path(segment.stream, segment.segno).unlink()

    @staticmethod
    def gone(segment: Segment) -> dict[str, Any]:
        return {
            "prefix": b64(segment.data[:8]),
            "fields": segment.fields.decode(),
            "wraps_hash": segment.wraps_hash.hex(),
            "seal": b64(segment.seal_frame),
            "h": segment.h_before_seal.hex(),
            "bytes": len(segment.data),
        }

    def ack(self, n: int, /, *, signer: str = WITNESS, **changed: object) -> None:
        told = {"n": n, "hash": self.suite.hash(self.lines[n]).hex(), "witness_time": 1_800_000_001}
        claims = {"iss": WITNESS, "aud": self.robot, "iat": 1_800_000_001, **told, **changed}
        token = sign(claims, key=key(signer), kid=WITNESS, typ="warden-witness+jwt")
        self.entry("witness.ack", {"kid": WITNESS, **told, "token": token})


def simple(folder: Path, *, robot: str = ROBOT, suite: int = 1, opening: str = "any") -> Forge:
    """A clean log: two sealed segments of safety, one of tele."""
    forge = Forge(folder, robot=robot, suite=suite, opening=opening)
    forge.genesis()
    forge.fill("safety")
    forge.fill("tele", frames=1)
    forge.fill("safety", frames=1)
    forge.checkpoint()
    return forge
