"""What a log is to the recorder, whichever way it is kept: the plain one today, the sealed one behind it."""

import errno as errnos
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.errors import WardenError


class LogError(WardenError):
    """The log cannot be opened or written just now.

    `path`: the file or folder; `reason`: in words; `errno`: the system's number, 0 where there is none.
    """

    def __init__(self, path: Path, reason: str, errno: int = 0) -> None:
        code = f" [{errnos.errorcode[errno]}]" if errno in errnos.errorcode else ""
        super().__init__(f"{path}: {reason}{code}")
        self.path = path
        self.reason = reason
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Record:
    """One event as it is kept.

    `source`: role of the module; `boot`: 32 hex digits, one per start of that process; `seq`: from 1, one
    more at each event of that start, over all its streams. Order is by `seq`, never by wall time (LOG).
    `clock`: state of the wall clock when it was taken: `s` synchronised, `u` not, `x` unknown.
    """

    source: str
    boot: str
    seq: int
    stream: str
    kind: str
    wall_ns: int
    boottime_ns: int
    body: Mapping[str, object]
    clock: str = "x"


@dataclass(frozen=True, slots=True)
class Recovered:
    """A torn tail that was found when the log was opened.

    `kept_as`: name of the file that holds the torn bytes now; "" when they could not be copied (a full
    disk): then they stay where they are, and the log goes on in a new segment.
    """

    segment: str
    torn_bytes: int
    kept_as: str


@dataclass(slots=True)
class StreamTotals:
    """What the log holds of one stream; `oldest_wall_ns` is 0 while it holds nothing."""

    records: int = 0
    bytes: int = 0
    oldest_wall_ns: int = 0

    def add(self, size: int, wall_ns: int) -> None:
        """Counts one record of `size` bytes."""
        self.records += 1
        self.bytes += size
        self.oldest_wall_ns = self.oldest_wall_ns or wall_ns


class Log(Protocol):
    """A durable, append-only sequence of records."""

    @property
    def recovered(self) -> Sequence[Recovered]:
        """What opening it had to repair, oldest first."""
        ...

    @property
    def totals(self) -> Mapping[str, StreamTotals]:
        """By stream, of everything in the log."""
        ...

    def last_seq(self, source: str, boot: str) -> int:
        """The last `seq` on disk from this start of this module; 0 when there is none."""
        ...

    def append(self, records: Sequence[Record]) -> None:
        """Returns once every one of them is on disk. LogError: none of them counts; try the same again."""
        ...

    def close(self) -> None:
        """Idempotent; nothing is left to sync."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """How far one stream's open segment is on the disk; what a checkpoint says of it.

    `frames`: whole ones; `next_seq`: number of the stream's next record; `h`: the public chain, hexadecimal.
    """

    segno: int
    frames: int
    next_seq: int
    h: str


class StreamLog(Log, Protocol):
    """A log whose streams are committed each in its own time, so not in the order of `seq`."""

    def append(self, records: Sequence[Record], settled: Mapping[tuple[str, str], int] | None = None) -> None:
        """As `Log.append`, `safety` first; records of the same batch may be of several streams.

        `settled`: by (source, boot), the `seq` up to which nothing is left to wait for once these are on
        disk: what `last_seq` says from then on, over restarts too. None: the largest `seq` of each sender.
        """
        ...

    def has(self, record: Record) -> bool:
        """Whether this event is on the disk already, as far as is remembered of its sender's stream."""
        ...

    def heads(self) -> Mapping[str, Head]:
        """By stream, of those that have a segment open."""
        ...

    def rotate_due(self, now_boottime_ns: int) -> None:
        """Every second or so: ends old segments, prepares the next; LogError as `append`."""
        ...
