"""`RecorderService`: takes events from the modules, commits them in groups, acknowledges.

Whatever arrives in one turn of the loop is written and synced once, then acknowledged. While the log
cannot be written nothing is acknowledged: the senders keep their events, this process keeps the few that
are on their way (at most `MAX_QUEUED` per source), and the write is tried again with bounded back-off.
"""

import asyncio
import itertools
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.events import MAX_KIND, MAX_RECORD, STREAMS, WINDOW, json_able
from agent.link import Connection, Message, Server
from agent.recorder.log import Log, LogError, Record

SOURCE = "recorder"
"""The source of the recorder's own records."""
MAX_QUEUED = 4 * WINDOW
"""Events of one source that are not yet on disk. A sender that waits for its acknowledgements has a quarter
of it at most; the rest is for a module that was restarted while nothing could be written."""
MAX_PACKET = 2 * MAX_RECORD
"""Bytes: an event, or our answer to `metrics`. Less than elsewhere, since MAX_QUEUED of them may wait."""
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0
"""A disk somebody has just made room on is noticed within this."""
ACK_RETRY_S = 0.1
"""Until an acknowledgement is tried again that a sender, frozen perhaps, had no room for."""
BAD_EVERY_S = 1.0
"""Refused packets are recorded at most this often, with their count: a flood must not fill the log."""

_BOOT = re.compile(r"[0-9a-f]{32}\Z")

Sender = tuple[str, str]
"""(source, boot)."""
Answer = Callable[[], Mapping[str, object]]


class RecorderService:
    """The recorder's end of `recorder.sock`.

    `trouble`: why the log cannot be written just now, None while it can. The counters run since this
    process started; `figures` puts them together with the log's totals.
    """

    def __init__(  # noqa: PLR0913 - all by keyword, and each is one decision of the module's
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        socket_path: Path,
        log: Log,
        boot: str,
        allowed_uids: frozenset[int],
        peers: Mapping[str, frozenset[str]],
        may_claim: Callable[[str, int], bool] = lambda role, uid: True,  # noqa: ARG005
        answers: Mapping[str, Answer] | None = None,
        on_trouble: Callable[[str | None], None] = lambda trouble: None,  # noqa: ARG005
        mode: int = 0o660,
    ) -> None:
        """`boot`: 32 hex digits of this start; `peers`: role -> message types it may send here.

        `may_claim(role, uid)`: whether that user may say hello as that role. `answers`: message type ->
        the fields of its answer; `metrics` and `status` have `figures` until the module gives its own.
        `on_trouble`: called with words when writing begins to fail, with None when it works again.
        """
        self.trouble: str | None = None
        self.write_errors = 0
        self.refused = 0
        self.duplicates = 0
        self.last_commit_wall_ns = 0
        self.lost = dict.fromkeys(STREAMS, 0)
        self._loop = loop
        self._log = log
        self._boot = boot
        self._answers: dict[str, Answer] = {"metrics": self.figures, "status": self.figures}
        self._answers.update(answers or {})
        heard = frozenset({"event", *self._answers})
        self._permitted = {role: types & heard for role, types in peers.items()}
        self._may_claim = may_claim
        self._on_trouble = on_trouble
        self._numbers = itertools.count(1)
        self._boots: dict[Connection, str] = {}
        self._queue: list[Record] = []
        self._queued: dict[Sender, int] = {}
        self._waiting: Counter[str] = Counter()
        self._owed: set[Connection] = set()
        self._commit_handle: asyncio.Handle | None = None
        self._ack_handle: asyncio.TimerHandle | None = None
        self._bad = _BadPackets(loop, self._note_bad)
        self._retry_s = FIRST_RETRY_S
        self._trouble_since_ns = 0
        self._closed = False
        self._server = Server(
            loop,
            socket_path,
            allowed_uids=allowed_uids,
            mode=mode,
            max_packet=MAX_PACKET,
            on_message=self._heard,
            on_end=self._ended,
            on_bad=self._refuse,
        )

    def start(self) -> None:
        """Listens, and records that it started and what it had to repair; raises LinkError."""
        self._server.start()
        self.note("recorder_started", {"pid": os.getpid()})
        for found in self._log.recovered:
            body = {"segment": found.segment, "torn_bytes": found.torn_bytes, "kept_as": found.kept_as}
            self.note("seg_recover", body)

    def close(self) -> None:
        """Commits what has arrived and stops listening; idempotent. The log is the caller's to close."""
        if self._closed:
            return
        self._bad.close()
        self._commit()
        if self.trouble is None:
            self._commit()  # what the first one itself had to record
        for handle in (self._commit_handle, self._ack_handle):
            if handle is not None:
                handle.cancel()
        self._closed = True
        self._server.close()
        self._boots.clear()

    def note(self, kind: str, body: Mapping[str, object]) -> None:
        """Records an event of the recorder itself, in stream `safety`; as `EventSink.emit` does."""
        if self._closed or self._waiting[SOURCE] >= MAX_QUEUED:
            self.lost["safety"] += 1
            return
        self._note(kind, body)

    def _note(self, kind: str, body: Mapping[str, object]) -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        seq, plain = next(self._numbers), {key: json_able(value, 1) for key, value in body.items()}
        self._queue.append(Record(SOURCE, self._boot, seq, "safety", kind, time.time_ns(), now_ns, plain))
        self._waiting[SOURCE] += 1
        self._commit_soon()

    def figures(self) -> dict[str, object]:
        """What metrics and status are made of; JSON-able. Times in ns since 1970, 0 for never."""
        totals = self._log.totals
        return {
            "pid": os.getpid(),
            "streams": {
                stream: {
                    "records": totals[stream].records if stream in totals else 0,
                    "bytes": totals[stream].bytes if stream in totals else 0,
                    "oldest_wall_ns": totals[stream].oldest_wall_ns if stream in totals else 0,
                    "lost": self.lost[stream],
                }
                for stream in STREAMS
            },
            "last_commit_wall_ns": self.last_commit_wall_ns,
            "queued": len(self._queue),
            "write_errors": self.write_errors,
            "refused": self.refused,
            "duplicates": self.duplicates,
            "trouble": self.trouble,
            "senders": sorted({connection.role for connection in self._boots}),
        }

    # ---- what the link tells

    def _heard(self, connection: Connection, message: Message) -> None:
        kind = str(message["type"])
        if kind == "hello":
            self._hello(connection, message)
        elif connection not in self._boots:
            self._cut_off(connection, "no hello")
        elif kind not in self._permitted[connection.role]:
            self._refuse(f"{connection.role} (uid {connection.peer_uid}): message not permitted")
        elif kind == "event":
            self._event(connection, message)
        else:
            connection.send({"type": kind, **self._answers[kind]()})

    def _ended(self, connection: Connection) -> None:
        self._boots.pop(connection, None)
        self._owed.discard(connection)

    def _cut_off(self, connection: Connection, reason: str) -> None:
        self._refuse(f"{connection.role or 'unknown'} (uid {connection.peer_uid}): {reason}")
        connection.close()
        self._ended(connection)

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        self._bad.add(reason)

    def _hello(self, connection: Connection, message: Message) -> None:
        boot, role = message.get("boot"), connection.role
        if not isinstance(boot, str) or not _BOOT.match(boot) or self._boots.get(connection, boot) != boot:
            self._cut_off(connection, "boot refused")
        elif role == SOURCE or role not in self._permitted or not self._may_claim(role, connection.peer_uid):
            self._cut_off(connection, "role refused")
        else:
            self._boots[connection] = boot
            self._owe(connection)  # tells a sender that comes back what it need not repeat

    def _event(self, connection: Connection, message: Message) -> None:
        record = _record(connection.role, self._boots[connection], message)
        if record is None:
            self._refuse(f"{connection.role} (uid {connection.peer_uid}): malformed event")
            return
        last = self._queued.get((record.source, record.boot)) or self._log.last_seq(
            record.source, record.boot
        )
        if record.seq > last and self._waiting[record.source] >= MAX_QUEUED:
            self._cut_off(connection, f"more than {MAX_QUEUED} events unacknowledged")
            return
        if record.seq > last:
            self._take(record, last)
        else:
            self.duplicates += 1
        self._owe(connection)

    def _take(self, record: Record, last: int) -> None:
        sender = (record.source, record.boot)
        self._note_gap(sender, last + 1, record.seq - 1)
        self._queue.append(record)
        self._queued[sender] = record.seq
        self._waiting[record.source] += 1

    def _note_gap(self, sender: Sender, first: int, last: int) -> None:
        """Numbers missing on arrival never reached us; said, so that `verify` can tell that from a cut."""
        if first <= last:
            source, boot = sender
            body = {"source": source, "boot": boot, "first_seq": first, "last_seq": last}
            self._note("loss", body | {"count": last - first + 1})

    def _note_bad(self, count: int, reason: str) -> bool:
        """False while nothing can be written: then they are only counted."""
        if self.trouble is not None:
            return False
        self.note("bad_input", {"count": count, "reason": reason})
        return True

    # ---- committing

    def _owe(self, connection: Connection) -> None:
        self._owed.add(connection)
        self._commit_soon()

    def _commit_soon(self) -> None:
        # While a retry is waiting this changes nothing: a full disk is not asked once per event.
        if self._commit_handle is None:
            self._commit_handle = self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        if self._commit_handle is not None:
            self._commit_handle.cancel()
        self._commit_handle = None
        try:
            self._log.append(self._queue)
        except LogError as error:
            self._failed(error)  # and whoever is owed an acknowledgement stays so
        else:
            self._written()
            self._acknowledge()

    def _written(self) -> None:
        if not self._queue:
            return
        written, self._queue = self._queue, []
        for record in written:
            self._count_loss(record)
        self._queued.clear()
        self._waiting.clear()
        self.last_commit_wall_ns = time.time_ns()
        if self.trouble is not None:
            self._recovered(self.trouble)

    def _count_loss(self, record: Record) -> None:
        """Only the sender knows which stream it lost from; the recorder's own `loss` records name none."""
        stream, count = record.body.get("stream"), record.body.get("count")
        named = record.kind == "loss" and isinstance(stream, str) and stream in self.lost
        if named and type(count) is int and count > 0:
            self.lost[str(stream)] += count

    def _failed(self, error: LogError) -> None:
        self.write_errors += 1
        if self.trouble is None:
            self.trouble = str(error)
            self._trouble_since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self._on_trouble(self.trouble)
        self._commit_handle = self._loop.call_later(self._retry_s, self._commit)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _recovered(self, trouble: str) -> None:
        lasted_ms = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._trouble_since_ns) // 1_000_000
        self.trouble = None
        self._retry_s = FIRST_RETRY_S
        self.note(
            "log_not_writable", {"reason": trouble, "lasted_ms": lasted_ms, "errors": self.write_errors}
        )
        self._on_trouble(None)

    def _acknowledge(self) -> None:
        if self._ack_handle is not None:
            self._ack_handle.cancel()
        self._ack_handle = None
        self._owed = {connection for connection in self._owed if not self._paid(connection)}
        if self._owed:
            self._ack_handle = self._loop.call_later(ACK_RETRY_S, self._acknowledge)

    def _paid(self, connection: Connection) -> bool:
        seq = self._log.last_seq(connection.role, self._boots[connection])
        return not seq or connection.send({"type": "ack", "seq": seq}) or connection.closed


class _BadPackets:
    """Counts refused packets and has them noted: the first at once, the rest at most every BAD_EVERY_S."""

    def __init__(self, loop: asyncio.AbstractEventLoop, note: Callable[[int, str], bool]) -> None:
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


def _record(source: str, boot: str, message: Message) -> Record | None:
    """The record of an `event` message; None when a field is missing or of the wrong kind."""
    stream, kind, body = message.get("stream"), message.get("kind"), message.get("body")
    seq, wall_ns, boottime_ns = (_natural(message.get(name)) for name in ("seq", "wall_ns", "boottime_ns"))
    if not isinstance(kind, str) or not 0 < len(kind) <= MAX_KIND or not isinstance(body, dict):
        return None
    if not isinstance(stream, str) or stream not in STREAMS:
        return None
    if not seq or wall_ns is None or boottime_ns is None:
        return None
    return Record(source, boot, seq, stream, kind, wall_ns, boottime_ns, body)


def _natural(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None
