"""Deleting one segment for good, in steps that a crash may end anywhere and the next start takes up again.

Its header and seal go into `.gone`, durable; then the wrapped keys are overwritten, and only then is the file
unlinked. `.gone` comes first because it needs the hash of what is overwritten.
"""

import json
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from agent.core.trust import encode_base64url
from agent.logformat.layout import (
    HASHED_PREFIX_BYTES,
    HEADER_MAGIC,
    HEADER_PREFIX,
    MAX_HEADER_BYTES,
    STREAMS,
    gone_name,
    segment_name,
)
from agent.logformat.suites import SuiteError
from agent.recorder.log import LogError
from agent.recorder.sealed.disk import Disk, write_all
from agent.recorder.sealed.folder import exists
from agent.recorder.sealed.orders import Named
from agent.recorder.sealed.scan import read_header, scan
from agent.recorder.sealed.segment import seal_hash

_HALF: Final = ".torn-0"
"""After the segment's name: a tombstone that is not whole. A crash may leave it, and verify takes a name
that it does not know for tampering; torn bytes, which are counted from 1, it holds against nothing."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Grave:
    """One stream's folder, by its descriptor. Methods raise OSError; all may be repeated."""

    folder_fd: int
    disk: Disk

    def there(self, segno: int) -> bool:
        """Whether anything of a segment but its tombstone is left."""
        return exists(segment_name(segno), self.folder_fd)

    def readable(self, named: Named) -> bool:
        """Whether a tombstone can be made, and the file is the one that was named."""
        return self._tombstone(named) is not None

    def bury(self, named: Named) -> bool:
        """Deletes it, its name not durably before the folder is synced again; True once nothing is left.

        False: it cannot be read, and stays as it is.
        """
        if not exists(gone_name(named.segno), self.folder_fd):
            tombstone = self._tombstone(named)
            if tombstone is None:
                return not self.there(named.segno)
            self._raise(tombstone, named.segno)
        if self.there(named.segno):
            # Its name, also where an attempt before this one gave it that and failed in this very sync.
            self.disk.sync_all(self.folder_fd)
            self._overwrite_keys(named.segno)
            self.disk.remove(segment_name(named.segno), self.folder_fd)
        return True

    def _tombstone(self, named: Named) -> bytes | None:
        fd = self._open(named.segno)
        if fd is None:
            return None
        try:
            return _tombstone(fd, named)
        except SuiteError:
            return None
        finally:
            os.close(fd)

    def _open(self, segno: int) -> int | None:
        with suppress(FileNotFoundError):
            return self.disk.open(segment_name(segno), self.folder_fd)
        return None

    def _raise(self, tombstone: bytes, segno: int) -> None:
        name = gone_name(segno)
        fresh = f"{segment_name(segno)}{_HALF}"
        if exists(fresh, self.folder_fd):  # half of one, from a crash
            self.disk.remove(fresh, self.folder_fd)
        fd = self.disk.create(fresh, self.folder_fd)
        try:
            write_all(self.disk, fd, tombstone, 0)
            self.disk.sync_all(fd)
        finally:
            os.close(fd)
        self.disk.rename(fresh, name, self.folder_fd)

    def _overwrite_keys(self, segno: int) -> None:
        fd = self.disk.open(segment_name(segno), self.folder_fd)
        try:
            start, size = _wraps(os.pread(fd, HEADER_PREFIX.size, 0))
            write_all(self.disk, fd, bytes(size), start)
            self.disk.sync(fd)
        finally:
            os.close(fd)


def _wraps(prefix: bytes) -> tuple[int, int]:
    """Offset and size of the wrapped keys; of a header that is no longer one, all that a header can be."""
    if len(prefix) == HEADER_PREFIX.size:
        magic, _, _, _, fields_len, wraps_len = HEADER_PREFIX.unpack(prefix)
        start = HEADER_PREFIX.size + fields_len
        if magic == HEADER_MAGIC and start + wraps_len <= MAX_HEADER_BYTES:
            return start, wraps_len
    return 0, MAX_HEADER_BYTES


def _tombstone(fd: int, named: Named) -> bytes | None:
    """None for a file that is damaged where it counts, or not the one that is named."""
    header = read_header(fd)
    if header is None:
        return None
    found = scan(fd, header.suite, header.point)
    if found.seal is None or seal_hash(header.suite, found.point, found.seal.raw) != named.seal:
        return None
    raw = os.pread(fd, MAX_HEADER_BYTES, 0)
    start, size = _wraps(raw[: HEADER_PREFIX.size])
    told = {
        "prefix": encode_base64url(raw[:HASHED_PREFIX_BYTES]),
        "fields": raw[HEADER_PREFIX.size : start].decode(),
        "wraps_hash": header.suite.hash(raw[start : start + size]).hex(),
        "seal": encode_base64url(found.seal.raw),
        "h": found.point.h.hex(),
        "bytes": os.fstat(fd).st_size,
    }
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


class Graves:
    """The streams' folders while they are worked in; what the disk refuses comes out as LogError."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.found: dict[str, Grave] = {}
        self._folder = folder
        self._disk = disk
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for stream in STREAMS:
            with suppress(FileNotFoundError):
                fd = os.open(self._folder / stream, _FOLDER)
                self._stack.callback(os.close, fd)
                self.found[stream] = Grave(fd, self._disk)
        return self

    def readable(self, named: Named) -> bool:
        """Whether a tombstone can be made of the file, and it is the one that was named."""
        grave = self.found.get(named.stream)
        return grave is not None and grave.readable(named)

    def bury(self, named: Named) -> bool:
        """False: it cannot be read, and stays as it is."""
        grave = self.found.get(named.stream)
        return grave is None or grave.bury(named)

    def sync(self) -> None:
        """Also where nothing was left to unlink: a crash may have come right after."""
        for grave in self.found.values():
            grave.disk.sync_all(grave.folder_fd)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._stack.close()
        if isinstance(error, OSError):
            raise LogError(self._folder, f"not finished: {error.strerror}", error.errno or 0) from error
