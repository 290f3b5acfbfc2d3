"""`SealedLog`: the streams of one folder behind `agent.recorder.log.StreamLog`."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from agent.logformat.layout import STREAMS
from agent.recorder.log import Head, LogError, Record, Recovered, StreamTotals
from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.folder import open_folder, open_locked
from agent.recorder.sealed.marks import Marks
from agent.recorder.sealed.packing import Pack, Sender
from agent.recorder.sealed.parts import Clocks, LedgerSink, Sealing, Tools
from agent.recorder.sealed.recover import Recovery, Tail
from agent.recorder.sealed.stream import EIO_TRIES, Stream
from agent.recorder.sealed.told import ledger_entries


class SealedLog:
    """Fills `agent.recorder.log.StreamLog`. One process per folder, held by a lock on the folder."""

    def __init__(
        self,
        folder: Path,
        sealing: Sealing,
        ledger: LedgerSink,
        *,
        folder_fd: int | None = None,
        disk: Disk | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        """Opens or creates the folder (0700) and ends what an earlier process left open.

        `ledger`: of the same folder, itself already repaired; `folder_fd`: of a folder that the caller holds
        locked, and goes on to; `disk` and `clocks` are for tests. Raises LogError when the folder cannot be
        used or another process holds it; never for what is in it.
        """
        self.folder = folder
        self.recovered: tuple[Recovered, ...] = ()
        self._fds: list[int] = []
        self._streams: dict[str, Stream] = {}
        try:
            self._tools = Tools(sealing, ledger, disk or Disk(), clocks or Clocks())
            self._fds.append(open_locked(folder) if folder_fd is None else os.dup(folder_fd))
            self._open()
        except OSError as error:
            self._close_files()
            raise LogError(folder, f"folder cannot be used: {error.strerror}", error.errno or 0) from error
        except BaseException:
            self._close_files()
            raise

    def _open(self) -> None:
        for name in STREAMS:
            folder = self.folder / name
            fd = open_folder(folder)
            self._fds.append(fd)
            recover = partial(self._recover, name, folder, fd)
            self._streams[name] = Stream(name, folder, fd, self._tools, recover)
        tails = {name: stream.tail for name, stream in self._streams.items()}
        self.recovered = tuple(found for tail in tails.values() for found in tail.recovered)
        self._marks = Marks(
            self._tools.disk, self._fds[0], lambda stream, segno, index: tails[stream].whole(segno, index)
        )
        for stream in self._streams.values():
            stream.prepare()

    def _recover(self, stream: str, folder: Path, fd: int) -> Tail:
        """An error of the disk that passes is not worth a segment without its seal."""
        for _ in range(EIO_TRIES):
            tail = Recovery(stream, folder, fd, self._tools, ledger_entries(self.folder)).run()
            if not tail.failed:
                break
        return tail

    # ---- writing

    def append(self, records: Sequence[Record], settled: Mapping[Sender, int] | None = None) -> None:
        """See `StreamLog`. A record that cannot be sealed is a fault of the caller's: LogError, errno 0."""
        if not self._fds:
            raise LogError(self.folder, "closed")
        batches = self._packed(records)
        if settled is None:
            settled = _largest(records)
        done: list[tuple[Stream, Sequence[Record]]] = []
        try:
            for left, (stream, part, packs) in zip(range(len(batches) - 1, -1, -1), batches, strict=True):
                stream.append(packs, part, self._marks, {} if left else settled)
                done.append((stream, part))
        except LogError:
            for stream, part in done:
                stream.hold(part)
            raise

    def _packed(self, records: Sequence[Record]) -> list[tuple[Stream, Sequence[Record], list[Pack]]]:
        """By stream, `safety` first; before anything is written, so that a refused record refuses all."""
        parts: dict[str, list[Record]] = {}
        for record in records:
            parts.setdefault(record.stream, []).append(record)
        if not parts.keys() <= self._streams.keys():
            raise LogError(self.folder, "record refused: no such stream")
        streams = [stream for name, stream in self._streams.items() if name in parts]
        return [(stream, parts[stream.name], stream.pack(parts[stream.name])) for stream in streams]

    def last_seq(self, source: str, boot: str) -> int:
        """See `Log`: up to which `seq` of this sender everything was settled, with `append`'s word for it."""
        return self._marks.settled(source, boot)

    def has(self, record: Record) -> bool:
        """See `StreamLog`. Within a stream a sender's `seq` only grows."""
        return record.seq <= self._marks.last(record.source, record.boot, record.stream)

    # ---- segments

    def rotate_due(self, now_boottime_ns: int) -> None:
        """See `StreamLog`."""
        self._each(lambda stream: stream.rotate_due(now_boottime_ns))

    def change(self, recipients: Iterable[tuple[str, bytes]], opening: str) -> None:
        """Other recipients from the next record on, frames that wait excepted; LogError: but later."""
        self._tools.sealing = replace(self._tools.sealing, recipients=tuple(recipients), opening=opening)
        self._each(lambda stream: stream.rotate("recipients"))

    def _each(self, act: Callable[[Stream], None]) -> None:
        """Does it to every stream, and only then raises the first failure."""
        failures = []
        for stream in self._streams.values():
            try:
                act(stream)
            except LogError as error:
                failures.append(error)
            stream.prepare()
        if failures:
            raise failures[0]

    def heads(self) -> dict[str, Head]:
        """See `StreamLog`."""
        heads = {name: stream.head for name, stream in self._streams.items()}
        return {name: head for name, head in heads.items() if head is not None}

    @property
    def totals(self) -> dict[str, StreamTotals]:
        """By stream, of the segments that are there; a stream that holds nothing has no row."""
        totals = {name: stream.totals for name, stream in self._streams.items()}
        return {name: total for name, total in totals.items() if total.records}

    def forget(self, stream: str, segno: int) -> None:
        """A segment was deleted: it counts no longer."""
        self._streams[stream].forget(segno)

    def close(self) -> None:
        """Seals what is open, if the disk lets us, and releases the folder; idempotent."""
        for stream in self._streams.values():
            stream.close()
        if self._fds:
            self._marks.close()
        self._close_files()

    def _close_files(self) -> None:
        for fd in reversed(self._fds):
            with suppress(OSError):
                os.close(fd)
        self._fds = []


def _largest(records: Sequence[Record]) -> dict[Sender, int]:
    found: dict[Sender, int] = {}
    for record in records:
        sender = (record.source, record.boot)
        found[sender] = max(record.seq, found.get(sender, 0))
    return found
