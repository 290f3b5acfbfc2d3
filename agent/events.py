"""The sender's side of the recorder: events leave a module without the module ever waiting for them.

`emit` stands at the tail of the stop path (DESIGN, principle 4: act, tell, then write), so it makes the
packet, queues it and returns, with no system call but two readings of clocks. Packets go out from the
loop's next turns, a few at a time, and stay queued until the recorder acknowledges that their bytes are
synced. After a lost connection everything unacknowledged is sent again in order; the recorder drops what
it has already, by (source, boot, seq).

Wire: `hello`, then `{"type":"event","seq","stream","kind","wall_ns","boottime_ns","body"}`; the answer is
`{"type":"ack","seq"}`, cumulative. What the recorder says besides goes to `on_message`.
"""

import asyncio
import itertools
import math
import os
import reprlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.link import Client, Connection, Message, PacketError, encode_packet

__all__ = ["MAX_RECORD", "STREAMS", "WINDOW", "EventSink", "json_able"]

STREAMS = ("safety", "net", "tele")
"""What an event can belong to (LOG, "Streams and files"); anything else is kept as `safety`."""
MAX_RECORD = 32_768
"""Bytes of one event's packet. A longer body is replaced by its beginning."""
WINDOW = 256
"""Events sent and not yet acknowledged. The recorder cuts off whoever exceeds twice this."""
BYTES_PER_SLOT = 1_024
"""Queue memory per slot of `capacity`: four times an ordinary event, so bytes bind only for unusual ones."""
SENDS_PER_TURN = 16
"""Each is one system call of a few microseconds; more of them in one turn would delay an input's edge."""
BLOCKED_S = 0.005
"""Until the next try after the kernel's buffer was full; the recorder's acknowledgements come sooner."""
MAX_LEVELS = 8
"""Levels of nesting kept of a body; deeper values become text."""
MAX_TEXT = 200
"""Characters of a value that JSON cannot carry and that becomes text."""
MAX_EXCERPT = 4_096
"""Characters kept of a body that is too long: at most 24 KiB as JSON, so that it always fits MAX_RECORD."""
MAX_KIND = 64
"""Characters of an event's kind."""

_TEXT = reprlib.Repr()
_TEXT.maxother = MAX_TEXT


class _Queued(NamedTuple):
    seq: int
    packet: bytes
    boottime_ns: int


class _Loss:
    """What was dropped of one stream since the last time it was reported."""

    __slots__ = ("count", "first_seq", "last_seq")

    def __init__(self, seq: int) -> None:
        self.count = 0
        self.first_seq = seq
        self.last_seq = seq

    def add(self, seq: int) -> None:
        self.count += 1
        self.last_seq = seq


class EventSink:
    """Queues a module's events for the recorder.

    `lost`: events dropped since the start, per stream. `refused`: packets and servers that the link
    refused. The oldest events are kept when the queue is full, because they hold the first cause.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        *,
        source: str,
        boot: str,
        allowed_uids: frozenset[int],
        capacity: int = 4096,
        on_link: Callable[[bool], None] | None = None,
    ) -> None:
        """`source`: our role; `boot`: 32 hex digits, new at each start of the process; `capacity`: events.

        `on_link(True)` when the recorder is there, `on_link(False)` at once when its connection ends.
        """
        self.lost = dict.fromkeys(STREAMS, 0)
        self.refused = 0
        self.on_message: Callable[[Message], bool] = _nobody
        """What the recorder says that is no acknowledgement; False: refused."""
        self._loop = loop
        self._capacity = capacity
        self._on_link = on_link
        self._unsent: deque[_Queued] = deque()
        self._in_flight: deque[_Queued] = deque()
        self._bytes = 0
        self._unreported: dict[str, _Loss] = {}
        self._numbers = itertools.count(1)
        self._flush_handle: asyncio.Handle | None = None
        self._closed = False
        self._client = Client(
            loop,
            path,
            hello={"role": source, "boot": boot, "pid": os.getpid()},
            allowed_uids=allowed_uids,
            on_open=self._opened,
            on_message=self._heard,
            on_end=self._ended,
            on_bad=self._refused,
        )

    @property
    def connected(self) -> bool:
        """True while the recorder's connection stands."""
        return self._client.connected

    @property
    def pending(self) -> int:
        """Events not yet known to be on disk."""
        return len(self._in_flight) + len(self._unsent)

    @property
    def oldest_pending_boottime_ns(self) -> int | None:
        """When the oldest event not yet on disk was emitted (CLOCK_BOOTTIME), None without any."""
        queue = self._in_flight or self._unsent
        return queue[0].boottime_ns if queue else None

    def start(self) -> None:
        """Begins to look for the recorder; raises LinkError when the path can never be a socket's."""
        self._client.start()

    def close(self) -> None:
        """Hands the kernel what it takes without waiting, then ends the connection; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._flush_handle is not None:
            self._flush_handle.cancel()
        while self._unsent and self._send_one():
            pass
        self._client.close()

    def emit(self, kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
        """Queues one event; never blocks, never raises. `body` is read now and may be changed afterwards.

        What JSON cannot carry (other types, NaN, integers past 64 bits) becomes text, truncated.
        """
        stream = stream if stream in self.lost else "safety"
        seq = next(self._numbers)
        if self._closed or self._unreported or self._full():
            self._lose(stream, seq)
            return
        self._queue(seq, stream, kind, body)

    def offer(self, message: Mapping[str, object]) -> bool:
        """Sends what need not be kept, if it goes at once; events that wait go before it."""
        return not self._unsent and self._client.send(message)

    def _full(self) -> bool:
        return self.pending >= self._capacity or self._bytes >= self._capacity * BYTES_PER_SLOT

    def _lose(self, stream: str, seq: int) -> None:
        self.lost[stream] += 1
        self._unreported.setdefault(stream, _Loss(seq)).add(seq)

    def _queue(self, seq: int, stream: str, kind: str, body: Mapping[str, object]) -> None:
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        packet = _packet(
            {
                "type": "event",
                "seq": seq,
                "stream": stream,
                "kind": kind[:MAX_KIND],
                "wall_ns": time.time_ns(),
                "boottime_ns": boottime_ns,
                "body": json_able(body),
            }
        )
        self._unsent.append(_Queued(seq, packet, boottime_ns))
        self._bytes += len(packet)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flush_handle is None and self._client.connected:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        for _ in range(SENDS_PER_TURN):
            if not self._may_send():
                return
            if not self._send_one():
                self._flush_handle = self._loop.call_later(BLOCKED_S, self._flush)
                return
        self._flush_soon()

    def _may_send(self) -> bool:
        return self._client.connected and bool(self._unsent) and len(self._in_flight) < WINDOW

    def _send_one(self) -> bool:
        connection = self._client.connection
        if connection is None or not connection.send_packet(self._unsent[0].packet):
            return False
        self._in_flight.append(self._unsent.popleft())
        return True

    # ---- what the link tells

    def _opened(self, _connection: Connection) -> None:
        self._flush_soon()
        if self._on_link is not None:
            self._on_link(True)

    def _ended(self, _connection: Connection) -> None:
        self._unsent.extendleft(reversed(self._in_flight))
        self._in_flight.clear()
        if self._on_link is not None:
            self._on_link(False)

    def _refused(self, _reason: str) -> None:
        self.refused += 1

    def _heard(self, _connection: Connection, message: Message) -> None:
        seq = message.get("seq")
        if message["type"] != "ack" or type(seq) is not int:
            self.refused += not self.on_message(message)
            return
        # After a reconnection the answer to hello names events that went out on the connection before.
        for queue in (self._in_flight, self._unsent):
            while queue and queue[0].seq <= seq:
                self._bytes -= len(queue.popleft().packet)
        self._report_losses()
        if self._flush_handle is not None:  # room has come sooner than the next try
            self._flush_handle.cancel()
            self._flush_handle = None
        self._flush_soon()

    def _report_losses(self) -> None:
        """One `loss` event per stream, once an eighth is free: in a lasting overload they must stay few."""
        free = self._capacity - self.pending
        if not self._unreported or self._full() or free < max(len(self._unreported), self._capacity // 8):
            return
        losses, self._unreported = self._unreported, {}
        for stream, loss in losses.items():
            body = {"stream": stream, "count": loss.count}
            body |= {"first_seq": loss.first_seq, "last_seq": loss.last_seq}
            self._queue(next(self._numbers), "safety", "loss", body)


def _nobody(message: Message) -> bool:  # noqa: ARG001 - the form of a hook
    """For a module that wants nothing but acknowledgements."""
    return False


# ---- making any body a packet ----------------------------------------------------------------------


def _packet(event: dict[str, object]) -> bytes:
    try:
        return encode_packet(event, MAX_RECORD)
    except PacketError:
        excerpt = str(event["body"])[:MAX_EXCERPT]
        return encode_packet({**event, "body": {"truncated": True, "text": excerpt}}, MAX_RECORD)


def json_able(value: object, level: int = 0) -> object:
    """The value as the receiving end of a link will accept it (agent.link.packets); a copy throughout.

    `level`: how deep the value stands already; at MAX_LEVELS whatever it is becomes text.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        # Past 64 bits the link refuses it, and past 4300 digits even its text would raise.
        return int(value) if -(2**63) <= value < 2**64 else f"integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else float.__repr__(value)
    if level < MAX_LEVELS:
        if isinstance(value, Mapping):
            return {_key(key): json_able(inner, level + 1) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [json_able(inner, level + 1) for inner in value]
    return _as_text(value)


def _key(key: object) -> str:
    return key if isinstance(key, str) else _as_text(key)


def _as_text(value: object) -> str:
    # reprlib's own guard: a __repr__ that raises becomes the type's name, and any text is shortened.
    return _TEXT.repr_instance(value, 0)
