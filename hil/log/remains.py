"""What must be found of a log in which a deletion was cut off: nothing more is gone, and nothing comes back.

* What the ledger does not say is deleted is there, with its keys; of the rest none is without a tombstone.
* A file that has lost its name had its keys overwritten before.
* The next start leaves no segment that the ledger says is deleted, and the order, given again, leaves none.
* `verify` is told all that is known outside, and its exit code is the true one.
"""

from collections.abc import Mapping, Sequence

from agent.audit.findings import KINDS
from agent.recorder.sealed.orders import Named
from hil.log.expired import Course
from hil.log.judge import Judged, key_of, read, report_of
from hil.log.trial import INCOMPLETE, REPAIRED, UNSEALED, Tally, go_on

UNENDED = frozenset({"ledger_torn", "seal_missing", "seal_unsigned", "segment_unopened", "tail", "untold"})
"""Why a log that a recorder left in the middle of something may be incomplete; a deletion is no reason."""


def see(course: Course, tally: Tally, what: str) -> list[Named]:
    """The log as the fault left it; the segments that its ledger says are deleted."""
    entered, report = course.entered(), report_of(course.case)
    kinds = report.counts
    what = f"{what} {dict(kinds)}"
    tally.see(report.exit_code, UNSEALED if UNENDED & kinds.keys() else REPAIRED, what)
    _complete(kinds, tally, what)
    unfinished = sum(course.there(named) for named in entered)
    if kinds.get("delete_unfinished", 0) != unfinished:
        tally.fail(f"{what}: {unfinished} deletions are not finished")
    for named in course.scene.ordered:
        for words in _wrong(course, named, entered=named in entered):
            tally.fail(f"{what}: {named.stream}/{named.segno} {words}")
    _mourn(course, entered, report.exit_code, tally, what)
    return entered


def _complete(kinds: Mapping[str, int], tally: Tally, what: str) -> None:
    missing = {kind for kind in kinds if KINDS[kind].verdict == INCOMPLETE} - UNENDED
    if missing:
        tally.fail(f"{what}: a deletion leaves nothing of that sort")


def _wrong(course: Course, named: Named, *, entered: bool) -> list[str]:
    """In words; empty for a segment that stands as it may at any step of its deletion."""
    there, gone = course.there(named), course.gone(named)
    keys = course.keys(named) if named in course.links else b""
    whole = keys == course.scene.wraps[named][1]
    rules = (
        (entered or (there and not gone), "is deleted without an entry"),
        (there or gone, "left nothing"),
        (gone or whole, "lost its keys before its tombstone stood"),
        (there or not any(keys), "lost its name with its keys whole"),
    )
    return [words for good, words in rules if not good]


def finish(
    course: Course,
    entered: Sequence[Named],
    orders: Sequence[str],
    tally: Tally,
    what: str,
) -> None:
    """The recorder starts again, is given the orders again, takes more records, and ends.

    `entered`: what the ledger said before.
    """
    with tally.surviving(what):
        go_on(course.scene.ground, course.folder, course.modules, course.deleter(orders))
        if course.unburied or not set(entered) <= set(course.entered()):
            tally.fail(f"{what}: the next start leaves {course.unburied or entered}")
        if len(course.deleted) != len(orders):
            tally.fail(f"{what}: not all is deleted in the end")
        report = report_of(course.case)
        lost = _lost(course, course.scene.ordered)
        told = f"{what} {dict(report.counts)}"
        tally.end(Judged(report.exit_code, {}, lost), REPAIRED, told)
        if lost:
            tally.fail(f"{told}: {lost} records are lost that nobody ordered deleted")
        if report.deleted != len(course.scene.ordered):
            tally.fail(f"{told}: {report.deleted} deleted segments are there")
        _stay_gone(course, tally, told)


def _mourn(course: Course, deleted: Sequence[Named], code: int, tally: Tally, what: str) -> None:
    lost = _lost(course, deleted)
    tally.mourn(Judged(code, {}, lost), what)
    if lost:
        tally.fail(f"{what}: {lost} records are lost that nobody ordered deleted")


def _lost(course: Course, deleted: Sequence[Named]) -> int:
    """Acknowledged records, but those of deleted segments, that the owner's key does not read."""
    numbers, where = {(named.stream, named.segno) for named in deleted}, course.scene.where
    found = read(course.case)
    kept = (r for r in course.modules.acknowledged if where.get(key_of(r)) not in numbers)
    return sum(found.get(key_of(record), {}).get("body") != record.body for record in kept)


def _stay_gone(course: Course, tally: Tally, what: str) -> None:
    """Neither the records of what is deleted can be read, nor are its wrapped keys in any file."""
    ordered, where = course.scene.ordered, course.scene.where
    numbers = {(named.stream, named.segno) for named in ordered}
    if any(where.get(key) in numbers for key in read(course.case)):
        tally.fail(f"{what}: a record of a deleted segment can be read")
    files = [path.read_bytes() for path in course.folder.rglob("*") if path.is_file()]
    for named in ordered:
        if course.there(named) or any(_wrong(course, named, entered=True)):
            tally.fail(f"{what}: {named.stream}/{named.segno} is not gone as it should be")
        if any(course.scene.wraps[named][1] in data for data in files):
            tally.fail(f"{what}: the keys of {named.stream}/{named.segno} are still there")
