"""Reading a ledger back: its lines, where it ends, and whether the signing state fits that end."""

import json
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from agent.core.trust import decode_base64url
from agent.logformat.layout import LEDGER_LABEL, LEDGER_SIG, MAX_LEDGER_LINE_BYTES
from agent.logformat.suites import suite_by_number
from agent.recorder.sealed.state import End, Slot

WINDOW_BYTES: Final = 4 * MAX_LEDGER_LINE_BYTES
"""What is read of a ledger to open it; damage further up is for verification to find."""
_ENDINGS: Final = (b"", b"}", b'"}')
"""What may be missing of a torn line whose signature is whole."""
_SUITE_OF_KEY: Final = {32: 1, 65: 2}
"""Bytes of `next_pk` → the suite that the line is hashed by (README, "Suites")."""
MAX_N: Final = 1 << 53
"""A larger number of an entry was not counted up to, and the state would not hold it."""
STEP: Final = 256
"""Every so many-th entry's place is remembered, at first."""
MAX_MARKS: Final = 4096
"""Places remembered; beyond it every other one is forgotten."""

_ASIDE: Final = re.compile(r"ledger-([1-9]\d*)\.jsonl")
_NUMBER: Final = re.compile(rb'\{"v":1,"robot":"[^"]*","n":(\d{1,19}),')


@dataclass(frozen=True, slots=True)
class Line:
    """One line of right form; nothing is verified. `message`: what its signature covers."""

    n: int
    fields: Mapping[str, Any]
    next_pk: bytes
    message: bytes
    sig: bytes


def parse_line(data: bytes) -> Line | None:
    """A line without its newline; None for what is none, whatever the bytes are."""
    try:
        fields = json.loads(data)
        signed = data[: data.rindex(LEDGER_SIG)]
        n, body, wall = fields["n"], fields["body"], fields["wall"]
        keys = decode_base64url(fields["next_pk"]), decode_base64url(fields["sig"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(n) is not int or type(wall) is not int or not isinstance(body, dict) or None in keys:
        return None
    if not 0 <= n < MAX_N:
        return None
    return Line(n, fields, keys[0] or b"", LEDGER_LABEL + signed, keys[1] or b"")


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a file of `size` bytes.

    `lines`: (offset, bytes without the newline), in order, the last `WINDOW_BYTES` of them. `rest`: what
    follows the last newline.
    """

    size: int
    lines: Sequence[tuple[int, bytes]]
    rest: bytes

    @property
    def last(self) -> tuple[Line, bytes] | None:
        """The last line that is of right form."""
        parsed = ((parse_line(data), data) for _, data in reversed(self.lines))
        return next(((line, data) for line, data in parsed if line is not None), None)


def read_tail(fd: int) -> Tail:
    """OSError when it cannot be read."""
    size = os.fstat(fd).st_size
    start = max(0, size - WINDOW_BYTES)
    data = os.pread(fd, WINDOW_BYTES, start)
    if start:
        first = data.find(b"\n") + 1
        start, data = start + first, data[first:]
    *pieces, rest = data.split(b"\n")
    lines = []
    for piece in pieces:
        lines.append((start, piece))
        start += len(piece) + 1
    return Tail(size, lines, rest)


@dataclass(frozen=True, slots=True)
class Due:
    """`slot` is the key of the entry after `line`, which ends, its newline included, at offset `end`.

    `missing`: bytes that are yet to be written before `end`.
    """

    slot: Slot
    line: bytes
    end: int
    missing: bytes = b""


def judge(tail: Tail, slots: Sequence[Slot]) -> Due | End:
    """How to go on, or which end to begin anew from and why; SuiteError where a suite is not to be had."""
    due = next(_due(tail, slots), None)
    if due is not None and _works(due) and not _goes_on(tail, due):
        return due
    return _mismatch(tail, slots, due)


def _due(tail: Tail, slots: Sequence[Slot]) -> Iterator[Due]:
    """By its hash alone: a slot knows which line it follows, and only we write slots."""
    at = tail.size - len(tail.rest)
    for ending in _ENDINGS:
        line = tail.rest + ending
        for slot in _after(line, slots):
            yield Due(slot, line, at + len(line) + 1, ending + b"\n")
    for at, line in reversed(tail.lines):
        for slot in _after(line, slots):
            yield Due(slot, line, at + len(line) + 1)


def _after(line: bytes, slots: Sequence[Slot]) -> Iterator[Slot]:
    return (slot for slot in slots if slot.n and suite_by_number(slot.suite).hash(line) == slot.before.hash)


def _works(due: Due) -> bool:
    """Whether the key is the one that the line promised."""
    line, suite = parse_line(due.line), suite_by_number(due.slot.suite)
    return line is not None and suite.verify(line.next_pk, b"", suite.sign(due.slot.private, b""))


def _goes_on(tail: Tail, due: Due) -> bool:
    """Whether an entry by this very key stands after it: then the state was rolled back."""
    promised = parse_line(due.line)
    following = next((parse_line(data) for at, data in tail.lines if at == due.end), None)
    if promised is None or following is None:
        return False
    suite = suite_by_number(due.slot.suite)
    return suite.verify(promised.next_pk, following.message, following.sig)


def _mismatch(tail: Tail, slots: Sequence[Slot], due: Due | None) -> End:
    last = tail.last
    if not slots:
        return _end_of(last, "state_lost")
    ahead = lost(slots, "ledger_damaged")
    if ahead is not None and (last is None or ahead.n > last[0].n):
        return ahead  # cut off: what the state knows of the end is more than the file does
    damaged = last is None or not tail.lines or parse_line(tail.lines[-1][1]) is None
    altered = due is None and last is not None and any(slot.n == last[0].n + 1 for slot in slots)
    return _end_of(last, "ledger_damaged" if damaged or altered else "state_mismatch")


def _end_of(last: tuple[Line, bytes] | None, reason: str) -> End:
    if last is None:
        return End(reason=reason)
    line, data = last
    suite = suite_by_number(_SUITE_OF_KEY.get(len(line.next_pk), 1))
    return End(line.n, suite.hash(data), reason)


def lost(slots: Sequence[Slot], reason: str) -> End | None:
    """The end of a ledger that only the state still knows; None when it knows of no entry."""
    before = slots[-1].before if slots and slots[-1].n else None  # the oldest key: its line is on the disk
    return None if before is None else End(before.n, before.hash, reason)


class Places:
    """Where every so many-th entry begins: at most MAX_MARKS of them, ascending."""

    def __init__(self) -> None:
        self._numbers = [0]
        self._offsets = [0]
        self._step = STEP

    def note(self, n: int, offset: int) -> None:
        """Entry `n` begins at `offset`."""
        if n % self._step or n <= self._numbers[-1]:
            return
        self._numbers.append(n)
        self._offsets.append(offset)
        if len(self._numbers) > MAX_MARKS:
            del self._numbers[1::2], self._offsets[1::2]
            self._step *= 2

    def lines_after(
        self, n: int, file: BinaryIO, end: Callable[[], tuple[int, int]]
    ) -> Iterator[tuple[int, bytes]]:
        """(number, line) of the entries after `n`; `end()`: how far they go, as bytes of `file` and a number.

        A line that cannot be read as an entry is given as it is, numbered by its place.
        """
        at = max(0, bisect_right(self._numbers, n + 1) - 1)
        number, offset = self._numbers[at] - 1, self._offsets[at]
        file.seek(offset)
        while offset < end()[0] and (line := file.readline()):
            found = _NUMBER.match(line)
            number = int(found[1]) if found and int(found[1]) <= end()[1] else number + 1
            self.note(number, offset)
            offset += len(line)
            if number > n:
                yield number, line.removesuffix(b"\n")


def set_aside(folder: Path) -> list[Path]:
    """The ledgers of a folder that were broken off, oldest first. OSError."""
    found = {int(name[1]): path for path in folder.iterdir() if (name := _ASIDE.fullmatch(path.name))}
    return [found[k] for k in sorted(found)]


def next_aside(folder: Path) -> str:
    """The name that the next one gets. OSError."""
    last = set_aside(folder)[-1:]
    return f"ledger-{1 + int(last[0].stem.removeprefix('ledger-')) if last else 1}.jsonl"
