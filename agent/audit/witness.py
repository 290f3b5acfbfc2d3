"""The ledger beside what a witness took of it: the same lines, byte for byte (README, "Witness")."""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from agent.audit import forms
from agent.audit.errors import FormatError
from agent.audit.findings import Finding
from agent.audit.folder import open_file
from agent.logformat.layout import MAX_LEDGER_LINE_BYTES
from agent.logformat.suites import Suite

LINE_LIMIT: Final = MAX_LEDGER_LINE_BYTES + 2
"""Bytes read for one line, its newline and one byte too many included."""
_STEP: Final = 1024
_RECENT: Final = 256


def read_line(file: BinaryIO) -> tuple[bytes, bool]:
    """The next line without its newline, and whether there was one; of an overlong one only the beginning."""
    line = file.readline(LINE_LIMIT)
    if line.endswith(b"\n"):
        return line[:-1], True
    if len(line) < LINE_LIMIT:
        return line, False
    while (more := file.readline(LINE_LIMIT)) and not more.endswith(b"\n"):
        pass
    return line, bool(more)


class Lines:
    """Finds an earlier line of a ledger again: the last ones at once, others through an index.

    Memory: 8 bytes for 1024 lines, and at most 256 lines.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: list[int] = []
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        self.count = 0

    def add(self, line: bytes, offset: int) -> None:
        """The next line."""
        if self.count % _STEP == 0:
            self._offsets.append(offset)
        self._recent.append(line)
        self.count += 1

    def get(self, n: int) -> bytes:
        """Line `n`, counted from 0, which must have been added; OSError when it cannot be read again."""
        back = self.count - n
        if back <= len(self._recent):
            return self._recent[-back]
        with os.fdopen(open_file(self._path), "rb") as file:
            file.seek(self._offsets[n // _STEP])
            for _ in range(n % _STEP):
                read_line(file)
            return read_line(file)[0]

    def back(self, n: int) -> Iterator[bytes]:
        """Lines `n`, `n` - 1, … 0; a thousand of them are held at a time."""
        for step in range(min(n, self.count - 1) // _STEP, -1, -1):
            with os.fdopen(open_file(self._path), "rb") as file:
                file.seek(self._offsets[step])
                wanted = min(_STEP, n + 1 - step * _STEP)
                yield from reversed([read_line(file)[0] for _ in range(wanted)])


def hash_fits(line: bytes, told: str, suites: Mapping[int, Suite]) -> bool:
    """Whether `told` is the line's hash in one of the ledger's suites: at a change both have a claim."""
    return any(suite.hash(line).hex() == told for suite in suites.values())


def record_file(witness: Path, robot: str) -> Path:
    """The witness's record of one robot: the file itself, or the one in the folder of all robots' records."""
    return witness / f"{robot}.jsonl" if witness.is_dir() else witness


def compare(ledger: Path, record: Path) -> tuple[int, list[Finding]]:
    """The last entry that the ledger and the record have alike (-1: none), and where they part.

    Raises OSError when one of them cannot be read.
    """
    with os.fdopen(open_file(record), "rb") as taken, os.fdopen(open_file(ledger), "rb") as written:
        return _compare(written, taken, ledger.name)


def _compare(written: BinaryIO, taken: BinaryIO, name: str) -> tuple[int, list[Finding]]:
    last, findings = -1, []
    n = -1
    while True:
        line, whole = read_line(taken)
        if not line and not whole:
            break
        if not whole:
            findings.append(Finding("witness_torn", name, n=n + 1))
            break
        if n < 0 and (start := _number(line)) > 0:
            _skip(written, start)  # a witness that was set up later
            n = start - 1
        n += 1
        mine, mine_whole = read_line(written)
        if mine != line or not mine_whole:
            kind = "witness_differs" if mine_whole else "witness_cut"
            findings.append(Finding(kind, name, n=n, detail=_beyond(taken)))
            break
        last = n
    return last, findings


def _number(line: bytes) -> int:
    try:
        n: Any = forms.read_object(line).get("n")
    except FormatError:
        return 0
    return n if forms.is_int(n) else 0


def _skip(file: BinaryIO, lines: int) -> None:
    while lines and read_line(file)[1]:
        lines -= 1


def _beyond(taken: BinaryIO) -> str:
    more = 0
    while read_line(taken)[1]:
        more += 1
    return f"the witness holds {more} entries after it" if more else ""


def first_line(path: Path) -> bytes:
    """A ledger's or a record's first line."""
    with os.fdopen(open_file(path), "rb") as file:
        return read_line(file)[0]
