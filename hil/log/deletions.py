"""An ordered deletion that ends anywhere: killed, cut off from power, refused; and again when it is resumed.

The calls are those from the order to the last sync of a deletion, and the one after; of a deletion that an
earlier recorder left, those in which the next start goes on with it too. `remains` judges.
"""

import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle

from hil.log import remains
from hil.log.expired import Course, Scene, scenes
from hil.log.life import CUT, FAIL, FOREVER, KILL, Fault
from hil.log.trial import Ground, Tally

PART = 60
"""Bytes that a failing write still does: less than any entry or tombstone, more than none of the keys."""
DICE = 4
"""Power cuts in each call, and in each way of it: no more than three changes are ever unsynced."""
CUTS_AFTER = 4
"""Power cuts some random calls after a failure that passed, for each call that failed."""
HALVES = 3
"""Deletions cut off somewhere, of each scene, from which the refusing disk is met as well."""
MOST_LIVES = 400
"""Of one folder in which a deletion is to be killed at random moments, however few of them are met."""
MODES = (Fault(FAIL, times=1), Fault(FAIL, times=3, part=PART), Fault(FAIL, times=FOREVER))


def killed_at_calls(ground: Ground) -> Tally:
    """Kill -9 in every call of a deletion, nothing or a part of a write done."""
    return _everywhere(ground, _whole(ground), [Fault(KILL), Fault(KILL, part=PART)])


def killed_again(ground: Ground) -> Tally:
    """Kill -9 in every call of each deletion that was killed in some call before."""
    tally = Tally()
    for course in _whole(ground):
        calls = _calls(course)
        step = min(ground.thin, len(calls))
        for at in calls[ground.dice.randrange(step) :: step]:
            half = _half(course, at)
            _tries(ground, half, [Fault(KILL, at=call) for call in _calls(half)], tally)
    return tally


def power_cuts(ground: Ground) -> Tally:
    """Power cut in every call; and some calls after one that failed and was tried again."""
    cuts = [Fault(CUT, part=part, dice=dice) for part in (-1, PART) for dice in range(1, DICE + 1)]
    tally = Tally()
    for course in _starts(ground):
        calls = _calls(course)
        faults = [replace(fault, at=at) for at in calls for fault in cuts]
        for at in calls[:-1]:
            later = [ground.dice.randint(at + 1, calls[-1]) for _ in range(CUTS_AFTER)]
            faults += [
                Fault(
                    FAIL, at=at, code=errno.EIO, lossy=True, dice=ground.dice.randrange(1, 1 << 20), cut=cut
                )
                for cut in later
            ]
        _tries(ground, course, faults, tally)
    return tally


def full(ground: Ground) -> Tally:
    """ENOSPC: once, three times, for as long as this recorder lives."""
    return _refused(ground, [replace(mode, code=errno.ENOSPC) for mode in MODES])


def failing(ground: Ground) -> Tally:
    """EIO, a sync that fails so loses what was written since the last."""
    return _refused(ground, [replace(mode, code=errno.EIO, lossy=True) for mode in MODES])


def _refused(ground: Ground, faults: Sequence[Fault]) -> Tally:
    return _everywhere(ground, _starts(ground), faults)


# ---- where from


def _whole(ground: Ground) -> list[Course]:
    """Nothing of the deletion is done."""
    return [scene.copy(f"{scene.name}-whole") for scene in scenes(ground)]


def _starts(ground: Ground) -> Iterator[Course]:
    """Nothing of it done, and killed in the middle of it here and there; each until the next is made."""
    for course in _whole(ground):
        yield course
        calls = _calls(course)
        for at in ground.dice.sample(calls, max(1, HALVES // ground.thin)):
            yield _half(course, at)


def _half(course: Course, at: int) -> Course:
    half = course.copy("half")
    half.live(Fault(KILL, at=at), half.scene.together())
    return half


def _calls(course: Course) -> Sequence[int]:
    """Numbers of the calls of its deletion, by a life without a fault."""
    life = course.copy("measured")
    life.live(Fault(), life.scene.together())
    marks = life.marks
    resumed = range(marks["finishing"][-1] + 1, marks["finished"][-1] + 1) if course.entered() else ()
    return [*resumed, *range(marks["deleting"][-1] + 1, marks["deleted"][-1] + 2)]


# ---- at every call


def _everywhere(ground: Ground, courses: Iterable[Course], faults: Sequence[Fault]) -> Tally:
    tally = Tally()
    for course in courses:
        points = [replace(fault, at=at) for at in _calls(course) for fault in faults]
        _tries(ground, course, points, tally)
    return tally


def _tries(ground: Ground, start: Course, faults: Sequence[Fault], tally: Tally) -> None:
    for fault in ground.some(faults):
        course, orders = start.copy(), start.scene.together()
        what = f"{start.scene.name}, seed {start.modules.seed}, {fault}"
        with tally.surviving(what):
            if not (course.live(fault, orders) and _came(course, fault)):
                tally.fail(f"{what}: the fault never came, or elsewhere")
                continue
            tally.begin()
            _passed(course, fault, tally, what)
            entered = remains.see(course, tally, what)
            remains.finish(course, entered, orders, tally, what)


def _came(course: Course, fault: Fault) -> bool:
    """A life that was to end did: in a deletion or right after it; behind a failure in one, anywhere."""
    if fault.how == FAIL:
        return not fault.cut or not course.modules.ended
    return not course.modules.ended and course.last in ("finishing", "deleting", "deleted")


def _passed(course: Course, fault: Fault, tally: Tally, what: str) -> None:
    """A refusal that passes is outlived: the order is carried out in the same life."""
    if fault.how == FAIL and not fault.cut and fault.times != FOREVER and not course.deleted:
        tally.fail(f"{what}: not carried out, though the disk took it again")


# ---- at random moments


def killed_at_moments(ground: Ground) -> Tally:
    """Kill -9 from outside, at random moments of deletions of one segment after the other.

    A try is one that came between the first call of a deletion, or of a start that resumes one, and the last.
    """
    tally = Tally()
    made = scenes(ground)
    spans = {scene.name: _span_s(scene) for scene in made}
    for scene in cycle(made):
        if tally.tries >= ground.lives:
            break
        _killed(ground, scene, spans[scene.name], tally)
    return tally


def _span_s(scene: Scene) -> tuple[float, float]:
    """From when to when a life deletes, seconds after it began; the second of two, its caches warm."""
    for _ in range(2):
        course = scene.copy("measured")
        begun_s = time.monotonic()
        course.live(Fault(), scene.singly())
    return course.heard_s["deleting"] - begun_s, course.heard_s["deleted"] - begun_s


def _killed(ground: Ground, scene: Scene, span_s: tuple[float, float], tally: Tally) -> None:
    """On one folder, until all that is ordered is gone."""
    course, orders = scene.copy(), scene.singly()
    what = f"{scene.name}, seed {scene.modules.seed}"
    for _ in range(MOST_LIVES):
        fault = Fault(after_s=ground.dice.uniform(*span_s))
        with tally.surviving(what):
            met = course.live(fault, orders)
            if met and course.deleting:
                tally.begin()
                ground.advance(1)
                remains.see(course, tally, f"{what}, {fault}")
        orders = [order for number, order in enumerate(orders) if number not in course.deleted]
        if not orders or tally.tries >= ground.lives:
            break
    remains.finish(course, course.entered(), scene.singly(), tally, what)
