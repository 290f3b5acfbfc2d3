"""The log's folder: made, locked, and what was set aside in it."""

import fcntl
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.recorder.log import LogError
from agent.recorder.sealed.disk import Disk, write_all

LOCK_TRIES: Final = 10
LOCK_PAUSE_S: Final = 0.02
COPY_BYTES: Final = 65_536
"""Piece in which torn bytes are copied and compared."""


def open_locked(folder: Path) -> int:
    """The descriptor of the folder, made if need be (0700), ours alone until it is closed; LogError."""
    fd = open_folder(folder)
    if not _lock(fd):
        os.close(fd)
        raise LogError(folder, "another process writes this log")
    return fd


def open_folder(folder: Path) -> int:
    """The same without the lock."""
    try:
        if not folder.is_dir():
            _create(folder)
        folder.chmod(0o700)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LogError(folder, f"folder cannot be used: {error.strerror}", error.errno or 0) from error


def _create(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)  # or a power cut takes the folder, and with it every synced record
    finally:
        os.close(parent)


def _lock(fd: int) -> bool:
    """A reader takes the lock for a moment to see whether it is held, hence more than one try."""
    for _ in range(LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOCK_PAUSE_S)
    return False


def exists(name: str, folder_fd: int) -> bool:
    """Whether anything of that name is there."""
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def free_torn_name(name: str, folder_fd: int) -> str:
    """`<name>.torn-<k>` with the first k that is not taken."""
    names = (f"{name}.torn-{k}" for k in itertools.count(1))
    return next(torn for torn in names if not exists(torn, folder_fd))


def save_torn(disk: Disk, fd: int, name: str, span: tuple[int, int], folder_fd: int) -> str:
    """Copies bytes `span` = (start, end) of the file `name` beside it, durable; the copy's name. OSError."""
    start, end = span
    torn = free_torn_name(name, folder_fd)
    last = f"{name}.torn-{int(torn.rpartition('-')[2]) - 1}"
    if exists(last, folder_fd) and _same(fd, start, end, last, folder_fd):
        return last  # a crash in the middle of this very repair
    copy = disk.create(torn, folder_fd)
    try:
        for at in range(start, end, COPY_BYTES):
            piece = os.pread(fd, min(COPY_BYTES, end - at), at)
            write_all(disk, copy, piece, at - start)
        disk.sync_all(copy)
        disk.sync_all(folder_fd)
    except OSError:
        disk.remove(torn, folder_fd)  # half a copy proves nothing, and the original is untouched
        raise
    finally:
        os.close(copy)
    return torn


def _same(fd: int, start: int, end: int, name: str, folder_fd: int) -> bool:
    copy = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder_fd)
    try:
        if os.fstat(copy).st_size != end - start:
            return False
        pieces = range(start, end, COPY_BYTES)
        sizes = ((at, min(COPY_BYTES, end - at)) for at in pieces)
        return all(os.pread(fd, size, at) == os.pread(copy, size, at - start) for at, size in sizes)
    finally:
        os.close(copy)
