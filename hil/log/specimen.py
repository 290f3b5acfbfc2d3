"""A small log to be damaged: closed in order, and beside it the same as kill -9 left it a moment before."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.logformat.layout import (
    CRC,
    FRAME_HEADER,
    FRAME_MAGIC,
    FRAME_OVERHEAD,
    HEADER_PREFIX,
    LEDGER_FILE,
    STREAMS,
)
from agent.recorder.sealed.ledger import Entry
from hil.log.judge import Case
from hil.log.owner import Owner, batch
from hil.log.trial import SMALL_SEGMENT, Ground, Modules, Tally, finish
from hil.log.writer import Writer

SENT = 8
"""Batches: two or three segments of `safety`, one of the others."""
CHECKPOINT_AFTER = 5
"""Batches."""


@dataclass(slots=True)
class Specimen:
    """`closed`, `killed`: the two folders; `witness`: the file with every line of the ledger of `closed`.

    `states`: the state file after each entry; `signed`: of each stream, the frames of its open segment that
    the checkpoint speaks of; `opened`: of each stream, its last segment.
    """

    ground: Ground
    closed: Path
    killed: Path
    witness: Path
    modules: Modules
    states: list[bytes] = field(default_factory=list)
    signed: dict[str, int] = field(default_factory=dict)
    opened: dict[str, Path] = field(default_factory=dict)

    def copy(self, of: Path | None = None) -> Case:
        """A fresh copy, of `closed` if not told otherwise, and its case."""
        folder = self.ground.fresh("copy")
        shutil.copytree(of or self.closed, folder)
        witness = self.witness if of in (None, self.closed) else None
        return Case(folder, self.ground.owner, self.modules.genesis, witness)

    def evidence(self) -> list[str]:
        """Names below the folder of what verify reads."""
        segments = [str(path.relative_to(self.closed)) for path in segments_of(self.closed)]
        return [LEDGER_FILE, *segments]


def make(ground: Ground, name: str = "specimen", owner: Owner | None = None) -> Specimen:
    """Writes it with the real writer."""
    closed, killed = ground.fresh(name), ground.fresh(f"{name}-killed")
    witness = ground.folder / f"{name}.witness"
    witness.unlink(missing_ok=True)
    made = Specimen(ground, closed, killed, witness, Modules(ground.dice.randrange(1 << 30)))

    def took(entry: Entry) -> None:
        made.states.append((closed / "state").read_bytes())
        with witness.open("ab") as file:
            file.write(entry.line + b"\n")

    with Writer(closed, owner or ground.owner, segment_bytes=SMALL_SEGMENT, on_entry=took) as writer:
        made.modules.hear(["genesis", writer.ledger.genesis_line.hex()])
        writer.boot()
        for number in range(SENT):
            writer.log.append(batch(made.modules.seed, number))
            made.modules.hear(["ack", str(number)])
            if number == CHECKPOINT_AFTER:
                writer.checkpoint()
                before = writer.log.heads()
        heads = writer.log.heads()
        shutil.copytree(closed, killed)
    made.signed = {
        name: before[name].frames if name in before and before[name].segno == head.segno else 0
        for name, head in heads.items()
    }
    made.opened = {name: killed / name / f"{head.segno:010}.seg" for name, head in heads.items()}
    return made


def segments_of(folder: Path) -> list[Path]:
    """Every segment, by stream and number."""
    return [path for stream in STREAMS for path in sorted((folder / stream).glob("*.seg"))]


def frame_ends(data: bytes) -> list[int]:
    """Offsets: after the header, then after each frame of records."""
    _, _, _, _, fields, wraps = HEADER_PREFIX.unpack_from(data)
    ends = [HEADER_PREFIX.size + fields + wraps + CRC.size]
    while (frame := _frame(data, ends[-1])) is not None:
        ends.append(ends[-1] + frame)
    return ends


def _frame(data: bytes, at: int) -> int | None:
    if len(data) - at < FRAME_OVERHEAD:
        return None
    magic, kind, _, length, _, _, _ = FRAME_HEADER.unpack_from(data, at)
    return FRAME_OVERHEAD + int(length) if (magic, kind) == (FRAME_MAGIC, 1) else None


def flip(path: Path, offset: int, bit: int) -> None:
    """One bit turned over, in place."""
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, offset)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), offset)


def line_ends(ledger: Path) -> Iterator[int]:
    """Offsets after each line."""
    at = 0
    for line in ledger.read_bytes().splitlines(keepends=True):
        at += len(line)
        yield at


def gone_on(specimen: Specimen, case: Case, tally: Tally, true: frozenset[int], what: str) -> None:
    """The recorder goes on from the damaged copy, and the try ends."""
    with tally.surviving(what):
        tally.end(finish(specimen.ground, case, specimen.modules.copy()), true, what)
