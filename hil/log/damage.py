"""Files that are damaged or exchanged while no recorder runs: bits, tails, segments, ledger, state, marks."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.logformat.layout import LEDGER_FILE
from agent.recorder.sealed.marks import SLOT_BYTES as MARKS_SLOT
from agent.recorder.sealed.state import SLOT_BYTES as STATE_SLOT
from hil.log.judge import Case, code_of, judge, key_of, read
from hil.log.owner import new_owner
from hil.log.specimen import Specimen, flip, frame_ends, line_ends, make, segments_of
from hil.log.trial import (
    CLEAN,
    EXPLAINED,
    FOUND,
    INCOMPLETE,
    REPAIRED,
    TAMPERED,
    Ground,
    Modules,
    Tally,
    finish,
    go_on,
)

UNSEALED = frozenset({INCOMPLETE})
CLEANLY = frozenset({CLEAN})
FOUND_OR_TORN = frozenset({TAMPERED, INCOMPLETE})
REPAIRS = 16
"""Of so many flips one is also repaired and gone on from; all are verified."""


def _whole(specimen: Specimen, case: Case, tally: Tally, true: frozenset[int], what: str) -> None:
    """The recorder goes on from the damaged copy."""
    tally.end(finish(specimen.ground, case, specimen.modules.copy()), true, what)


# ---- bits


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
        _whole(specimen, case, tally, FOUND, f"{name} byte {offset} bit {bit}")
    return tally


def _true(specimen: Specimen, name: str, offset: int) -> frozenset[int]:
    """Without its last newline a ledger ends in the middle of a line: incomplete, with nobody's hand in it."""
    last = name == LEDGER_FILE and offset == (specimen.closed / name).stat().st_size - 1
    return FOUND_OR_TORN if last else FOUND


def _bits(folder: Path, name: str) -> list[tuple[str, int, int]]:
    return [(name, offset, bit) for offset in range((folder / name).stat().st_size) for bit in range(8)]


def flips_in_open_segments(ground: Ground) -> Tally:
    """Every bit of what kill -9 left open: repaired and said so, or, where a checkpoint signed it, found.

    A last frame that was changed looks like one that was torn, and is set aside as that.
    """
    tally, specimen = Tally(reports=frozenset({"damaged", "recovered"})), make(ground)
    for path in specimen.opened.values():
        name = str(path.relative_to(specimen.killed))
        ends = frame_ends(path.read_bytes())
        signed = ends[specimen.signed[path.parent.name]]
        bits = [(offset, bit) for offset in range(ends[-1]) for bit in range(8)]
        for offset, bit in ground.some(bits, REPAIRS):
            tally.begin()
            case = specimen.copy(specimen.killed)
            flip(case.folder / name, offset, bit)
            what = f"{name} byte {offset} bit {bit}"
            tally.see(code_of(case)[0], FOUND_OR_TORN, what)
            _whole(specimen, case, tally, FOUND_OR_EXPLAINED if offset < signed else REPAIRED, what)
    return tally


FOUND_OR_EXPLAINED = frozenset({TAMPERED, EXPLAINED})
"""A repair says what it could not read: damage in the ledger, signed, is an explanation."""


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
        _whole(specimen, case, tally, FOUND, what)
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
        _whole(specimen, case, tally, REPAIRED, what)
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


# ---- tails


def cut_open_segments(ground: Ground) -> Tally:
    """Cut, or zeros from there on, at every byte of what kill -9 left open: what is whole before it stays."""
    tally, specimen = Tally(), make(ground)
    acknowledged = specimen.modules.acknowledged
    where = _frames(specimen)
    for stream, path in specimen.opened.items():
        data = path.read_bytes()
        ends = frame_ends(data)
        signed, segno, header = ends[specimen.signed[stream]], int(path.stem), ends[0]
        for at, zeros in ground.some([(at, zeros) for at in range(ends[-1]) for zeros in (False, True)]):
            tally.begin()
            case = specimen.copy(specimen.killed)
            tail = bytes(len(data) - at) if zeros else b""
            (case.folder / stream / path.name).write_bytes(data[:at] + tail)
            what = f"{stream}/{segno} {'zeros from' if zeros else 'cut at'} byte {at}"
            tally.see(code_of(case)[0], FOUND if at < signed else UNSEALED, what)
            gone = {(stream, segno, frame) for frame, end in enumerate(ends[1:]) if end > at}
            sure = [record for record in acknowledged if at < signed or where[key_of(record)] not in gone]
            go_on(ground, case.folder, specimen.modules.copy())
            # Without a header that can be read the file is set aside whole, and its segment is missing.
            broken = FOUND_OR_TORN if at < header else FOUND
            tally.end(judge(case, sure), broken if at < signed else REPAIRED, what)
    return tally


def _frames(specimen: Specimen) -> dict[tuple[str, str, int], tuple[str, int, int]]:
    """Event -> (stream, segment, frame) in the killed log."""
    case = Case(specimen.killed, specimen.ground.owner, specimen.modules.genesis)
    return {key: (row["stream"], row["segno"], row["frame"]) for key, row in read(case).items()}


def cut_sealed_segments(ground: Ground) -> Tally:
    """At every byte: signed frames are missing, and the recorder that goes on does not hide it."""
    tally, specimen = Tally(), make(ground)
    sealed = segments_of(specimen.closed)
    cuts = [(path, at) for path in sealed for at in range(path.stat().st_size)]
    for path, at in ground.some(cuts):
        tally.begin()
        case = specimen.copy()
        name = path.relative_to(specimen.closed)
        os.truncate(case.folder / name, at)
        tally.see(code_of(case)[0], FOUND_OR_TORN, f"{name} cut at byte {at}")
        _whole(specimen, case, tally, FOUND, f"{name} cut at byte {at}")
    return tally


def cut_ledger(ground: Ground) -> Tally:
    """At every byte, with a witness that had seen it whole."""
    tally, specimen = Tally(), make(ground)
    for at in ground.some(range((specimen.closed / LEDGER_FILE).stat().st_size)):
        tally.begin()
        case = specimen.copy()
        os.truncate(case.folder / LEDGER_FILE, at)
        tally.see(code_of(case)[0], FOUND_OR_TORN, f"ledger cut at byte {at}")
        _whole(specimen, case, tally, FOUND, f"ledger cut at byte {at}")
    return tally


# ---- exchanges


def substituted(ground: Ground) -> Tally:
    """Each segment by one of the same robot's other log, of another robot's, and by its own earlier self."""
    tally, specimen = Tally(), make(ground)
    other, robot = make(ground, "other"), make(ground, "robot", new_owner("rw-else"))
    for path in segments_of(specimen.closed):
        name = path.relative_to(specimen.closed)
        for source in (other.closed, robot.closed, specimen.killed):
            if (source / name).exists() and (source / name).read_bytes() != path.read_bytes():
                _exchange(specimen, tally, lambda folder, n=name, s=source: shutil.copy(s / n, folder / n), name)  # type: ignore[misc]
    return tally


def swapped(ground: Ground) -> Tally:
    """Every two segments, of one stream and across streams."""
    tally, specimen = Tally(), make(ground)
    names = [path.relative_to(specimen.closed) for path in segments_of(specimen.closed)]
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            _exchange(specimen, tally, lambda folder, a=first, b=second: _swap(folder / a, folder / b), first)  # type: ignore[misc]
    return tally


def _swap(first: Path, second: Path) -> None:
    beside = first.with_suffix(".x")
    first.rename(beside)
    second.rename(first)
    beside.rename(second)


def _exchange(specimen: Specimen, tally: Tally, change: Callable[[Path], object], what: object) -> None:
    specimen.ground.advance(1)
    tally.begin()
    case = specimen.copy()
    change(case.folder)
    tally.see(code_of(case)[0], FOUND, str(what))
    _whole(specimen, case, tally, FOUND, str(what))


def state_rolled_back(ground: Ground) -> Tally:
    """To what it was after each earlier entry: the ledger is broken off."""
    tally, specimen = Tally(), make(ground)
    for n, state in ground.some(list(enumerate(specimen.states[:-1]))):
        tally.begin()
        case = specimen.copy()
        (case.folder / "state").write_bytes(state)
        tally.see(code_of(case)[0], CLEANLY, f"state after entry {n}")
        _whole(specimen, case, tally, FOUND, f"state after entry {n}")
    return tally


def forked(ground: Ground) -> Tally:
    """Ledger and state taken back together to each earlier entry, then gone on with: the witness knows."""
    tally, specimen = Tally(), make(ground)
    ends = list(line_ends(specimen.closed / LEDGER_FILE))
    for n, end in ground.some(list(enumerate(ends[:-1]))):
        tally.begin()
        case = specimen.copy()
        os.truncate(case.folder / LEDGER_FILE, end)
        (case.folder / "state").write_bytes(specimen.states[n])
        tally.see(code_of(case)[0], FOUND, f"forked after entry {n}")
        _whole(specimen, case, tally, FOUND, f"forked after entry {n}")
    return tally


def replayed(ground: Ground) -> Tally:
    """The ledger, ledger and state, or the whole folder of another robot, and of the same robot's other log."""
    tally, specimen = Tally(), make(ground)
    for source in (make(ground, "other"), make(ground, "robot", new_owner("rw-else"))):
        for names in ((LEDGER_FILE,), (LEDGER_FILE, "state", "state.key")):
            _exchange(specimen, tally, lambda folder, s=source, n=names: _take(s.closed, folder, n), names)  # type: ignore[misc]
        ground.advance(1)
        tally.begin()
        case = specimen.copy()
        shutil.rmtree(case.folder)
        shutil.copytree(source.closed, case.folder)
        tally.see(code_of(case)[0], FOUND, "another log altogether")
        tally.end(judge(case, specimen.modules.acknowledged), FOUND, "another log altogether")
    return tally


def _take(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        shutil.copy(source / name, folder / name)


def removed(ground: Ground) -> Tally:
    """Each segment in turn: incomplete, and still so after the recorder went on."""
    tally, specimen = Tally(), make(ground)
    for path in segments_of(specimen.closed):
        ground.advance(1)
        tally.begin()
        case, name = specimen.copy(), path.relative_to(specimen.closed)
        (case.folder / name).unlink()
        tally.see(code_of(case)[0], UNSEALED, str(name))
        _whole(specimen, case, tally, FOUND_OR_TORN, str(name))
    return tally


# ---- no damage, and yet not everything


def unsealed(ground: Ground) -> Tally:
    """As kill -9 left it: incomplete; never clean, and explained once the recorder came again."""
    tally, specimen = Tally(), make(ground)
    ground.advance(1)
    tally.begin()
    case = specimen.copy(specimen.killed)
    tally.see(code_of(case)[0], UNSEALED, "unsealed")
    _whole(specimen, case, tally, REPAIRED, "unsealed")
    return tally


def wrong_key(ground: Ground) -> Tally:
    """Another recipient's key reads nothing, and verify needs none."""
    tally, specimen = Tally(), make(ground)
    stranger = new_owner(ground.owner.robot)
    ground.advance(1)
    tally.begin()
    case = specimen.copy()
    tally.see(code_of(case)[0], CLEANLY, "no key")
    opened = read(Case(case.folder, stranger, case.genesis))
    if opened:
        tally.fail(f"{len(opened)} records read with a stranger's key")
    tally.end(finish(ground, case, specimen.modules.copy()), CLEANLY, "the right key")
    return tally


