"""What the parts of the writer share."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from agent.logformat.suites import Suite
from agent.recorder.sealed.disk import Disk

SEGMENT_BYTES: Final = 8 * 1024 * 1024
SEGMENT_NS: Final = 24 * 3600 * 1_000_000_000
"""A new segment is begun at this size and at this age (LOG, "Rotation")."""
PREZEROED: Final = frozenset({"safety"})
"""Streams whose segments are on the disk whole before the first frame: commits need no new blocks, and there
is room for stops when the disk is full (LOG)."""
MAX_SEQ: Final = 1 << 62
"""A larger number of a record was not counted up to: whoever wrote it wants ours to overflow."""


class LedgerSink(Protocol):
    """The ledger, as far as segments need it."""

    def append(self, kind: str, body: Mapping[str, object], /) -> object:
        """Durable when it returns.

        LogError: it is not known to be durable, and may stand on the disk for all that, whole or in part.
        Append the same again, and there is one of it; append another, and the refused one comes first if it
        got as far as a signature (`Ledger.append`).
        """
        ...


@dataclass(frozen=True, slots=True)
class Sealing:
    """How records are sealed.

    `recipients`: (kid, public key as `Suite.wrap` takes it); `opening`: `any` of them, or `all` together;
    `compress`: streams whose records are compressed; `segment_ns` on CLOCK_BOOTTIME.
    """

    robot: str
    suite: Suite
    recipients: tuple[tuple[str, bytes], ...]
    opening: str = "any"
    compress: frozenset[str] = frozenset({"safety", "net", "tele"})
    segment_bytes: int = SEGMENT_BYTES
    segment_ns: int = SEGMENT_NS


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", "")


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clocks:
    """Wall time and CLOCK_BOOTTIME in ns, and the kernel's boot id (32 hex digits)."""

    wall_ns: Callable[[], int] = time.time_ns
    boottime_ns: Callable[[], int] = _boottime_ns
    boot_id: str = field(default_factory=_boot_id)


@dataclass(slots=True)
class Tools:
    """What every stream works with. `sealing` is replaced when the recipients change."""

    sealing: Sealing
    ledger: LedgerSink
    disk: Disk
    clocks: Clocks


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a segment between two frames.

    `end`: offset in bytes; `frames` and `records` before it; `next_seq`: number of the stream's next record;
    `h`: the public chain up to here.
    """

    end: int
    frames: int
    records: int
    next_seq: int
    h: bytes


@dataclass(slots=True)
class Figures:
    """What one segment holds, for totals: `bytes` up to its last whole frame or seal."""

    records: int
    bytes: int
    wall_ns: int


def parsed(data: bytes) -> Any:  # noqa: ANN401 - JSON is whatever somebody has written
    """What JSON says; ValueError for bytes that are none, or hold a fraction, as nothing of ours does.

    (Python's own reading takes infinity, also from 1e999, and `int` of that is no ValueError.)
    """
    try:
        return json.loads(data, parse_float=no_fractions, parse_constant=no_fractions)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def no_fractions(text: str) -> NoReturn:
    """For `json.loads`: ValueError."""
    raise ValueError(f"{text} is no whole number")


def natural(value: object, bound: int = 1 << 63) -> int:
    """A whole number from 0 on and under `bound`; ValueError for all else."""
    if type(value) is not int or not 0 <= value < bound:
        raise ValueError("no whole number, or out of its range")
    return value


def compact(value: object) -> bytes:
    """JSON with no spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
