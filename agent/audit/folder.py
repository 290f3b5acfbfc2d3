"""A log's folder: what is in it, which name means what, and whether a recorder is writing to it."""

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.audit.errors import AuditError
from agent.audit.findings import Finding
from agent.logformat.layout import LEDGER_FILE, STREAMS

MANIFEST_FILE: Final = "manifest.json"
"""Of an export's bundle."""
_SEGMENT: Final = re.compile(r"(\d{10,})\.(seg|gone)")
_TORN: Final = re.compile(r"(\d{10,})\.seg\.torn-\d+")
_EARLIER: Final = re.compile(r"ledger-([1-9]\d*)\.jsonl")
_LEDGER_TORN: Final = re.compile(r"ledger(-[1-9]\d*)?\.jsonl\.torn-\d+")
_WRITERS_OWN: Final = re.compile(r"(state|marks)([.~-].*)?")
_SPARES: Final = frozenset({"spare", "spare.new"})
"""The next segment's room: nothing in it was ever acknowledged."""
_LOG_LIKE: Final = re.compile(r"\.(seg|gone|jsonl)\b|^ledger")


@dataclass(slots=True)
class Listing:
    """The names in a log's folder; `segments`, `gone`: stream → numbers; `torn`: `<stream>/<name>` → bytes.

    `spare`: the room made for the next segments. `ledgers`: in the order they were written, the one in use
    last (left out when it is not there).
    """

    ledgers: list[str] = field(default_factory=list)
    ledger_torn: list[str] = field(default_factory=list)
    segments: dict[str, set[int]] = field(default_factory=lambda: {stream: set() for stream in STREAMS})
    gone: dict[str, set[int]] = field(default_factory=lambda: {stream: set() for stream in STREAMS})
    torn: dict[str, int] = field(default_factory=dict)
    spare: list[str] = field(default_factory=list)
    manifest: bool = False
    findings: list[Finding] = field(default_factory=list)
    segment_bytes: int = 0
    ledger_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Of ledgers, segments and tombstones."""
        return self.segment_bytes + self.ledger_bytes


def list_folder(folder: Path) -> Listing:
    """Reads the names; raises AuditError when the folder itself cannot be read."""
    listing = Listing()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise AuditError(folder, f"cannot be read: {error.strerror}") from None
    earlier: list[int] = []
    for entry in entries:
        _top(listing, entry, earlier)
    listing.ledgers[:0] = [f"ledger-{number}.jsonl" for number in sorted(earlier)]
    return listing


def _top(listing: Listing, entry: os.DirEntry[str], earlier: list[int]) -> None:
    name = entry.name
    if name in STREAMS and entry.is_dir(follow_symlinks=False):
        _stream(listing, entry)
    elif not _is_file(entry):
        _unknown(listing, name, entry)
    elif name == LEDGER_FILE:
        listing.ledgers.append(name)
    elif found := _EARLIER.fullmatch(name):
        earlier.append(int(found[1]))
    elif _LEDGER_TORN.fullmatch(name):
        listing.ledger_torn.append(name)
    elif name == MANIFEST_FILE:
        listing.manifest = True
    elif not _WRITERS_OWN.fullmatch(name):
        _unknown(listing, name, entry)
    listing.ledger_bytes += _size(entry) if name.endswith(".jsonl") else 0


def _stream(listing: Listing, folder: os.DirEntry[str]) -> None:
    stream = folder.name
    try:
        entries = sorted(os.scandir(folder.path), key=lambda entry: entry.name)
    except OSError as error:
        listing.findings.append(Finding("unreadable", stream, detail=error.strerror or ""))
        return
    for entry in entries:
        name = f"{stream}/{entry.name}"
        number = _SEGMENT.fullmatch(entry.name)
        if not _is_file(entry):
            _unknown(listing, name, entry)
        elif number and _canonical(number[1]):
            (listing.segments if number[2] == "seg" else listing.gone)[stream].add(int(number[1]))
            listing.segment_bytes += _size(entry)
        elif _TORN.fullmatch(entry.name):
            listing.torn[name] = _size(entry)
        elif entry.name in _SPARES:
            listing.spare.append(name)
        else:
            _unknown(listing, name, entry)


def _canonical(digits: str) -> bool:
    """The one spelling of a number: a second file could hide behind another."""
    return f"{int(digits):010}" == digits and int(digits) > 0


def _unknown(listing: Listing, name: str, entry: os.DirEntry[str]) -> None:
    if (
        entry.name == "lost+found"
        and entry.is_dir(follow_symlinks=False)
        and not list(Path(entry.path).iterdir())
    ):
        return  # the log has a file system of its own
    kind = "file_stray" if _LOG_LIKE.search(entry.name) else "file_unknown"
    listing.findings.append(Finding(kind, ascii(name)[1:-1]))


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0  # gone in the meantime; whoever opens it will say so


def open_file(path: Path) -> int:
    """A descriptor of a regular file; OSError for all else. A FIFO in its place would block for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "not a regular file")
    return fd


def read_small(path: Path, limit: int) -> bytes:
    """At most `limit` + 1 bytes of a regular file, so that a caller sees when it is too large."""
    with os.fdopen(open_file(path), "rb") as file:
        return file.read(limit + 1)


def is_written(folder: Path) -> bool:
    """True while a recorder holds the folder's lock."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AuditError(folder, f"cannot be read: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks on this file system: then nothing says that a recorder writes
    finally:
        os.close(fd)
    return False


def pieces(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """A regular file's bytes."""
    with os.fdopen(open_file(path), "rb") as file:
        yield from iter(lambda: file.read(size), b"")
