"""`RecorderService`: takes events from the modules, commits them in groups, acknowledges.

Events of `safety` that arrive in one turn of the loop are written and synced once, then acknowledged; those
of `net` and `tele` wait a little for company, and go with the first commit there is. While the log cannot be
written nothing is acknowledged: the senders keep their events, this process keeps the few that are on their
way (at most `MAX_QUEUED` per source), and the write is tried again with bounded back-off.
"""

import asyncio
import errno
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.events import MAX_RECORD, STREAMS, WINDOW, json_able
from agent.link import MAX_MODULE_PACKET, Connection, Message, Server
from agent.recorder.log import LogError, Record, StreamLog
from agent.recorder.packets import BadPackets, is_boot, read_record

SOURCE = "recorder"
"""The source of the recorder's own records."""
MAX_QUEUED = 4 * WINDOW
"""Events of one source that are not yet on disk. A sender that waits for its acknowledgements has a quarter
of it at most; the rest is for a module that was restarted while nothing could be written."""
MAX_PACKET = MAX_MODULE_PACKET
"""Bytes: a ledger's line goes out whole."""
MAX_EVENT = 2 * MAX_RECORD
"""Bytes of an event that comes in. Less than a packet may have, since MAX_QUEUED of them may wait."""
COMMIT_WITHIN_S = {"safety": 0.0, "net": 1.0, "tele": 10.0}
"""LOG, "Rules": `safety` at once (group commit), `net` within 1 s, `tele` within 10 s."""
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0
"""A disk somebody has just made room on is noticed within this."""
ACK_RETRY_S = 0.1
"""Until an acknowledgement is tried again that a sender, frozen perhaps, had no room for."""

Sender = tuple[str, str]
"""(source, boot)."""
Answer = Callable[[], Mapping[str, object]]
Handler = Callable[[Connection, Message], None]


class RecorderService:
    """The recorder's end of `recorder.sock`.

    `trouble`: why the log cannot be written just now, None while it can. The counters run since this
    process started; `figures` puts them together with the log's totals. `on_written`, `admits`, `on_hello`
    and `on_ended` are the module's, set before `start`.
    """

    def __init__(  # noqa: PLR0913 - all by keyword, and each is one decision of the module's
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        socket_path: Path,
        log: StreamLog,
        boot: str,
        allowed_uids: frozenset[int],
        peers: Mapping[str, frozenset[str]],
        may_claim: Callable[[str, int], bool] = lambda role, uid: True,  # noqa: ARG005
        answers: Mapping[str, Answer] | None = None,
        handlers: Mapping[str, Handler] | None = None,
        clock: Callable[[], str] = lambda: "x",
        on_trouble: Callable[[str | None], None] = lambda trouble: None,  # noqa: ARG005
        longest_wait_s: float = COMMIT_WITHIN_S["tele"],
        mode: int = 0o660,
    ) -> None:
        """`boot`: 32 hex digits of this start; `peers`: role -> message types it may send here.

        `may_claim(role, uid)`: whether that user may say hello as that role. `answers`: message type ->
        the fields of its answer; `metrics` and `status` have `figures` until the module gives its own.
        `handlers`: message type -> what is done with it. `clock`: the wall clock's state, beside each record.
        `on_trouble`: called with words when writing begins to fail, with None when it works again.
        `longest_wait_s`: no event waits longer for its commit.
        """
        self.trouble: str | None = None
        self.full = False
        """In trouble for want of room."""
        self.write_errors = 0
        self.refused = 0
        self.duplicates = 0
        self.last_commit_wall_ns = 0
        self.lost = dict.fromkeys(STREAMS, 0)
        self.on_written: Callable[[Sequence[Record]], None] = _nothing
        self.admits: Callable[[str], bool] = _always
        """Whether a record of this stream is kept now; one that is not is counted, and acknowledged too."""
        self.on_hello: Callable[[Connection], None] = _nothing
        self.on_ended: Callable[[Connection], None] = _nothing
        self._loop = loop
        self._log = log
        self._boot = boot
        self._answers: dict[str, Answer] = {"metrics": self.figures, "status": self.figures}
        self._answers.update(answers or {})
        self._handlers: dict[str, Handler] = {"event": self._event, **(handlers or {})}
        heard = frozenset({*self._handlers, *self._answers})
        self._permitted = {role: types & heard for role, types in peers.items()}
        self._may_claim = may_claim
        self._on_trouble = on_trouble
        self._clock = clock
        self._within_s = {stream: min(wait_s, longest_wait_s) for stream, wait_s in COMMIT_WITHIN_S.items()}
        self._numbers = itertools.count(1)
        self._boots: dict[Connection, str] = {}
        self._queue: list[Record] = []
        self._queued: dict[Sender, int] = {}
        self._acked: dict[Sender, int] = {}
        self._waiting: Counter[str] = Counter()
        self._owed: set[Connection] = set()
        self._commit_handle: asyncio.TimerHandle | None = None
        self._retrying = False
        self._ack_handle: asyncio.TimerHandle | None = None
        self._bad = BadPackets(loop, self._note_bad)
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
            on_bad=self.refuse,
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

    def note(self, kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
        """Records an event of the recorder itself; as `EventSink.emit` does."""
        if self._closed or self._waiting[SOURCE] >= MAX_QUEUED:
            self.lost[stream] += 1
            return
        self._note(kind, body, stream=stream)

    def _note(self, kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        seq, plain = next(self._numbers), {key: json_able(value, 1) for key, value in body.items()}
        self._queue.append(
            Record(SOURCE, self._boot, seq, stream, kind, time.time_ns(), now_ns, plain, self._clock())
        )
        self._waiting[SOURCE] += 1
        self._commit_within(self._within_s[stream])

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
            self.refuse(f"{connection.role} (uid {connection.peer_uid}): message not permitted")
        elif kind in self._handlers:
            self._handlers[kind](connection, message)
        else:
            connection.send({"type": kind, **self._answers[kind]()})

    def _ended(self, connection: Connection) -> None:
        boot = self._boots.pop(connection, None)
        if boot is not None:
            self._acked.pop((connection.role, boot), None)
        self._owed.discard(connection)
        self.on_ended(connection)

    def _cut_off(self, connection: Connection, reason: str) -> None:
        self.refuse(f"{connection.role or 'unknown'} (uid {connection.peer_uid}): {reason}")
        connection.close()
        self._ended(connection)

    def refuse(self, reason: str) -> None:
        """Counts a packet that is not taken, and records it at a bounded rate."""
        self.refused += 1
        self._bad.add(reason)

    def _hello(self, connection: Connection, message: Message) -> None:
        boot, role = message.get("boot"), connection.role
        if not is_boot(boot) or self._boots.get(connection, boot) != boot:
            self._cut_off(connection, "boot refused")
        elif role == SOURCE or role not in self._permitted or not self._may_claim(role, connection.peer_uid):
            self._cut_off(connection, "role refused")
        else:
            self._boots[connection] = str(boot)
            self._owe(connection, 0.0)  # tells a sender that comes back what it need not repeat
            self.on_hello(connection)

    def _event(self, connection: Connection, message: Message) -> None:
        record = read_record((connection.role, self._boots[connection]), message, self._clock())
        if record is None or connection.packet_bytes > MAX_EVENT:
            self.refuse(f"{connection.role} (uid {connection.peer_uid}): malformed event")
            return
        last = self._last((record.source, record.boot))
        if record.seq <= last:
            self.duplicates += 1
            self._owe(connection, 0.0)
        elif self._log.has(record):  # of a commit that a kill cut short between two streams
            self.duplicates += 1
            self._queued[record.source, record.boot] = record.seq
            self._owe(connection, 0.0)
        elif self._waiting[record.source] >= MAX_QUEUED:
            self._cut_off(connection, f"more than {MAX_QUEUED} events unacknowledged")
        else:
            self._take(record, last)
            self._owe(connection, self._within(record))

    def _last(self, sender: Sender) -> int:
        """The last number that is kept, or on its way to be."""
        return self._queued.get(sender) or self._kept(sender)

    def _kept(self, sender: Sender) -> int:
        return self._acked.get(sender) or self._log.last_seq(*sender)

    def _within(self, record: Record) -> float:
        """A sender with half its window unacknowledged waits for nobody's company."""
        return 0.0 if self._waiting[record.source] >= WINDOW // 2 else self._within_s[record.stream]

    def _take(self, record: Record, last: int) -> None:
        sender = (record.source, record.boot)
        self._note_gap(sender, last + 1, record.seq - 1)
        self._queued[sender] = record.seq
        if self.admits(record.stream):
            self._queue.append(record)
            self._waiting[record.source] += 1
        else:
            self.lost[record.stream] += 1

    def _note_gap(self, sender: Sender, first: int, last: int) -> None:
        """Numbers missing on arrival never reached us; said, so that a reader can tell that from a cut."""
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

    def _owe(self, connection: Connection, within_s: float) -> None:
        self._owed.add(connection)
        self._commit_within(within_s)

    def _commit_within(self, wait_s: float) -> None:
        """The earliest wish counts. While a retry waits none does: a full disk is not asked per event."""
        if self._retrying:
            return
        due_s = self._loop.time() + wait_s
        if self._commit_handle is not None:
            if self._commit_handle.when() <= due_s:
                return
            self._commit_handle.cancel()
        self._commit_handle = self._loop.call_at(due_s, self._commit)

    def _commit(self) -> None:
        if self._commit_handle is not None:
            self._commit_handle.cancel()
        self._commit_handle = None
        self._retrying = False
        try:
            self._log.append(self._queue, self._queued)
        except LogError as error:
            self._failed(error)  # and whoever is owed an acknowledgement stays so
        else:
            self._written()
            self._acknowledge()

    def _written(self) -> None:
        here = {(connection.role, boot) for connection, boot in self._boots.items()}
        self._acked.update({sender: seq for sender, seq in self._queued.items() if sender in here})
        self._queued.clear()
        if not self._queue:
            return
        written, self._queue = self._queue, []
        self._waiting.clear()
        for record in written:
            self._count_loss(record)
        self.last_commit_wall_ns = time.time_ns()
        if self.trouble is not None:
            self._recovered(self.trouble)
        self.on_written(written)

    def _count_loss(self, record: Record) -> None:
        """Only the sender knows which stream it lost from; the recorder's own `loss` records name none."""
        stream, count = record.body.get("stream"), record.body.get("count")
        named = record.kind == "loss" and isinstance(stream, str) and stream in self.lost
        if named and type(count) is int and count > 0:
            self.lost[str(stream)] += count

    def _failed(self, error: LogError) -> None:
        self.write_errors += 1
        self.full = error.errno == errno.ENOSPC
        if self.trouble is None:
            self.trouble = str(error)
            self._trouble_since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self._on_trouble(self.trouble)
        self._retrying = True
        self._commit_handle = self._loop.call_later(self._retry_s, self._commit)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _recovered(self, trouble: str) -> None:
        lasted_ms = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._trouble_since_ns) // 1_000_000
        self.trouble, self.full = None, False
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
        seq = self._kept((connection.role, self._boots[connection]))
        return not seq or connection.send({"type": "ack", "seq": seq}) or connection.closed


def _nothing(_: object) -> None:
    """Until the module says what is to be done."""


def _always(_: str) -> bool:
    """Until the module says what there is room for."""
    return True
