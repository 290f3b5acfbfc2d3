"""A disk that loses power: what was not synced is there in parts, or not at all."""

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.recorder.sealed.folder import exists
from tests.recorder.sealed.logs import FaultyDisk

SECTOR = 64
"""Bytes that reach the disk together; small, so that frames are torn inside."""

Undo = Callable[[random.Random], None]


@dataclass
class _Unsynced:
    fd: int
    """Our own, of the same file."""
    undo: list[Undo] = field(default_factory=list)


class PowerDisk(FaultyDisk):
    """Faults as its parent; `lose_power` undoes any part of what no sync has confirmed."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = random.Random(1)
        self._files: dict[int, _Unsynced] = {}
        """By inode; a folder's are the names in it."""

    def _file(self, fd: int) -> _Unsynced:
        inode = os.fstat(fd).st_ino
        if inode not in self._files:
            # Opened anew: a duplicate would keep the folder's lock after its owner is gone.
            mode = os.O_RDONLY if stat.S_ISDIR(os.fstat(fd).st_mode) else os.O_RDWR
            self._files[inode] = _Unsynced(os.open(f"/proc/self/fd/{fd}", mode))
        return self._files[inode]

    def forget(self) -> None:
        for file in self._files.values():
            os.close(file.fd)
        self._files.clear()

    def lose_power(self, rng: random.Random) -> None:
        for file in self._files.values():
            for undo in reversed(file.undo):
                undo(rng)
        self.forget()

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        size = os.fstat(fd).st_size
        before = os.pread(fd, len(data), offset)
        file = self._file(fd)

        def undo(rng: random.Random) -> None:
            keeps = rng.choice([0.0, 0.5, 1.0])
            for at in range(0, len(data), SECTOR):
                if rng.random() >= keeps:
                    old = before[at : at + SECTOR].ljust(min(SECTOR, len(data) - at), b"\0")
                    os.pwrite(file.fd, old, offset + at)
            if offset + len(data) > size and rng.random() < 0.3:
                os.ftruncate(file.fd, max(size, rng.randrange(size, offset + len(data) + 1)))

        file.undo.append(undo)
        return super().write(fd, data, offset)

    def cut(self, fd: int, size: int) -> None:
        tail = os.pread(fd, os.fstat(fd).st_size, size)
        file = self._file(fd)
        super().cut(fd, size)

        def undo(rng: random.Random) -> None:
            if rng.random() < 0.5:
                os.pwrite(file.fd, tail, size)

        file.undo.append(undo)

    def sync(self, fd: int) -> None:
        with self._dropped_if_it_fails(fd):
            super().sync(fd)

    def sync_all(self, fd: int) -> None:
        with self._dropped_if_it_fails(fd):
            super().sync_all(fd)

    @contextmanager
    def _dropped_if_it_fails(self, fd: int) -> Iterator[None]:
        """The kernel gives pages up that it could not write: a sync that succeeds later is not about them."""
        file = self._file(fd)
        try:
            yield
        except OSError:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                for undo in reversed(file.undo):
                    undo(self._rng)
                file.undo.clear()
            raise
        file.undo.clear()

    def create(self, name: str, folder_fd: int) -> int:
        fd = super().create(name, folder_fd)
        folder = self._file(folder_fd)

        def undo(rng: random.Random) -> None:
            if rng.random() < 0.3 and exists(name, folder.fd):
                os.unlink(name, dir_fd=folder.fd)

        folder.undo.append(undo)
        return fd

    def rename(self, old: str, new: str, folder_fd: int) -> None:
        super().rename(old, new, folder_fd)
        folder = self._file(folder_fd)

        def undo(rng: random.Random) -> None:
            if rng.random() < 0.5 and exists(new, folder.fd) and not exists(old, folder.fd):
                os.rename(new, old, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)

        folder.undo.append(undo)
