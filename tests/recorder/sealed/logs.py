"""What the tests of the sealed log share: recipients, a plain ledger, a disk that misbehaves, records."""

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.logformat.layout import STREAMS
from agent.logformat.suites import Suite, suite_by_number
from agent.recorder.log import LogError, Record
from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.parts import Clocks, Sealing
from tests.recorder.sealed.reading import Segment, read_stream

BOOT = "ab" * 16
OTHER_BOOT = "cd" * 16
KEYS = {"department": bytes([1]) * 32, "authority": bytes([2]) * 32}
"""Recipients' private keys."""


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


RECIPIENTS = tuple((kid, public(private)) for kid, private in KEYS.items())


class Watched:
    """Suite 1, and what it sealed: a key and nonce that come again are an error on the spot."""

    def __init__(self) -> None:
        self.used: set[tuple[bytes, bytes]] = set()

    def __getattr__(self, name: str) -> object:
        return getattr(suite_by_number(1), name)

    def seal(self, key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        once = (bytes(key), bytes(nonce))
        assert once not in self.used
        assert any(key), "not a wiped key"
        self.used.add(once)
        return suite_by_number(1).seal(key, nonce, plaintext, associated)


WATCHED = Watched()
SEALING = Sealing("r1", cast("Suite", WATCHED), RECIPIENTS, segment_bytes=4_096)
"""Small segments, so that faults meet every stage of a rotation."""


class PlainLedger:
    """Lines as the signed ledger writes them, without what makes them believable; fails when told to."""

    def __init__(self, folder: Path, gate: Callable[[str], None] = lambda _: None) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path = folder / "ledger.jsonl"
        self.gate = gate

    def append(self, kind: str, body: Mapping[str, object], /) -> None:
        self.gate(kind)
        line = {"n": 0, "kind": kind, "body": body}
        with self.path.open("ab") as file:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def entries(folder: Path, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
    path = folder / "ledger.jsonl"
    lines = map(json.loads, path.read_bytes().splitlines()) if path.exists() else ()
    return [(line["kind"], line["body"]) for line in lines if not kinds or line["kind"] in kinds]


def check_ledger(folder: Path) -> None:
    """The ledger beside the files: each segment opened and ended once, with the hashes of what is there."""
    told = entries(folder)
    ended = {(body["stream"], body["segno"]): body for kind, body in told if kind == "seg.seal"}
    opened = {(body["stream"], body["segno"]): body for kind, body in told if kind == "seg.open"}
    assert len(ended) == sum(kind == "seg.seal" for kind, _ in told)
    assert len(opened) == sum(kind == "seg.open" for kind, _ in told)
    check_order(told)
    for stream in STREAMS:
        for each in segments(folder, stream, passed_over=True):
            place = (stream, each.fields["segno"])
            if each.frames or place in opened:
                assert opened[place]["header"] == each.header_hash.hex()
                assert opened[place]["first_seq"] == each.fields["first_seq"]
            if place in ended:
                body = ended[place]
                assert each.seal is not None
                assert (body["seal"], body["bytes"]) == (each.seal_hash, each.path.stat().st_size)
                assert (body["frames"], body["next_seq"]) == (len(each.frames), each.next_seq)
                assert (body["records"], body["reason"]) == (len(each.records), each.seal["reason"])


def check_order(told: list[tuple[str, dict[str, Any]]]) -> None:
    """Of each stream one segment after the other: whatever is said of one comes before the next is opened.

    One that was passed over is recovered and sealed later, and goes then no further than it was said to.
    """
    now, recovered = dict.fromkeys(STREAMS, 0), dict[tuple[str, int], tuple[int, int, str]]()
    for kind, body in told:
        place = str(body.get("stream")), int(body.get("segno", 0))
        if kind == "seg.open":
            assert body["segno"] > now[body["stream"]]
            now[body["stream"]] = body["segno"]
        elif kind == "seg.recover":
            reached = body["frames"], body["next_seq"], body["h"]
            if body["segno"] != now[body["stream"]]:
                assert recovered.get(place, reached) == reached
            recovered[place] = reached
        elif kind == "seg.seal" and body["segno"] != now[body["stream"]]:
            assert (body["frames"], body["next_seq"]) == recovered[place][:2]


def check_whole(folder: Path, *, passed_over: bool = False) -> None:
    """A log that was closed in order: everything sealed, and the ledger says so."""
    check_ledger(folder)
    ended = {(body["stream"], body["segno"]) for _, body in entries(folder, "seg.seal")}
    opened = {(body["stream"], body["segno"]) for _, body in entries(folder, "seg.open")}
    recovered = {(body["stream"], body["segno"]) for _, body in entries(folder, "seg.recover")}
    found = {
        (stream, each.fields["segno"])
        for stream in STREAMS
        for each in segments(folder, stream, passed_over=passed_over)
    }
    assert found == opened
    assert opened - ended <= (recovered if passed_over else set())


class Crash(BaseException):
    """The process ends here."""


class FaultyDisk(Disk):
    """Counts the calls that change the disk, and has `fault` decide at each one: it may raise.

    `fault(step, name)`: step from 1, name of the call. A write may be told to do only a part first. A sync is
    counted and not made: what ends here is a process, and the kernel keeps its pages.
    """

    def __init__(self, fault: Callable[[int, str], None] = lambda _step, _name: None) -> None:
        self.fault = fault
        self.step = 0
        self.calls: list[str] = []
        self.part: int | None = None
        """Bytes that a write still does when its fault comes; None: it does none."""
        self.most_at_once: int | None = None

    def gate(self, name: str) -> None:
        self.step += 1
        self.calls.append(name)
        self.fault(self.step, name)

    def create(self, name: str, folder_fd: int) -> int:
        self.gate("create")
        return super().create(name, folder_fd)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        try:
            self.gate("write")
        except BaseException:
            if self.part is not None:
                os.pwrite(fd, data[: self.part], offset)
            raise
        return super().write(fd, data if self.most_at_once is None else data[: self.most_at_once], offset)

    def sync(self, fd: int) -> None:
        self.gate("sync")

    def sync_all(self, fd: int) -> None:
        self.gate("sync_all")

    def reserve(self, fd: int, size: int) -> None:
        self.gate("reserve")
        super().reserve(fd, size)

    def cut(self, fd: int, size: int) -> None:
        self.gate("cut")
        super().cut(fd, size)

    def rename(self, old: str, new: str, folder_fd: int) -> None:
        self.gate("rename")
        super().rename(old, new, folder_fd)

    def remove(self, name: str, folder_fd: int) -> None:
        self.gate("remove")
        super().remove(name, folder_fd)


def at(step: int, error: BaseException) -> Callable[[int, str], None]:
    """A fault at one step, or at every one from there on if it is an OSError."""

    def fault(now: int, _name: str) -> None:
        if now == step:
            raise error

    return fault


def ledger_gate(disk: FaultyDisk, folder: Path) -> Callable[[str], None]:
    """The ledger as one more thing that can fail, in the same count of steps."""

    def gate(kind: str) -> None:
        try:
            disk.gate(kind)
        except OSError as error:
            raise LogError(folder / "ledger.jsonl", "not written", error.errno or 0) from error

    return gate


def open_log(
    folder: Path, disk: FaultyDisk | None = None, sealing: Sealing = SEALING, clocks: Clocks | None = None
) -> SealedLog:
    disk = disk or FaultyDisk()
    return SealedLog(
        folder, sealing, PlainLedger(folder, ledger_gate(disk, folder)), disk=disk, clocks=clocks
    )


def abandon(log: SealedLog) -> None:
    """What kill -9 does to it: descriptors closed, nothing else."""
    for stream in log._streams.values():
        if stream._open is not None and stream._open._fd >= 0:
            os.close(stream._open._fd)
            stream._open._fd = -1
    if hasattr(log, "_marks"):
        log._marks.close()
    log._close_files()


def record(
    seq: int, *, source: str = "reflex", boot: str = BOOT, stream: str = "safety", text: str = ""
) -> Record:
    return Record(source, boot, seq, stream, "e", 1_700_000_000_000_000_000 + seq, seq, {"text": text}, "s")


def records(first: int, last: int, *, source: str = "reflex", stream: str = "safety") -> list[Record]:
    return [record(seq, source=source, stream=stream) for seq in range(first, last + 1)]


def segments(folder: Path, stream: str = "safety", *, passed_over: bool = False) -> list[Segment]:
    return read_stream(folder, stream, KEYS, passed_over=passed_over) if (folder / stream).is_dir() else []


def seqs(folder: Path, stream: str = "safety", source: str = "reflex") -> list[int]:
    """The numbers kept of one sender, in order."""
    found: Iterable[dict[str, Any]] = (item for each in segments(folder, stream) for item in each.records)
    return [item["q"] for item in found if item["s"] == source]


def kept(folder: Path) -> set[tuple[str, str, int]]:
    """(stream, source, seq) of everything in the log, read with the recipients' keys."""
    return {
        (stream, item["s"], item["q"])
        for stream in STREAMS
        for each in segments(folder, stream)
        for item in each.records
    }


ENOSPC, EIO = errno.ENOSPC, errno.EIO
