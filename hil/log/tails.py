"""Files cut short, or zeroed from some byte on, while no recorder runs."""

import os

from agent.logformat.layout import LEDGER_FILE
from hil.log.judge import Case, code_of, judge, key_of, read
from hil.log.specimen import Specimen, frame_ends, gone_on, make, segments_of
from hil.log.trial import (
    CLEANLY,
    FOUND,
    FOUND_OR_TORN,
    REPAIRED,
    UNSEALED,
    Ground,
    Tally,
    go_on,
)

LINE_END = b'"}\n'
"""Of a ledger's line, after its signature."""


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
            with tally.surviving(what):
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
        gone_on(specimen, case, tally, FOUND, f"{name} cut at byte {at}")
    return tally


def cut_ledger(ground: Ground) -> Tally:
    """At every byte, with a witness that had seen it whole."""
    tally, specimen = Tally(), make(ground)
    size = (specimen.closed / LEDGER_FILE).stat().st_size
    for at in ground.some(range(size)):
        tally.begin()
        case = specimen.copy()
        os.truncate(case.folder / LEDGER_FILE, at)
        tally.see(code_of(case)[0], FOUND_OR_TORN, f"ledger cut at byte {at}")
        # Of a line whose signature is whole the ending is known: it is put back, and nothing is missing.
        after = FOUND if at < size - len(LINE_END) else CLEANLY
        gone_on(specimen, case, tally, after, f"ledger cut at byte {at}")
    return tally
