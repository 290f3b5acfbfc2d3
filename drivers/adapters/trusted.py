"""Files that say what is done, or prove who asks: good only where nobody else could write or read them."""

import os
import stat
from collections.abc import Container
from pathlib import Path

from agent.errors import WardenError

MAX_LINKS = 40
"""Symbolic links followed on one path; the kernel's own bound (path_resolution(7))."""
MAX_SECRET = 4096
"""Bytes in a secret's file; HTTP servers take header lines of 8 KiB at most."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class TrustError(WardenError):
    """A file that others may have written or read. `path`: which; `reason`: what follows it, in one line."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path
        self.reason = reason


def check_program(path: str) -> None:
    """Raises TrustError unless `path` is an executable that only root and this process's user can change.

    Every folder and link on the way counts: who may rename there chooses the program. A folder that
    others may write is accepted with the sticky bit, where they cannot touch what they do not own (/tmp).
    """
    owners = frozenset({0, os.geteuid()})
    try:
        final = _walk(path, owners)
    except OSError as error:
        raise TrustError(path, f"cannot be run: {os.strerror(error.errno or 0)}") from error
    if not stat.S_ISREG(final.st_mode):
        raise TrustError(path, "is not a file")
    if not os.access(path, os.X_OK):
        raise TrustError(path, "is not executable")


def check_owned(path: str, found: os.stat_result, owners: Container[int]) -> None:
    """Raises TrustError unless `found` belongs to one of `owners` and nobody else may write to it."""
    if found.st_uid not in owners:
        raise TrustError(path, f"belongs to user {found.st_uid}")
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & _OTHERS_WRITE and not sticky:
        raise TrustError(path, "can be written by others")


def read_secret(path: str) -> str:
    """The one line in a file that only its owner (root or this user) may read: 1 to 4096 printable ASCII.

    Raises TrustError, whose text never holds any of it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_private(path, os.fstat(fd))
            content = os.read(fd, MAX_SECRET + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise TrustError(path, f"cannot be read: {os.strerror(error.errno or 0)}") from error
    secret = content.strip(b"\r\n")
    if not secret or len(secret) > MAX_SECRET or any(not 0x21 <= byte <= 0x7E for byte in secret):
        raise TrustError(path, f"must hold one line of 1 to {MAX_SECRET} printable characters without blanks")
    return secret.decode("ascii")


def _check_private(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise TrustError(path, "is not a file")
    if found.st_uid not in {0, os.geteuid()}:
        raise TrustError(path, f"belongs to user {found.st_uid}")
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TrustError(path, "may be opened by others: chmod 600 it")


def _walk(path: str, owners: Container[int]) -> os.stat_result:
    """Every part of the path, links followed one at a time and checked on the way; the last one's stat."""
    here, parts, links = Path("/"), _parts(path), 0
    found = here.lstat()
    check_owned(str(here), found, owners)
    while parts:
        part = parts.pop()
        here = here.parent if part == ".." else here / part
        found = here.lstat()
        if not stat.S_ISLNK(found.st_mode):
            check_owned(str(here), found, owners)
            continue
        # A link's own mode says nothing; its owner chose where it leads.
        if found.st_uid not in owners:
            raise TrustError(str(here), f"is a link of user {found.st_uid}")
        links += 1
        if links > MAX_LINKS:
            raise TrustError(path, "leads through too many links")
        target = str(here.readlink())
        parts += _parts(target)
        here = Path("/") if target.startswith("/") else here.parent
    return found


def _parts(path: str) -> list[str]:
    """Its parts, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in {"", "."}]
