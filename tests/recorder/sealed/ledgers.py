"""What the tests of the ledger share: opening one, a disk whose power fails, and a checker of their own."""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.logformat.suites import suite_by_number
from agent.recorder.log import LogError
from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.folder import open_folder
from agent.recorder.sealed.keys import load_state_key
from agent.recorder.sealed.ledger import Birth, Entry, Ledger, Reserve
from agent.recorder.sealed.parts import Clocks

BOOT = "ab" * 16
BIRTH = Birth("r1", 1, ("department",), "any", {"version": "1", "digest": "d"})
START_NS = 1_800_000_000_000_000_000
LEDGER = "ledger.jsonl"


class Crash(BaseException):
    """The process, or the machine, ends here."""


class Clock:
    """Wall time and boottime that a test sets; each reading is a millisecond later than the one before."""

    def __init__(self, wall_ns: int = START_NS) -> None:
        self.now_ns = wall_ns

    def wall_ns(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    @property
    def clocks(self) -> Clocks:
        return Clocks(self.wall_ns, lambda: 1, BOOT)


class QuickDisk(Disk):
    """Syncs nothing: for tests in which only processes end. Counts, and lets `fault(step, name)` raise."""

    def __init__(self, fault: Callable[[int, str], None] = lambda _step, _name: None) -> None:
        self.fault = fault
        self.step = 0
        self.part: int | None = None
        """Bytes that a write still does when its fault comes."""
        self.lines: set[bytes] = set()
        """Every whole entry that was ever handed to the disk."""

    def gate(self, name: str) -> None:
        self.step += 1
        self.fault(self.step, name)

    def create(self, name: str, folder_fd: int) -> int:
        self.gate("create")
        return super().create(name, folder_fd)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        if b',"sig":"' in bytes(data):
            self.lines.add(bytes(data).rstrip(b"\n"))
        try:
            self.gate("write")
        except BaseException:
            if self.part is not None:
                super().write(fd, data[: self.part], offset)
            raise
        return super().write(fd, data, offset)

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


class PowerDisk(QuickDisk):
    """Remembers how to undo whatever was not synced, as a power cut may.

    `cut_power("none")`: nothing of it had reached the disk; "all": everything; "half": names, and of each
    write half.
    """

    def __init__(self, fault: Callable[[int, str], None] = lambda _step, _name: None) -> None:
        super().__init__(fault)
        self._undo: list[tuple[int, Callable[[str], None], int]] = []
        """(file or folder, what to do, a descriptor of ours to do it by or -1)."""
        self._opened: list[tuple[int, int]] = []

    def create(self, name: str, folder_fd: int) -> int:
        fd = self._remember(super().create(name, folder_fd))
        path = _path(folder_fd) / name

        def undo(how: str) -> None:
            if how == "none":
                path.unlink(missing_ok=True)

        self._note(folder_fd, undo)
        return fd

    def open(self, name: str, folder_fd: int) -> int:
        return self._remember(super().open(name, folder_fd))

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        size, new = os.fstat(fd).st_size, len(data)
        old = os.pread(fd, new, offset)
        own = os.dup(fd)

        def undo(how: str) -> None:
            keep = {"none": 0, "half": new // 2, "all": new}[how]
            os.pwrite(own, old[keep:], offset + keep)
            if how != "all":
                os.ftruncate(own, max(size, offset + keep if keep else 0))

        self._note(fd, undo, own)
        return super().write(fd, data, offset)

    def cut(self, fd: int, size: int) -> None:
        old, own = os.pread(fd, 1 << 20, size), os.dup(fd)

        def undo(how: str) -> None:
            if how != "all":
                os.pwrite(own, old, size)

        self._note(fd, undo, own)
        super().cut(fd, size)

    def rename(self, old: str, new: str, folder_fd: int) -> None:
        super().rename(old, new, folder_fd)
        folder = _path(folder_fd)

        def undo(how: str) -> None:
            if how == "none":
                (folder / new).rename(folder / old)

        self._note(folder_fd, undo)

    def remove(self, name: str, folder_fd: int) -> None:
        folder = _path(folder_fd)
        spare = folder.parents[1] / f"{len(self._undo)}-{name}"  # outside of the log
        if (folder / name).exists():
            spare.unlink(missing_ok=True)
            os.link(folder / name, spare)
        super().remove(name, folder_fd)

        def undo(how: str) -> None:
            if how == "none":
                spare.rename(folder / name)

        self._note(folder_fd, undo)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self._forget(fd)

    def sync_all(self, fd: int) -> None:
        super().sync_all(fd)
        self._forget(fd)

    def cut_power(self, how: str) -> None:
        for _, undo, own in reversed(self._undo):
            undo(how)
            if own >= 0:
                os.close(own)
        self._undo = []
        for fd, node in self._opened:
            with suppress(OSError):
                if os.fstat(fd).st_ino == node:
                    os.close(fd)

    def _remember(self, fd: int) -> int:
        self._opened.append((fd, os.fstat(fd).st_ino))
        return fd

    def _note(self, fd: int, undo: Callable[[str], None], own: int = -1) -> None:
        self._undo.append((os.fstat(fd).st_ino, undo, own))

    def _forget(self, fd: int) -> None:
        node = os.fstat(fd).st_ino
        for _, _, own in (row for row in self._undo if row[0] == node and row[2] >= 0):
            os.close(own)
        self._undo = [row for row in self._undo if row[0] != node]


def _path(folder_fd: int) -> Path:
    return Path(f"/proc/self/fd/{folder_fd}").readlink()


@contextmanager
def opened(
    folder: Path,
    *,
    disk: Disk | None = None,
    clock: Clock | None = None,
    birth: Birth = BIRTH,
    environ: Mapping[str, str] | None = None,
    on_entry: Callable[[Entry], None] | None = None,
    reserve: Reserve = lambda _fd, _start, _size: None,
) -> Iterator[Ledger]:
    """A ledger, closed afterwards unless it crashed."""
    folder_fd = open_folder(folder)
    disk = disk or QuickDisk()
    try:
        ledger = Ledger(
            folder,
            folder_fd,
            birth=birth,
            key=load_state_key(folder_fd, folder, environ=environ or {}, disk=disk),
            clocks=(clock or Clock()).clocks,
            disk=disk,
            reserve=reserve,
            on_entry=on_entry,
        )
        yield ledger
        ledger.close()
    finally:
        os.close(folder_fd)


def retried(act: Callable[[], Entry]) -> Entry:
    """The same again until the disk takes it."""
    for _ in range(100):
        with suppress(LogError):
            return act()
    raise AssertionError("never went through")


def lines_of(path: Path) -> list[bytes]:
    *lines, rest = path.read_bytes().split(b"\n")
    assert rest == b""
    return lines


def verified(path: Path) -> list[dict[str, Any]]:
    """The entries of a whole ledger, every link of the chain checked. Shares nothing with the writer."""
    previous, key, suite, found = "0" * 64, b"", 1, []
    for n, line in enumerate(lines_of(path)):
        entry = json.loads(line)
        assert list(entry) == "v robot n prev_hash boot_id wall boottime kind body next_pk sig".split()
        assert (entry["v"], entry["robot"], entry["n"], entry["prev_hash"]) == (1, "r1", n, previous)
        assert (entry["kind"] == "genesis") == (n == 0)
        if n == 0:
            suite, key = entry["body"]["suite"], unpacked(entry["body"]["pk"])
        signed = b"robot-warden ledger v1\0" + line[: line.rindex(b',"sig":')]
        _verify(suite, key, signed, unpacked(entry["sig"]))
        suite = entry["body"]["suite"] if entry["kind"] == "config" else suite
        previous, key = _digest(suite, line), unpacked(entry["next_pk"])
        found.append(entry)
    return found


def unpacked(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _digest(suite: int, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if suite == 1 else suite_by_number(2).hash(data).hex()


def _verify(suite: int, key: bytes, message: bytes, signature: bytes) -> None:
    if suite == 1:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    else:
        assert suite_by_number(2).verify(key, message, signature)
