"""Who has sent what: a small file that outlives a killed recorder, which cannot read its own log.

Two slots are written in turn, each a length, CRC-32, generation and JSON: `tags`, stream → [segno,
frame_idx]; `senders`, rows [source, boot, settled, [last seq of each stream]]. A slot is written just before
its frame and never synced; it counts only if every frame that it is tagged with is whole in the log, so that
it cannot promise what is not there.

A kill leaves the kernel's pages, so nothing is forgotten. A power cut may take the file; it takes every
sender too, whose next boot has another name. What is forgotten is written twice, never lost.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final
from zlib import crc32

from agent.logformat.layout import STREAMS
from agent.recorder.sealed.disk import Disk, write_all
from agent.recorder.sealed.folder import exists
from agent.recorder.sealed.packing import Sender
from agent.recorder.sealed.parts import compact, natural, parsed

MARKS_FILE: Final = "marks"
SLOT_BYTES: Final = 131_072
"""Of each slot: some 1,200 senders; those heard longest ago are left out beyond."""
MAX_BOOTS: Final = 64
"""Starts of one source that are remembered; so no source can push another's out."""

_SLOT: Final = struct.Struct("<IIQ")
"""length of the JSON, crc32 of the rest of the slot, generation."""

Tag = tuple[int, int]
"""(segno, frame_idx)."""
Whole = Callable[[str, int, int], bool]
"""Whether frame `frame_idx` of segment `segno` of a stream is in the log."""


class _Row:
    """One sender: `settled`, the seq up to which all is on disk; `last`: the last seq of each stream."""

    __slots__ = ("last", "settled", "text")

    def __init__(self, sender: Sender, settled: int, last: Mapping[str, int]) -> None:
        self.settled = settled
        self.last = last
        self.text = compact([*sender, settled, [last.get(stream, 0) for stream in STREAMS]])


class Marks:
    """The senders as of the last frame that is on disk; `stage` one more frame, write it, then `confirm`."""

    def __init__(self, disk: Disk, folder_fd: int, whole: Whole) -> None:
        """Reads what a process before has left; raises nothing."""
        self._disk = disk
        self._folder_fd = folder_fd
        self._rows: dict[str, dict[str, _Row]] = {}
        self._tags: dict[str, Tag] = {}
        self._staged: tuple[dict[str, Tag], dict[Sender, _Row]] = ({}, {})
        self._slot = 0
        self._generation = 0
        self._fd = -1
        with suppress(OSError):  # what cannot be opened now is tried again at the next frame
            self._open()
            self._load(whole)

    def _open(self) -> None:
        there = exists(MARKS_FILE, self._folder_fd)
        self._fd = (self._disk.open if there else self._disk.create)(MARKS_FILE, self._folder_fd)

    def settled(self, source: str, boot: str) -> int:
        """0 for one never seen."""
        row = self._rows.get(source, {}).get(boot)
        return row.settled if row else 0

    def last(self, source: str, boot: str, stream: str) -> int:
        """The last seq on disk in that stream; 0 when there is none."""
        row = self._rows.get(source, {}).get(boot)
        return row.last.get(stream, 0) if row else 0

    def stage(self, stream: str, tag: Tag, seqs: Mapping[Sender, int], settled: Mapping[Sender, int]) -> None:
        """Writes what will hold once frame `tag` is whole. `seqs`: each sender's largest up to that frame.

        A slot that was not confirmed is written over: the other one always holds what is on disk.
        """
        rows = {
            sender: self._next_row(sender, stream, seqs.get(sender, 0), settled.get(sender, 0))
            for sender in {**seqs, **settled}
        }
        tags = {**self._tags, stream: tag}
        self._staged = (tags, rows)
        with suppress(OSError):  # a slot too old costs duplicates, not records
            if self._fd < 0:
                self._open()
            write_all(self._disk, self._fd, self._slot_bytes(tags, rows), self._slot * SLOT_BYTES)

    def _next_row(self, sender: Sender, stream: str, seq: int, settled: int) -> _Row:
        old = self._rows.get(sender[0], {}).get(sender[1])
        last = dict(old.last) if old else {}
        last[stream] = max(seq, last.get(stream, 0))
        return _Row(sender, max(settled, old.settled if old else 0), last)

    def confirm(self) -> None:
        """The staged frame is on disk."""
        self._tags, rows = self._staged
        for (source, boot), row in rows.items():
            self._put(source, boot, row)
        self._slot = 1 - self._slot

    def _put(self, source: str, boot: str, row: _Row) -> None:
        boots = self._rows.setdefault(source, {})
        boots.pop(boot, None)
        boots[boot] = row  # at the end: the boot heard longest ago makes room
        if len(boots) > MAX_BOOTS:
            del boots[next(iter(boots))]

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    # ---- the file

    def _slot_bytes(self, tags: Mapping[str, Tag], rows: Mapping[Sender, _Row]) -> bytes:
        self._generation += 1
        room = SLOT_BYTES - 1_024
        texts = []
        for text in self._newest_first(rows):
            room -= len(text) + 1
            if room < 0:
                break
            texts.append(text)
        texts.reverse()  # read again, they come in the order in which they make room
        data = b'{"tags":' + compact(tags) + b',"senders":[' + b",".join(texts) + b"]}"
        rest = self._generation.to_bytes(8, "little") + data
        return _SLOT.pack(len(data), crc32(rest), self._generation) + data

    def _newest_first(self, rows: Mapping[Sender, _Row]) -> Iterator[bytes]:
        for row in reversed(list(rows.values())):
            yield row.text
        for source, boots in self._rows.items():
            for boot, row in reversed(boots.items()):
                if (source, boot) not in rows:
                    yield row.text

    def _load(self, whole: Whole) -> None:
        slots = sorted(filter(None, map(self._read, (0, 1))), reverse=True)
        for generation, slot, data in slots:
            self._generation = max(self._generation, generation)
            if self._adopt(data, whole):
                self._slot = 1 - slot
                return

    def _read(self, slot: int) -> tuple[int, int, bytes] | None:
        """(generation, slot, JSON)."""
        with suppress(OSError):
            raw = os.pread(self._fd, SLOT_BYTES, slot * SLOT_BYTES)
            if len(raw) >= _SLOT.size:
                length, crc, generation = _SLOT.unpack_from(raw)
                rest = raw[_SLOT.size - 8 : _SLOT.size + length]
                if length and crc32(rest) == crc:
                    return generation, slot, rest[8:]
        return None

    def _adopt(self, data: bytes, whole: Whole) -> bool:
        try:
            told = parsed(data)
            tags = {
                stream: (natural(segno), natural(index)) for stream, (segno, index) in told["tags"].items()
            }
            rows = [_row(*row) for row in told["senders"]]
            if not tags.keys() <= set(STREAMS):
                return False
        except (ValueError, KeyError, TypeError, AttributeError):
            return False  # the sum is right, so somebody wrote this on purpose
        if not all(whole(stream, *tag) for stream, tag in tags.items()):
            return False
        self._tags = tags
        for (source, boot), row in rows:
            self._put(source, boot, row)
        return True


def _row(source: object, boot: object, settled: object, last: Iterable[object]) -> tuple[Sender, _Row]:
    """As it was read; ValueError or TypeError for what we would not have written."""
    sender, seqs = (str(source), str(boot)), map(natural, last)
    return sender, _Row(sender, natural(settled), dict(zip(STREAMS, seqs, strict=True)))
