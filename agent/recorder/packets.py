"""What modules send the recorder, checked field by field; and how packets that are refused are told of."""

import asyncio
import re
from collections.abc import Callable

from agent.events import MAX_KIND, STREAMS
from agent.link import Message
from agent.recorder.incidents import Sample
from agent.recorder.log import Record

BAD_EVERY_S = 1.0
"""Refused packets are recorded at most this often, with their count: a flood must not fill the log."""
MAX_SAMPLE_KEYS = 64

_BOOT = re.compile(r"[0-9a-f]{32}\Z")


def is_boot(value: object) -> bool:
    """True for 32 hexadecimal digits: one start of one process."""
    return isinstance(value, str) and _BOOT.match(value) is not None


def read_record(sender: tuple[str, str], message: Message, clock: str) -> Record | None:
    """The record of an `event` message; None when a field is missing or of the wrong kind.

    `sender`: source and boot. `clock`: the wall clock's state as the recorder knows it now.
    """
    stream, kind, body = message.get("stream"), message.get("kind"), message.get("body")
    seq, wall_ns, boottime_ns = (_natural(message.get(name)) for name in ("seq", "wall_ns", "boottime_ns"))
    if not isinstance(kind, str) or not 0 < len(kind) <= MAX_KIND or not isinstance(body, dict):
        return None
    if not isinstance(stream, str) or stream not in STREAMS:
        return None
    if not seq or wall_ns is None or boottime_ns is None:
        return None
    return Record(*sender, seq, stream, kind, wall_ns, boottime_ns, body, clock)


def read_sample(message: Message) -> Sample | None:
    """The robot's telemetry at one moment; None when it is not of its form."""
    wall_ns, boottime_ns = _natural(message.get("wall_ns")), _natural(message.get("boottime_ns"))
    data = message.get("data")
    if wall_ns is None or boottime_ns is None or not isinstance(data, dict) or len(data) > MAX_SAMPLE_KEYS:
        return None
    size = sum(len(key) + len(str(value)) + 8 for key, value in data.items())
    return Sample(wall_ns, boottime_ns, data, size)


def _natural(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


class BadPackets:
    """Counts refused packets and has them noted: the first at once, the rest at most every BAD_EVERY_S."""

    def __init__(self, loop: asyncio.AbstractEventLoop, note: Callable[[int, str], bool]) -> None:
        """`note(count, reason)`: False when it cannot be recorded now; it is told again later."""
        self._loop = loop
        self._note = note
        self._count = 0
        self._reason = ""
        self._handle: asyncio.TimerHandle | None = None

    def add(self, reason: str) -> None:
        """`reason`: of the latest one, in our words."""
        self._count += 1
        self._reason = reason
        if self._handle is None:
            self._tell()

    def close(self) -> None:
        """Tells what is still untold."""
        if self._handle is not None:
            self._handle.cancel()
            self._tell()
        if self._handle is not None:
            self._handle.cancel()

    def _tell(self) -> None:
        self._handle = None
        if not self._count:
            return
        if self._note(self._count, self._reason):
            self._count = 0
        self._handle = self._loop.call_later(BAD_EVERY_S, self._tell)
