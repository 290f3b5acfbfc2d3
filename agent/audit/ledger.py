"""The ledgers, line by line: form, number, chain, signature, and the story that they tell of the segments.

Signatures are yielded in batches, to be checked elsewhere (`check_signatures`); all else is done here.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from agent.audit import forms
from agent.audit.entry import Entry, parse_entry
from agent.audit.errors import FormatError
from agent.audit.findings import Finding
from agent.audit.folder import open_file
from agent.audit.orders import OrderKeys, check_ack, check_deletion, check_release
from agent.audit.report import Report
from agent.audit.story import Story
from agent.audit.witness import Lines, hash_fits, read_line
from agent.logformat.layout import MAX_LEDGER_LINE_BYTES, ZERO_HASH
from agent.logformat.suites import Suite, SuiteError, suite_by_number

BATCH: Final = 256
"""Signatures that are handed on together."""
WAIT_S: Final = 0.05
TRIES: Final = 20
"""How long the last line of a ledger that a recorder is writing may take to become whole."""
_KEY_BYTES: Final = {1: 32, 2: 65}
"""Of a ledger key, by suite."""


@dataclass(slots=True)
class Batch:
    """Signatures of one ledger to check. `rows`: suite, public key, message, signature, n, offset."""

    file: str
    rows: list[tuple[int, bytes, bytes, bytes, int, int]] = field(default_factory=list)


def check_signatures(batch: Batch) -> list[Finding]:
    """Those that are wrong."""
    return [
        Finding("ledger_signature", batch.file, offset, n)
        for number, key, message, signature, n, offset in batch.rows
        if not suite_by_number(number).verify(key, message, signature)
    ]


@dataclass(slots=True)
class Keys:
    """What tokens are checked with; None where the caller has none."""

    orders: OrderKeys | None = None
    witnesses: Mapping[str, bytes] | None = None


class LedgerReader:
    """Reads one ledger after the other. `findings`: (ledger, offset) → what is wrong there, in file order."""

    def __init__(self, folder: Path, report: Report, story: Story, keys: Keys, *, live: bool) -> None:
        self.findings: list[Finding] = []
        self.lines = Lines(folder)
        self.acked = -1
        self.suites: dict[int, Suite] = {}
        self._folder = folder
        self._report = report
        self._story = story
        self._keys = keys
        self._live = live
        self._suite: Suite | None = None
        self._key: bytes | None = None
        self._before = b""
        self._file = ""
        self._offset = 0
        self._n = -1
        self._batch = Batch("")

    @property
    def has_witness_keys(self) -> bool:
        """True when acknowledgements are checked against keys."""
        return self._keys.witnesses is not None

    def read(self, name: str, *, last: bool, told: Callable[[int], None]) -> Iterator[Batch]:
        """One ledger; OSError when it cannot be read. `told` gets the bytes read."""
        self._begin(name)
        with os.fdopen(open_file(self._folder / name), "rb") as file:
            for line, whole in self._read_lines(file, last=last):
                if whole:
                    self._line(line)
                elif line:
                    self._tell("ledger_torn", f"{len(line)} bytes")
                self._offset += len(line) + whole
                if len(self._batch.rows) >= BATCH:
                    told(self._offset)
                    yield self._take_batch()
        told(self._offset)
        yield self._take_batch()
        self._end()

    def _begin(self, name: str) -> None:
        self._file, self._offset, self._n = name, 0, -1
        self._batch = Batch(name)
        self._key, self._before = None, b""
        self.lines, self.acked = Lines(self._folder / name), -1

    def _end(self) -> None:
        self._story.end_ledger(self._offset)
        self._report.ledgers.append(self._file)
        self._report.head_n = self._n
        self._report.head_hash = self._suite.hash(self._before).hex() if self._suite else ""

    def _take_batch(self) -> Batch:
        batch, self._batch = self._batch, Batch(self._file)
        return batch

    def _read_lines(self, file: BinaryIO, *, last: bool) -> Iterator[tuple[bytes, bool]]:
        """Up to the size that the file has now: what is added meanwhile belongs to the next verification."""
        end = os.fstat(file.fileno()).st_size
        while file.tell() < end:
            start = file.tell()
            line, whole = read_line(file)
            for _ in range(TRIES if last and self._live and not whole else 0):
                time.sleep(WAIT_S)
                file.seek(start)
                line, whole = read_line(file)
                if whole:
                    break
            yield line, whole

    # ---- one line

    def _tell(self, kind: str, detail: str = "") -> None:
        self.findings.append(Finding(kind, self._file, self._offset, max(self._n, 0), detail))

    def _line(self, line: bytes) -> None:
        self._report.entries += 1
        self.lines.add(line, self._offset)
        try:
            entry = parse_entry(line)
        except FormatError as error:
            self._n += 1
            self._tell("ledger_form", error.reason)
            self._key = None
        else:
            self._chain(entry)
            self._story.take(entry, self._offset, self._tell)
            self._meaning(entry)
        self._before = line

    def _chain(self, entry: Entry) -> None:
        first = self._n < 0 and not self._before
        due, self._n = self._n + 1, entry.n
        if entry.n != due:
            self._tell("ledger_number", f"{entry.n} where {due} is due")
        if (entry.kind == "genesis") is not first:
            self._tell("ledger_order", "a genesis begins a ledger, and nothing else does")
        self._report.robot = self._report.robot or entry.robot
        if entry.kind == "genesis":
            self._genesis(entry)
        if entry.robot != self._report.robot:
            self._tell("ledger_robot", entry.robot)
        self._hash(entry, first=first)
        self._signature(entry)

    def _genesis(self, entry: Entry) -> None:
        self._key = forms.as_bytes(entry.body["pk"])
        if len(self._report.ledgers) > 0 or entry.body["previous"] is not None:
            self._tell("ledger_broken_off", _reason(entry.body["previous"]))
            self._previous(entry.body["previous"])
        self._change_suite(entry.body["suite"])
        if self._suite is not None and len(self._key or b"") != _KEY_BYTES.get(self._suite.number):
            self._tell("ledger_key", "pk")

    def _previous(self, told: Mapping[str, Any] | None) -> None:
        """The end of the ledger before, as its own last line has it (`head_*` are still its)."""
        report = self._report
        if told is None or (told["n"], told["hash"]) != (report.head_n, report.head_hash):
            self._tell("genesis_previous", f"found: entry {report.head_n}, {report.head_hash[:16]}…")

    def _change_suite(self, number: int) -> None:
        try:
            self._suite = suite_by_number(number)
        except SuiteError as error:
            self._suite = None
            self._tell("suite", f"{number}: {error.reason}")
        else:
            self.suites[number] = self._suite
        self._story.suite = number

    def _hash(self, entry: Entry, *, first: bool) -> None:
        if first:
            good = entry.prev_hash == ZERO_HASH
        else:
            good = self._suite is None or entry.prev_hash == self._suite.hash(self._before).hex()
        if not good:
            self._tell("ledger_chain")

    def _signature(self, entry: Entry) -> None:
        """Under the key that the entry before named; a changed suite holds for `next_pk` already."""
        if self._key is not None and self._suite is not None:
            row = (self._suite.number, self._key, entry.message, entry.sig, entry.n, self._offset)
            self._batch.rows.append(row)
        if entry.kind == "config" and entry.body["suite"] != self._story.suite:
            self._change_suite(entry.body["suite"])
        self._key = entry.next_pk
        if self._suite is not None and len(self._key) != _KEY_BYTES.get(self._suite.number):
            self._tell("ledger_key", "next_pk")

    # ---- what entries mean beyond the segments

    def _meaning(self, entry: Entry) -> None:
        body = {key: value for key, value in entry.body.items() if key not in ("order", "token")}
        self._report.note(entry.kind, {"n": entry.n, "wall": entry.wall, **body})
        if entry.kind == "clock.step":
            self._tell("clock_step", f"{entry.body['after_ns'] - entry.body['before_ns']:+d} ns")
        elif entry.kind == "loss":
            self._tell("loss", f"{entry.body['count']} of {entry.body['stream']}: {entry.body['reason']}")
        elif entry.kind == "witness.ack":
            self._ack(entry)
        elif entry.kind == "delete":
            self._ordered(check_deletion(entry.body, entry.robot, self._keys.orders))
        elif entry.kind == "hold" and "release" in entry.body:
            self._ordered(check_release(entry.body, entry.robot, self._keys.orders))

    def _ordered(self, trouble: tuple[str, str] | None) -> None:
        if trouble is not None:
            self._tell(*trouble)

    def _ack(self, entry: Entry) -> None:
        body = entry.body
        wrong = check_ack(body, entry.robot, self._keys.witnesses)
        if body["n"] >= self.lines.count - 1:
            wrong = "of an entry that was not written yet"
        elif not hash_fits(self.lines.get(body["n"]), body["hash"], self.suites):
            wrong = f"of another entry {body['n']}"
        if wrong:
            self._tell("witness_ack", wrong)
        else:
            self.acked = max(self.acked, body["n"])


def _reason(previous: Mapping[str, Any] | None) -> str:
    return str(previous["reason"]) if previous else "without a word about it"


def read_range(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The whole lines of a ledger between two offsets; `stop` -1: up to its end as it is now."""
    with os.fdopen(open_file(path), "rb") as file:
        end = stop if stop >= 0 else os.fstat(file.fileno()).st_size
        file.seek(start)
        while file.tell() < end:
            line, whole = read_line(file)
            if not whole:
                return
            if len(line) <= MAX_LEDGER_LINE_BYTES:
                yield line
