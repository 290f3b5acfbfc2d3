"""One stream: frames into segments, rotation, and what is done when the disk refuses (LOG, "Rules")."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent.logformat.suites import SuiteError
from agent.recorder.log import Head, LogError, Record, StreamTotals
from agent.recorder.sealed.marks import Marks
from agent.recorder.sealed.opened import SEAL_ROOM, OpenSegment, has_spare, make_spare
from agent.recorder.sealed.packing import Compressor, Key, Pack, PackingError, Sender, key_of, pack
from agent.recorder.sealed.parts import PREZEROED, Figures, Tools
from agent.recorder.sealed.recover import Tail
from agent.recorder.sealed.segment import Place

EIO_TRIES: Final = 3
"""Attempts in a row that a segment may fail with EIO before it is given up for a new one."""


class Stream:
    """The frames of one stream. Nothing is sealed twice: `_queue` holds what was accepted and is not on disk.

    Of its packs the first `waiting` of the open segment are sealed, and wait there as they will be written.
    """

    def __init__(
        self, name: str, folder: Path, folder_fd: int, tools: Tools, recover: Callable[[], Tail]
    ) -> None:
        """`recover`: looks through the folder, and once more where it could not put all in order."""
        self.name = name
        self._recover = recover
        self._folder = folder
        self._folder_fd = folder_fd
        self._tools = tools
        self.tail = recover()
        self._segno = 0
        self._next_seq = 1
        self._prev_seal = ""
        self._figures: dict[int, Figures] = {}
        self._adopt(self.tail)
        self._open: OpenSegment | None = None
        self._queue: list[Pack] = []
        self._held: set[Key] = set()
        self._due = ""
        """Why the open segment has to end as soon as it can."""
        self._eio = 0
        self._compressor = Compressor()

    # ---- appending

    def pack(self, records: Sequence[Record]) -> list[Pack]:
        """The frames that these need, less what an earlier attempt took; LogError for a bad record."""
        fresh = [record for record in records if key_of(record) not in self._held] if self._held else records
        compressed = self.name in self._tools.sealing.compress
        try:
            return pack(fresh, self._compressor if compressed else None)
        except PackingError as error:
            raise LogError(self._folder, f"record refused: {error.reason}") from error

    def append(
        self, packs: Sequence[Pack], records: Sequence[Record], marks: Marks, settled: Mapping[Sender, int]
    ) -> None:
        """Puts the packs of these records on disk, after what still waits. LogError: `hold` has kept them."""
        self._queue += packs
        try:
            with self._errors():
                self._drain(marks, settled)
        except LogError:
            self.hold(records)
            raise
        if self._held:
            self._held.difference_update(map(key_of, records))

    def hold(self, records: Iterable[Record]) -> None:
        """Remembers that these were taken, so that the repetition of a failed batch writes none twice."""
        self._held.update(map(key_of, records))

    def _drain(self, marks: Marks, settled: Mapping[Sender, int]) -> None:
        while self._queue:
            segment = self._ready()
            for waiting in self._queue[segment.waiting :]:
                if not self._fits(segment, waiting):
                    break
                segment.add(waiting)
            if segment.waiting:
                self._commit(segment, marks, settled)
            else:
                self._finish(segment, "size")

    def _fits(self, segment: OpenSegment, frame: Pack) -> bool:
        """A segment takes one frame at least, however large."""
        room = self._tools.sealing.segment_bytes - SEAL_ROOM - segment.end
        return frame.size <= room or not segment.writer.point.frames

    def _commit(self, segment: OpenSegment, marks: Marks, settled: Mapping[Sender, int]) -> None:
        packs = self._queue[: segment.waiting]
        seqs: dict[Sender, int] = {}
        for part in packs:
            for sender, seq in part.seqs.items():
                seqs[sender] = max(seq, seqs.get(sender, 0))
        tag = (segment.place.segno, segment.writer.point.frames - 1)
        last = len(packs) == len(self._queue)
        marks.stage(self.name, tag, seqs, settled if last else {})
        segment.commit()
        marks.confirm()
        del self._queue[: len(packs)]
        self._eio = 0
        self._count(segment)

    def _count(self, segment: OpenSegment) -> None:
        figures = self._figures.setdefault(segment.place.segno, Figures(0, 0, segment.writer.wall_ns))
        figures.records, figures.bytes = segment.durable.records, segment.size

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What fails becomes LogError; a segment that goes on failing with EIO is given up on the way."""
        try:
            yield
        except SuiteError as error:
            raise LogError(self._folder, f"cannot be sealed: {error.reason}") from error
        except OSError as error:
            if error.errno == errno.EIO and self._open is not None:
                self._eio += 1
            path = self._open.path if self._open is not None else self._folder
            raise LogError(path, f"not written: {error.strerror}", error.errno or 0) from error

    # ---- segments

    def _ready(self) -> OpenSegment:
        """The segment that the next frame goes to, announced in the ledger."""
        if self._open is not None and self._open.announced and self._eio >= EIO_TRIES:
            self._give_up(self._open)
        if self._open is not None and (self._open.ending or (self._due and not self._open.waiting)):
            self._finish(self._open, self._due)
        if self._open is None:
            if self._unfinished is not None:
                self._adopt(self._recover())
            if self._unfinished is not None:
                raise self._unfinished
            place = Place(self.name, self._segno + 1, self._next_seq, self._prev_seal)
            self._open = OpenSegment(self._tools, self._folder, self._folder_fd, place)
            self._segno += 1
            self._eio = 0
        self._open.announce()
        return self._open

    def _adopt(self, tail: Tail) -> None:
        self._segno, self._next_seq, self._prev_seal = tail.segno, tail.next_seq, tail.prev_seal
        self._figures = dict(tail.figures)
        self._unfinished = tail.unfinished

    def _finish(self, segment: OpenSegment, reason: str) -> None:
        segment.finish(reason)
        self._prev_seal = segment.seal_hash
        self._leave(segment)

    def _give_up(self, segment: OpenSegment) -> None:
        """What waited in it is sealed again in the next one, under another key.

        A segment that cannot even be sealed is passed over: the ledger says how far it got, and the next
        start seals it. Records still to come weigh more than a verdict that is `incomplete` until then.
        """
        if not segment.give_up():
            segment.tell_recovery()
            segment.close()
            self._leave(segment)
        self._eio = 0

    def _leave(self, segment: OpenSegment) -> None:
        self._next_seq = segment.durable.next_seq
        self._count(segment)
        self._open = None
        self._due = ""
        self._eio = 0

    def rotate_due(self, now_ns: int) -> None:
        """Ends a segment that is old enough, or could not be ended when it should have been; LogError."""
        segment = self._open
        if segment is None:
            return
        size = self._tools.sealing.segment_bytes
        if now_ns - segment.writer.boottime_ns >= self._tools.sealing.segment_ns and (
            self.name not in PREZEROED or has_spare(size, self._folder_fd)
        ):
            self._due = self._due or "age"
        if segment.ending or self._due:
            self.rotate(self._due)

    def rotate(self, reason: str) -> None:
        """Ends the open segment, once no frame waits in it; LogError: it will be tried again."""
        if self._open is not None:
            self._due = self._due or reason
            if not self._open.waiting:
                with self._errors():
                    self._finish(self._open, self._due)

    def prepare(self) -> None:
        """A spare for a pre-zeroed stream where the disk has room for it twice; what fails is tried later."""
        disk, size = self._tools.disk, self._tools.sealing.segment_bytes
        if self.name in PREZEROED:
            with suppress(OSError):
                if disk.room(self._folder_fd) >= 2 * size:
                    make_spare(disk, size, self._folder_fd)

    def close(self) -> None:
        """Seals what is open, if the disk lets us; otherwise the next start does. Idempotent."""
        segment = self._open
        if segment is not None:
            with suppress(LogError):
                self.rotate("end")
            segment.close()
        self._open = None

    # ---- figures

    @property
    def head(self) -> Head | None:
        """None while no segment is open."""
        if self._open is None:
            return None
        at = self._open.durable
        return Head(self._open.place.segno, at.frames, at.next_seq, at.h.hex())

    @property
    def totals(self) -> StreamTotals:
        """Of all segments that are there."""
        held = [figures for figures in self._figures.values() if figures.records]
        return StreamTotals(
            sum(figures.records for figures in held),
            sum(figures.bytes for figures in held),
            held[0].wall_ns if held else 0,
        )

    def forget(self, segno: int) -> None:
        """A segment that was deleted counts no longer."""
        self._figures.pop(segno, None)
