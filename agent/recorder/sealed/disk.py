"""Every system call by which the writer changes the disk, one method each: where tests put their faults."""

import errno
import os
from typing import Final

ZEROS: Final = bytes(1 << 20)
"""Piece in which a file is filled ahead."""


class Disk:
    """The real one. Names are relative to a folder's descriptor; all raise OSError."""

    def create(self, name: str, folder_fd: int) -> int:
        """A new file (0600), open for reading and writing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=folder_fd)

    def open(self, name: str, folder_fd: int) -> int:
        """A file that is there, for reading and writing."""
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """How many bytes were written, possibly fewer than given."""
        return os.pwrite(fd, data, offset)

    def sync(self, fd: int) -> None:
        """The file's data, and its length where that grew."""
        os.fdatasync(fd)

    def sync_all(self, fd: int) -> None:
        """A folder's names, or a file's data with its length."""
        os.fsync(fd)

    def room(self, fd: int) -> int:
        """Bytes free on the file system that the folder is on, for an ordinary user."""
        found = os.fstatvfs(fd)
        return found.f_bavail * found.f_frsize

    def reserve(self, fd: int, size: int) -> None:
        """Blocks for `size` bytes, or at once ENOSPC with nothing taken."""
        os.posix_fallocate(fd, 0, size)

    def cut(self, fd: int, size: int) -> None:
        """Ends the file at `size` bytes."""
        os.ftruncate(fd, size)

    def rename(self, old: str, new: str, folder_fd: int) -> None:
        """Within one folder."""
        os.rename(old, new, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)

    def remove(self, name: str, folder_fd: int) -> None:
        """Only ever a file of ours that holds nothing yet: a half spare, half a copy."""
        os.unlink(name, dir_fd=folder_fd)


def write_all(disk: Disk, fd: int, data: bytes | bytearray, offset: int) -> None:
    """All of `data` at `offset`; OSError when some of it may not be there."""
    # A copy's view: a bytearray with a view on it could not be emptied while an exception still holds one.
    rest = memoryview(bytes(data))
    while rest:
        written = disk.write(fd, rest, offset)
        if written <= 0:
            raise OSError(errno.EIO, "nothing written")
        rest, offset = rest[written:], offset + written


def fill(disk: Disk, fd: int, size: int) -> None:
    """Zeros, durable: to turn blocks that are only reserved into written ones would cost each commit."""
    disk.reserve(fd, size)
    for offset in range(0, size, len(ZEROS)):
        write_all(disk, fd, ZEROS[: size - offset], offset)
    disk.sync_all(fd)
