"""One life of a recorder: opens the log, writes batches, ends; run in a process that may be killed anywhere.

It tells on a pipe what it acknowledges, which is what must not be lost:

* `genesis <hex>`   the log is open, and this is the ledger's first line
* `kept <seq>`      up to here nothing need be sent again (`Log.last_seq`, the answer to a sender's hello)
* `ack <number>`    this batch is on the disk
* `refused`         the disk did not take it however often it was asked
* `end <calls> <failures>`  closed in order; as `faulty.c` counted

With orders to delete it tells more (`deleter`).
"""

import ctypes
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from agent.recorder.log import LogError
from hil.log.deleter import Deleter, Ruling
from hil.log.owner import BATCH_STEP, BOOT, SOURCE, Owner, batch
from hil.log.writer import Writer

TRIES = 12
"""Of a batch that is refused: more than any run of faults that passes is long."""
OPENINGS = 4
"""systemd starts a recorder again that could not open its log."""
CHECKPOINT_EVERY = 5
"""Batches."""
FOREVER = 1 << 40
OFF, FAIL, KILL, CUT = range(4)
"""What `faulty.c` does: nothing, errors, kill -9, a cut of power that takes what was not synced."""


@dataclass(frozen=True, slots=True)
class Fault:
    """From system call `at` (of those that change the folder, from 1) on, `times` in a row.

    `code`: errno; `part`: bytes that a write still does, -1 none; `lossy`: a failed sync loses what was
    written since the last; `dice`: seed for what a cut of power takes; `short`: bytes that any write does at
    most, 0 all; `cut`: call in which, the failures past, power is cut, 0 never; `after_s`: kill -9 from
    outside after so long, -1 never.
    """

    how: int = OFF
    at: int = 1
    times: int = 1
    code: int = 0
    part: int = -1
    lossy: bool = False
    dice: int = 1
    short: int = 0
    cut: int = 0
    after_s: float = -1.0
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One life. `seed`, `end`: batches 0 to `end` - 1 of that seed are what the modules have to send.

    `ruling`: for one that deletes.
    """

    folder: str
    robot: str
    suite: int
    kid: str
    public: str
    seed: int
    end: int
    segment_bytes: int
    fault: Fault
    ruling: Ruling | None = None

    @classmethod
    def of(cls, folder: Path, owner: Owner, seed: int, end: int, segment_bytes: int, fault: Fault) -> Self:
        """For an owner's log; the private key stays behind."""
        hexed = owner.public.hex()
        return cls(str(folder), owner.robot, owner.suite, owner.kid, hexed, seed, end, segment_bytes, fault)

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Of `line`."""
        fields: Mapping[str, Any] = json.loads(line)
        told, fault = fields["ruling"], Fault(**fields["fault"])
        return cls(**{**fields, "fault": fault, "ruling": None if told is None else Ruling(**told)})

    def line(self) -> bytes:
        """JSON with its newline."""
        return json.dumps(asdict(self)).encode() + b"\n"


def live(order: Order, out: int) -> None:
    """All of it; `out`: descriptor that it tells on."""
    library = _arm(order)
    owner = Owner(order.robot, order.suite, order.kid, b"", bytes.fromhex(order.public))
    deleter = _deleter(order, library, out)
    writer = _open(order, owner, deleter)
    if writer is None:
        _say(out, "refused")
        return
    _say(out, f"genesis {writer.ledger.genesis_line.hex()}")
    with suppress(LogError):
        writer.boot()
    first = writer.log.last_seq(SOURCE, BOOT)
    _say(out, f"kept {first}")
    for number in range(-(-first // BATCH_STEP), order.end):
        if deleter is not None:
            deleter.turn(writer)
        if not _append(writer, order.seed, number, out):
            break  # nothing goes before what was refused: the recorder's queue is in order
    if deleter is not None:
        deleter.rest(writer)
    writer.close()
    if library is not None:
        _say(out, f"end {library.faulty_calls()} {library.faulty_failures()}")


def _append(writer: Writer, seed: int, number: int, out: int) -> bool:
    records = [record for record in batch(seed, number) if not writer.log.has(record)]
    taken = writer.append(records, TRIES)
    _say(out, f"ack {number}" if taken else "refused")
    if number % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
        with suppress(LogError):
            writer.checkpoint()
    return taken


def _open(order: Order, owner: Owner, deleter: Deleter | None) -> Writer | None:
    clocks, between = (None, None) if deleter is None else (deleter.clocks, deleter.begin)
    folder, size = Path(order.folder), order.segment_bytes
    for _ in range(OPENINGS):
        with suppress(LogError):
            return Writer(folder, owner, segment_bytes=size, clocks=clocks, between=between)
    return None


def _deleter(order: Order, library: ctypes.CDLL | None, out: int) -> Deleter | None:
    if order.ruling is None:
        return None
    calls = (lambda: 0) if library is None else library.faulty_calls
    return Deleter(order.ruling, Path(order.folder), lambda words: _say(out, words), calls)


def _arm(order: Order) -> ctypes.CDLL | None:
    """The plan into the library that stands below us; without one there is no fault from within."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "faulty_arm"):
        return None
    fault, folder = order.fault, order.folder.encode()
    library.faulty_short(folder, ctypes.c_long(fault.short))
    library.faulty_cut(ctypes.c_long(fault.cut))
    library.faulty_trace(1 if fault.trace else -1)
    library.faulty_arm(
        folder,
        fault.how,
        ctypes.c_long(fault.at),
        ctypes.c_long(fault.times),
        fault.code,
        ctypes.c_long(fault.part),
        int(fault.lossy or fault.how == CUT or fault.cut > 0),
        fault.dice,
    )
    return library


def _say(out: int, words: str) -> None:
    os.write(out, words.encode() + b"\n")
