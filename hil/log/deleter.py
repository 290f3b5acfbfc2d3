"""Ordered deletions in the life of a recorder: what it does with them, and what it tells of them.

Beside what a life tells anyway (`life`). No line is longer than a pipe takes at once, so kill -9 tears none:

* `finishing <calls>`, `finished <calls>`  what the ledger holds is gone on with; streams are not open yet
* `deleting <order> <calls>`               an order is begun, as `faulty.c` counted so far
* `deleted <order> <calls>`                all that it names is gone
* `undeleted <order> <calls>`              the disk did not let it go, however often it was asked
* `entry <base64>`                         this line is in the ledger for good, and the witness takes it
"""

import select
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.logformat.layout import segment_name
from agent.recorder.log import LogError
from agent.recorder.sealed.ledger import Entry, Ledger
from agent.recorder.sealed.orders import Office
from agent.recorder.sealed.parts import Clocks
from agent.recorder.sealed.retention import MIN_DAYS, RefusedError, Retention
from hil.log.writer import Writer

ASKED = 12
"""Times that an order is given to a disk that refuses: more than any run of faults that passes is long."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the robot knows of those outside, and what they ask.

    `roots`, `witnesses`: kid -> public key, hexadecimal; `added_ns`: what both its clocks are ahead of this
    machine's; `witnessed`: last entry that the witness has; `orders`: tokens, carried out in turn, one before
    each batch, the first after `after` batches.
    """

    robot: str
    roots: dict[str, str]
    witnesses: dict[str, str]
    added_ns: int
    witnessed: int = -1
    orders: tuple[str, ...] = ()
    after: int = 0


@dataclass(slots=True)
class Deleter:
    """`say`: takes each line that it tells; `calls`: what `faulty.c` counted so far."""

    ruling: Ruling
    folder: Path
    say: Callable[[str], None]
    calls: Callable[[], int] = lambda: 0
    _retention: Retention | None = None
    _waiting: list[tuple[int, str]] = field(default_factory=list)
    _batches: int = 0

    def __post_init__(self) -> None:
        self._waiting = list(enumerate(self.ruling.orders))

    @property
    def clocks(self) -> Clocks:
        """For the writer."""
        added_ns = self.ruling.added_ns
        return Clocks(
            wall_ns=lambda: time.time_ns() + added_ns,
            boottime_ns=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) + added_ns,
        )

    @property
    def retention(self) -> Retention:
        """Of the open log."""
        if self._retention is None:
            raise RuntimeError("no ledger is open")
        return self._retention

    def begin(self, ledger: Ledger) -> None:
        """Between the ledger and the streams, as `recorder` does it; LogError."""
        ruling = self.ruling
        self._retention = Retention(
            self.folder,
            ledger,
            office=Office(ruling.robot, _keys(ruling.roots), None),
            witnesses=_keys(ruling.witnesses),
            days=MIN_DAYS,
            wall_ns=self.clocks.wall_ns,
        )
        ledger.on_entry = self._took
        for _, line in ledger.entries_after(ruling.witnessed, ledger.head.n + 1):
            self._publish(line)
        self.say(f"finishing {self.calls()}")
        self._retention.finish()
        self.say(f"finished {self.calls()}")

    def _took(self, entry: Entry) -> None:
        self.retention.observe(entry)
        self._publish(entry.line)

    def _publish(self, line: bytes) -> None:
        words = f"entry {b64encode(line).decode()}"
        if len(words) >= select.PIPE_BUF:
            raise ValueError(f"an entry of {len(line)} bytes")
        self.say(words)

    def turn(self, writer: Writer) -> None:
        """The next order, if one is due before this batch."""
        self._batches += 1
        if self._waiting and self._batches > self.ruling.after:
            self._carry_out(writer, *self._waiting.pop(0))

    def rest(self, writer: Writer) -> None:
        """All orders that are left."""
        while self._waiting:
            self._carry_out(writer, *self._waiting.pop(0))

    def _carry_out(self, writer: Writer, number: int, order: str) -> None:
        self.say(f"deleting {number} {self.calls()}")
        done = any(self._delete(writer, order) for _ in range(ASKED))
        self.say(f"{'deleted' if done else 'undeleted'} {number} {self.calls()}")

    def _delete(self, writer: Writer, order: str) -> bool:
        """Once; who is told that it was deleted before is content when no file of it is left."""
        with suppress(LogError):
            try:
                for named in self.retention.delete(order):
                    writer.log.forget(named.stream, named.segno)
            except RefusedError as error:
                if {refusal.code for refusal in error.refusals} != {"unknown"}:
                    raise
                paths = (
                    self.folder / row.named.stream / segment_name(row.named.segno) for row in error.refusals
                )
                return not any(path.exists() for path in paths)
            return True
        return False


def _keys(told: dict[str, str]) -> dict[str, bytes]:
    return {kid: bytes.fromhex(key) for kid, key in told.items()}
