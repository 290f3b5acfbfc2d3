"""What a robot's own software uses to live under robot-warden: one file, standard library only, Python 3.8+.

Copy this file into your project. In your control loop::

    permits = Permits("/run/warden/FT-2024-0017")
    while True:
        verdict = permits.read()
        if not verdict.may_power:
            brake()                                   # drives off now
        elif not verdict.may_move:
            stop_under_control()                      # decelerate, stay powered
        else:
            run(verdict.speed_permille)               # of full speed
        if work.epoch < verdict.epoch:
            drop(work)                                # ordered before a stop: never taken up again

and beside it a `RobotLink`, whose beats say that the loop still turns. The permits alone decide whether the
robot may move; no message ever does.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import stat
import struct
import time
from pathlib import Path
from threading import Lock
from typing import Any, Iterable, Mapping, NamedTuple, Union

__all__ = ["MAX_PACKET", "PERMIT_NAMES", "Permits", "RobotLink", "Verdict"]

_Path = Union[str, Path]

# ------------------------------------------------------------------------------------------------ run permit

PERMIT_NAMES = ("reflex.permit", "remote.permit")
"""The two permits of a run folder (PROTOCOL 1)."""

_SIZE = 64
_MAGIC = b"WPERMIT1"
_RE_READS = 3
_RECORD = struct.Struct("<8sQQQQIIHHBBHQ")
_MOTION = slice(8, 24)
_ALL_ONES = (1 << 64) - 1
_EMERGENCY_STOP = 5


class Verdict(NamedTuple):
    """What every permit together allows at one moment.

    `may_move`: move, generate, transmit. `may_power`: keep the drives energised. `speed_permille`: 0 to 1000
    of full speed, the smallest of all. `epoch`: the sum of all; work ordered in an earlier one is dropped.
    `response`: the worst of all, 0 none, 1 warn, 2 restrict, 3 hold, 4 safe_mode, 5 emergency_stop,
    6 suspend, 7 retire; for display only.
    """

    may_move: bool
    may_power: bool
    speed_permille: int
    epoch: int
    response: int


class _Permit(NamedTuple):
    motion_until_ns: int
    power_until_ns: int
    epoch: int
    speed_permille: int
    response: int


_VOID = _Permit(0, 0, 0, 0, _EMERGENCY_STOP)


class Permits:
    """The run permits of one robot (PROTOCOL 1); belongs to one thread.

    `folder_or_paths`: the run folder, in which both permits are looked for, or the paths of the permits as
    the link's `welcome` names them. Nothing here raises: what cannot be read does not permit.
    """

    def __init__(self, folder_or_paths: _Path | Iterable[_Path]) -> None:
        if isinstance(folder_or_paths, (str, Path)):
            folder_or_paths = [Path(folder_or_paths) / name for name in PERMIT_NAMES]
        self._files = [_PermitFile(Path(path)) for path in folder_or_paths]

    def read(self, now_ns: int | None = None) -> Verdict:
        """The verdict at `now_ns` (CLOCK_MONOTONIC, default: now); a few microseconds, call it every cycle.

        While motion is permitted this makes no system call. While it is not, one stat(2) a permit looks for
        a file that is new or was made anew.
        """
        verdict = self._judge(now_ns)
        if not verdict.may_move and self._follow_paths():
            verdict = self._judge(now_ns)
        return verdict

    def close(self) -> None:
        """Let the mappings go; idempotent. A later read maps the files again."""
        for file in self._files:
            file.close()

    def _judge(self, now_ns: int | None) -> Verdict:
        # all() of nothing is true, and no permit is no permission.
        permits = [file.read() for file in self._files] or [_VOID]
        # After reading: were this thread held up in between, the deadlines must have run on meanwhile.
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        return Verdict(
            may_move=all(now_ns < permit.motion_until_ns for permit in permits),
            may_power=all(now_ns < permit.power_until_ns for permit in permits),
            speed_permille=min(permit.speed_permille for permit in permits),
            epoch=sum(permit.epoch for permit in permits),
            response=max(permit.response for permit in permits),
        )

    def _follow_paths(self) -> bool:
        # Each file is looked for, also after one was found: any() over a generator would stop there.
        found = [file.follow_path() for file in self._files]
        return any(found)


class _PermitFile:
    """One permit file, mapped; one that is not there yet is looked for by `follow_path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None
        self._inode = (0, 0)
        self.follow_path()

    def read(self) -> _Permit:
        if self._map is None:
            return _VOID
        for _ in range(1 + _RE_READS):
            record = _snapshot(self._map)
            permit = _parse(record) if record else None
            if permit is not None:
                return permit
        return _VOID

    def follow_path(self) -> bool:
        """Map what the path names now, unless that is mapped already; True when it was mapped anew.

        A file that is gone is kept: nobody renews its deadlines, so they run out by themselves.
        """
        try:
            there = self._path.lstat()
            if self._map is not None and (there.st_dev, there.st_ino) == self._inode:
                return False
            return self._open()
        except (OSError, ValueError):
            return False

    def _open(self) -> bool:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            opened = os.fstat(fd)
            if not stat.S_ISREG(opened.st_mode) or opened.st_size < _SIZE:
                return False
            fresh = mmap.mmap(fd, _SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(fd)
        self.close()
        self._map, self._inode = fresh, (opened.st_dev, opened.st_ino)
        return True

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        self._map = None


def _snapshot(mapping: mmap.mmap) -> bytes | None:
    """One copy whose parts belong together; None when the permit changed meanwhile.

    The writer withdraws motion before it changes anything else and grants it after all else: what was
    read between two equal motion deadlines belongs to them.
    """
    before = mapping[_MOTION]
    _fence()
    record = mapping[:_SIZE]
    _fence()
    return record if before == record[_MOTION] == mapping[_MOTION] else None


def _fence() -> None:
    """Keep reads in order on any processor: giving back a lock releases, taking it acquires."""
    lock = Lock()
    lock.acquire()
    lock.release()
    lock.acquire()


def _parse(record: bytes) -> _Permit | None:
    fields = _RECORD.unpack(record)
    magic, motion, no_motion, power, no_power, epoch, no_epoch, speed, no_speed, response, no_response = (
        fields[:11]
    )
    pairs_hold = (
        motion ^ no_motion == power ^ no_power == _ALL_ONES
        and epoch ^ no_epoch == 0xFFFFFFFF
        and speed ^ no_speed == 0xFFFF
        and response ^ no_response == 0xFF
    )
    if magic != _MAGIC or not pairs_hold or speed > 1000 or response > 7 or fields[11]:
        return None
    return _Permit(motion, power, epoch, speed, response)


# ------------------------------------------------------------------------------------------------ robot link

MAX_PACKET = 8192
"""Bytes (PROTOCOL 2); a longer packet is not sent, and one received is dropped."""

_MAX_PACKETS_A_POLL = 32


class RobotLink:
    """The robot's end of `robot.sock` (PROTOCOL 2). Nothing here blocks, and nothing raises OSError.

    `path`: the socket. `name`: what the robot calls itself. `beat_ms`: how often it means to call `beat`.
    A send that fails says so by False. When the connection has ended `connected` is False, and it is the
    caller who decides when to `connect` again; until then the permits run out by themselves.
    """

    def __init__(self, path: _Path, name: str, beat_ms: int) -> None:
        self.path = os.fspath(path)
        self.name = name
        self.beat_ms = beat_ms
        self.beats = 0
        """Beats sent in this connection."""
        self.bad_packets = 0
        """Packets received that are no message: too long, not UTF-8, not a JSON object with a `type`."""
        self._socket: socket.socket | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as the last send or poll knew."""
        return self._socket is not None

    def fileno(self) -> int:
        """The descriptor to wait on; -1 without a connection."""
        return self._socket.fileno() if self._socket else -1

    def connect(self) -> bool:
        """Connect and say hello; True when that is done. An existing connection is given up first."""
        self.close()
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fresh.setblocking(False)
        try:
            fresh.connect(self.path)
        except OSError:
            fresh.close()
            return False
        self._socket = fresh
        self.beats = 0
        return self._send("hello", name=self.name, beat_ms=self.beat_ms)

    def close(self) -> None:
        """End the connection; idempotent. To the agent this is the cause `robot_gone`."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def beat(self, telemetry: Mapping[str, object] | None = None) -> bool:
        """Say that the control loop turns. `telemetry`: flat, of finite numbers, strings and booleans."""
        fields = {} if telemetry is None else {"telemetry": dict(telemetry)}
        sent = self._send("beat", n=self.beats + 1, **fields)
        self.beats += sent
        return sent

    def authorise(self, id: str, task: str, args: Mapping[str, object] | None = None) -> bool:  # noqa: A002
        """Ask whether `task` may be done; the answer is a `verdict` message with the same id."""
        return self._send("authorise", id=id, task=task, args=dict(args or {}))

    def event(self, kind: str, detail: object = "") -> bool:
        """Report what happened, for instance `unlawful_content`."""
        return self._send("event", kind=kind, detail=detail)

    def step_result(self, id: str, ok: bool, detail: str = "") -> bool:  # noqa: A002
        """Answer a `step`: whether it was done, and a few words."""
        return self._send("step_result", id=id, ok=ok, detail=detail)

    def poll(self) -> list[dict[str, Any]]:
        """The messages that have come (`welcome`, `verdict`, `state`, `step`), at most 32 at a time."""
        messages = []
        for _ in range(_MAX_PACKETS_A_POLL):
            packet = self._receive()
            if packet is None:
                break
            message = _message(packet)
            if message is None:
                self.bad_packets += 1
            else:
                messages.append(message)
        return messages

    def _send(self, type_: str, **fields: object) -> bool:
        packet = _packet({"type": type_, **fields})
        if self._socket is None or packet is None:
            return False
        try:
            self._socket.send(packet, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False  # the agent does not read: its affair, the robot's loop goes on
        except OSError:
            self.close()
            return False
        return True

    def _receive(self) -> bytes | None:
        if self._socket is None:
            return None
        try:
            packet = self._socket.recv(MAX_PACKET + 1)
        except BlockingIOError:
            return None
        except OSError:
            packet = b""
        if not packet:
            self.close()
            return None
        return packet


def _packet(message: Mapping[str, object]) -> bytes | None:
    """The message as bytes; None when it is not JSON (a NaN, an object) or too long to be taken."""
    try:
        packet = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return None
    return packet if len(packet) <= MAX_PACKET else None


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


def _message(packet: bytes) -> dict[str, Any] | None:
    if len(packet) > MAX_PACKET:
        return None
    try:
        message = json.loads(packet.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    if isinstance(message, dict) and isinstance(message.get("type"), str):
        return message
    return None
