"""Bits turned over, in every file of a log, while no recorder runs."""

from collections.abc import Callable, Iterator
from pathlib import Path

from agent.logformat.layout import LEDGER_FILE
from agent.recorder.sealed.marks import SLOT_BYTES as MARKS_SLOT
from agent.recorder.sealed.state import SLOT_BYTES as STATE_SLOT
from hil.log.judge import code_of
from hil.log.specimen import Specimen, flip, frame_ends, gone_on, make
from hil.log.trial import (
    CLEANLY,
    FOUND,
    FOUND_OR_EXPLAINED,
    FOUND_OR_TORN,
    REPAIRED,
    UNSEALED,
    Ground,
    Tally,
)

REPAIRS = 16
"""Of so many flips one is also repaired and gone on from; all are verified."""


def flips_in_evidence(ground: Ground) -> Tally:
    """Every bit of the ledger and of all segments: each is found, and still after the recorder went on."""
    tally, specimen = Tally(), make(ground)
    case = specimen.copy()
    bits = [bit for name in specimen.evidence() for bit in _bits(specimen.closed, name)]
    for name, offset, bit in ground.some(bits):
        tally.begin()
        flip(case.folder / name, offset, bit)
        tally.see(code_of(case)[0], _true(specimen, name, offset), f"{name} byte {offset} bit {bit}")
        flip(case.folder / name, offset, bit)
    for name, offset, bit in ground.some(bits, REPAIRS):
        case = specimen.copy()
        flip(case.folder / name, offset, bit)
        gone_on(specimen, case, tally, FOUND, f"{name} byte {offset} bit {bit}")
    return tally


def _true(specimen: Specimen, name: str, offset: int) -> frozenset[int]:
    """Without its last newline a ledger ends in the middle of a line, as a crash would leave it."""
    last = name == LEDGER_FILE and offset == (specimen.closed / name).stat().st_size - 1
    return FOUND_OR_TORN if last else FOUND


def _bits(folder: Path, name: str) -> list[tuple[str, int, int]]:
    return [(name, offset, bit) for offset in range((folder / name).stat().st_size) for bit in range(8)]


def flips_in_open_segments(ground: Ground) -> Tally:
    """Every bit of what kill -9 left open: repaired and said so, or, where a checkpoint signed it, found.

    A last frame that was changed looks like one that was torn, and is set aside as that. Without a header
    that can be read the whole file is, and its segment is missing.
    """
    tally, specimen = Tally(reports=frozenset({"damaged", "recovered"})), make(ground)
    for path in specimen.opened.values():
        name = str(path.relative_to(specimen.killed))
        header, *ends = frame_ends(path.read_bytes())
        signed = [header, *ends][specimen.signed[path.parent.name]]
        for offset, bit in ground.some([(at, bit) for at in range(ends[-1]) for bit in range(8)], REPAIRS):
            tally.begin()
            case = specimen.copy(specimen.killed)
            flip(case.folder / name, offset, bit)
            what = f"{name} byte {offset} bit {bit}"
            tally.see(code_of(case)[0], FOUND_OR_TORN, what)
            after = FOUND_OR_EXPLAINED if offset < signed else REPAIRED
            gone_on(specimen, case, tally, FOUND_OR_TORN if offset < header else after, what)
    return tally


def flips_in_state(ground: Ground) -> Tally:
    """Every bit of the key in use and of `state.key`: the ledger is broken off, which is found."""
    tally, specimen = Tally(), make(ground)
    state = (specimen.closed / "state").read_bytes()
    used = next(at for at in (0, STATE_SLOT) if any(state[at : at + STATE_SLOT]))
    length = len(state[used : used + STATE_SLOT].rstrip(b"\0"))
    bits = [("state", used + at, bit) for at in range(length) for bit in range(8)]
    bits += _bits(specimen.closed, "state.key")
    for name, offset, bit in ground.some(bits, 2):
        tally.begin()
        case = specimen.copy()
        flip(case.folder / name, offset, bit)
        what = f"{name} byte {offset} bit {bit}"
        tally.see(code_of(case)[0], CLEANLY, what)  # the writer's alone: no evidence is touched yet
        gone_on(specimen, case, tally, FOUND, what)
    return tally


def damaged_marks(ground: Ground) -> Tally:
    """Bits, a cut at every length, zeros, noise, an older one, none: duplicates at worst, no record less."""
    tally, specimen = Tally(), make(ground)
    marks = (specimen.closed / "marks").read_bytes()
    for change in ground.some(list(_marks(marks, ground)), 2):
        tally.begin()
        case = specimen.copy(specimen.killed)
        path = case.folder / "marks"
        changed = change()
        path.unlink()
        if changed is not None:
            path.write_bytes(changed)
        what = f"marks of {-1 if changed is None else len(changed)} bytes"
        tally.see(code_of(case)[0], UNSEALED, what)
        gone_on(specimen, case, tally, REPAIRED, what)
    return tally


def _marks(marks: bytes, ground: Ground) -> Iterator[Callable[[], bytes | None]]:
    slots = [(at, len(marks[at : at + MARKS_SLOT].rstrip(b"\0"))) for at in (0, MARKS_SLOT)]
    for at, length in slots:
        for offset in range(at, at + length):
            bit = 1 << ground.dice.randrange(8)
            yield lambda o=offset, b=bit: marks[:o] + bytes([marks[o] ^ b]) + marks[o + 1 :]  # type: ignore[misc]
            yield lambda o=offset: marks[:o]  # type: ignore[misc]
    yield lambda: None
    yield lambda: bytes(len(marks))
    yield lambda: ground.dice.randbytes(len(marks))
    yield lambda: marks[MARKS_SLOT:] + marks[:MARKS_SLOT]
