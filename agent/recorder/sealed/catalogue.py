"""What the ledger says of what is kept: segments with their times, holds, receipts, the end of service.

Entries come in order, first from the files, then as they are made. Where the files' chain of hashes does not
hold, a hold may have been lost: then everything is held until the department releases that too. Memory: a row
for each segment that is there, for each deletion not yet finished and for each witness, and the holds.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.logformat.layout import KINDS, MAX_LEDGER_LINE_BYTES, ZERO_HASH
from agent.logformat.suites import SuiteError, suite_by_number
from agent.recorder.sealed.holds import Holds
from agent.recorder.sealed.ledger import Entry
from agent.recorder.sealed.orders import Named
from agent.recorder.sealed.parts import parsed

S: Final = 1_000_000_000
MAX_WITNESSES: Final = 64
"""Whose newest receipt is remembered."""

_HEAD: Final = re.compile(
    rb'\{"v":1,"robot":"[^"]*","n":(\d{1,19}),"prev_hash":"([0-9a-f]{64})","boot_id":"[^"]*",'
    rb'"wall":(\d{1,19}),"boottime":\d+,"kind":"([a-z.]+)"'
)
"""n, prev_hash, wall and kind: most entries are of no other interest here, and are not parsed."""


@dataclass(slots=True)
class Kept:
    """One segment. Its records' wall times lie between two: all that the ledger shows while it was open.

    `witness_ns`: the newest witness time when it was sealed; it is no older, whatever the clock said. `seal`:
    "" while it is open.
    """

    from_ns: int
    to_ns: int
    witness_ns: int = 0
    seal: str = ""

    def add(self, *walls_ns: int) -> None:
        """These times are its too."""
        self.from_ns = min(self.from_ns, *walls_ns)
        self.to_ns = max(self.to_ns, *walls_ns)


class Catalogue:
    """`segments`: by (stream, segno). `deleting`: the same, deleted by the ledger, until someone sees to it.

    `receipts`: kid → body of the newest `witness.ack`, its token unverified. `service_end_ns`: 0 in service.
    """

    def __init__(self, retention_ns: int) -> None:
        self.segments: dict[tuple[str, int], Kept] = {}
        self.deleting: dict[tuple[str, int], Named] = {}
        self.receipts: dict[str, Mapping[str, Any]] = {}
        self.holds = Holds(retention_ns)
        self.service_end_ns = 0
        self._open: dict[str, Kept] = {}
        self._told_ns = 0
        self._n = -1
        self._hash = ZERO_HASH
        self._suite = 1
        self._before = (-1, "")
        self._handlers: Mapping[str, Callable[[Mapping[str, Any], int, int], None]] = {
            "genesis": self._begun,
            "config": self._suite_set,
            "seg.open": self._segment_opened,
            "seg.seal": self._segment_sealed,
            "clock.step": self._clock_stepped,
            "witness.ack": self._witnessed,
            "hold": self._held,
            "incident": self._incident,
            "delete": self._deleted,
            "service.end": self._service_ended,
        }

    def begin(self) -> None:
        """Another ledger follows: one that was broken off has ended."""
        self._before = (self._n, self._hash)
        self._n, self._hash = -1, ZERO_HASH

    def read(self, line: bytes) -> None:
        """The next line of a ledger, without its newline. What can be read of a damaged one counts too."""
        head = _HEAD.match(line)
        if head is None or not (self._read(head, line) and self._follows(head)):
            self.holds.doubt(self._n + 1)
        self._n = int(head[1]) if head is not None else self._n + 1
        try:
            self._hash = suite_by_number(self._suite).hash(line).hex()
        except SuiteError:
            self._hash = ""

    def _follows(self, head: re.Match[bytes]) -> bool:
        return (int(head[1]), head[2].decode()) == (self._n + 1, self._hash)

    def _read(self, head: re.Match[bytes], line: bytes) -> bool:
        kind = head[4].decode()
        try:
            body = parsed(line)["body"] if kind in self._handlers else {}
        except (ValueError, KeyError):
            return False
        return kind in KINDS and isinstance(body, dict) and self._take(kind, body, int(head[3]), int(head[1]))

    def observe(self, entry: Entry) -> None:
        """The next entry, as it was just made."""
        self._take(entry.kind, entry.body, entry.wall_ns, entry.n)
        self._n, self._hash = entry.n, entry.hash

    @property
    def n(self) -> int:
        """The last entry of this ledger that was taken; -1 for none."""
        return self._n

    def _take(self, kind: str, body: Mapping[str, Any], wall_ns: int, n: int) -> bool:
        """False for a body that is not as the format has it."""
        for kept in self._open.values():
            kept.add(wall_ns)
        try:
            if kind in self._handlers:
                self._handlers[kind](body, wall_ns, n)
        except (KeyError, TypeError, ValueError):
            return False
        return True

    def _begun(self, body: Mapping[str, Any], _wall_ns: int, _n: int) -> None:
        self._suite = int(body["suite"])
        previous = body["previous"]
        if previous is not None and (previous["n"], previous["hash"]) != self._before:
            self.holds.doubt(0)  # what is missing at the end of the ledger before may have been a hold

    def _suite_set(self, body: Mapping[str, Any], _wall_ns: int, _n: int) -> None:
        self._suite = int(body["suite"])

    def _segment_opened(self, body: Mapping[str, Any], wall_ns: int, _n: int) -> None:
        stream = str(body["stream"])
        kept = self.segments.setdefault((stream, int(body["segno"])), Kept(wall_ns, wall_ns))
        kept.add(wall_ns)
        self._open[stream] = kept

    def _segment_sealed(self, body: Mapping[str, Any], wall_ns: int, _n: int) -> None:
        stream, segno, seal = str(body["stream"]), int(body["segno"]), str(body["seal"])
        # One whose opening is not to be found may be as old as anything.
        kept = self.segments.setdefault((stream, segno), Kept(0, wall_ns))
        kept.add(wall_ns)
        kept.seal, kept.witness_ns = seal, self._told_ns
        if self._open.get(stream) is kept:
            del self._open[stream]

    def _clock_stepped(self, body: Mapping[str, Any], _wall_ns: int, _n: int) -> None:
        for kept in self._open.values():
            kept.add(int(body["before_ns"]), int(body["after_ns"]))

    def _witnessed(self, body: Mapping[str, Any], _wall_ns: int, _n: int) -> None:
        kid, told_ns = str(body["kid"]), int(body["witness_time"]) * S
        if kid in self.receipts or len(self.receipts) < MAX_WITNESSES:
            self.receipts[kid] = body
        self._told_ns = max(self._told_ns, told_ns)

    def _held(self, body: Mapping[str, Any], _wall_ns: int, _n: int) -> None:
        self.holds.note_hold(body)

    def _incident(self, body: Mapping[str, Any], wall_ns: int, n: int) -> None:
        self.holds.note_incident(body, n, wall_ns)
        for kept in self._open.values():  # its records are in these, whatever the clock says
            kept.add(wall_ns, *(time for time in (body["from_ns"], body["to_ns"]) if type(time) is int))

    def _deleted(self, body: Mapping[str, Any], _wall_ns: int, _n: int) -> None:
        for row in body["segments"]:
            named = Named(str(row["stream"]), int(row["segno"]), str(row["seal"]))
            self.segments.pop((named.stream, named.segno), None)
            self.deleting[named.stream, named.segno] = named

    def _service_ended(self, _body: Mapping[str, Any], wall_ns: int, _n: int) -> None:
        self.service_end_ns = max(self.service_end_ns, wall_ns, self._told_ns)


def ledger_lines(path: Path) -> Iterator[bytes]:
    """The lines of a ledger that was set aside; what is too long for one is passed over. OSError."""
    with path.open("rb") as file:
        while line := file.readline(MAX_LEDGER_LINE_BYTES + 1):
            if line.endswith(b"\n"):
                yield line[:-1]
