"""The judge of ordered deletions sees each thing that may go wrong with one, and only then says so."""

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from agent.logformat.layout import LEDGER_FILE, gone_name
from agent.recorder.sealed.deletion import Grave
from agent.recorder.sealed.retention import Retention
from hil.log import deletions, remains
from hil.log.expired import Course, Scene, scenes
from hil.log.life import CUT, FAIL, KILL, Fault
from hil.log.nursery import Nursery
from hil.log.trial import Tally
from tests.log.conftest import grounds


@pytest.fixture(scope="module")
def made(nursery: Nursery) -> Iterator[list[Scene]]:
    for ground in grounds(nursery):
        yield scenes(ground)


@pytest.fixture
def course(made: list[Scene]) -> Course:
    """Of a robot in service, whose deletion is not begun."""
    return made[0].copy("course")


def carried_out(course: Course) -> Tally:
    tally = Tally()
    tally.begin()
    remains.finish(course, course.entered(), course.scene.together(), tally, "x")
    return tally


def seen(course: Course) -> Tally:
    tally = Tally()
    tally.begin()
    remains.see(course, tally, "x")
    return tally


def entered(course: Course) -> None:
    """Killed with nothing but the entry done, and that witnessed."""
    for at in deletions._calls(course):
        half = half_at(course, at)
        if half.entered() and b'"kind":"delete"' in half.lines[-1]:
            break
    course.live(Fault(KILL, at=at), course.scene.together())
    assert [course.there(named) for named in course.entered()] == [True] * len(course.scene.ordered)


def half_at(course: Course, at: int) -> Course:
    half = course.copy("half")
    half.live(Fault(KILL, at=at), half.scene.together())
    return half


def test_scenes_are_what_they_are_said_to_be(made: list[Scene]) -> None:
    service, retired = made
    assert {named.stream for named in service.ordered} == {"net", "tele"}
    assert len(service.ordered) >= 4
    assert {named.stream for named in retired.ordered} == {"safety", "net", "tele"}
    assert len(retired.ordered) == len(list(retired.folder.glob("*/*.seg")))
    for scene in (service, retired):
        assert all(any(wraps) for _, wraps in scene.wraps.values())
        assert seen(scene.copy()).found == {0: 1}
        tally = carried_out(scene.copy())
        assert (tally.wrong, tally.after) == ([], {0: 1})


# ---- what goes wrong as it is found


def lose_one_more(course: Course) -> None:
    (course.folder / "net" / "0000000003.seg").unlink()


def delete_without_entry(course: Course) -> None:
    course.segment(course.scene.ordered[0]).unlink()


def bring_back_no_tombstone(course: Course) -> None:
    carried_out(course)
    named = course.scene.ordered[0]
    (course.folder / named.stream / gone_name(named.segno)).unlink()


def spoil_keys(course: Course) -> None:
    entered(course)
    named = course.scene.ordered[0]
    start, wraps = course.scene.wraps[named]
    with course.segment(named).open("r+b") as file:
        os.pwrite(file.fileno(), bytes(len(wraps)), start)


def spare_keys(course: Course) -> None:
    carried_out(course)
    named = course.scene.ordered[0]
    start, wraps = course.scene.wraps[named]
    with course.links[named].open("r+b") as file:
        os.pwrite(file.fileno(), wraps, start)


def forget_the_entry(course: Course) -> None:
    entered(course)
    ledger = course.folder / LEDGER_FILE
    ledger.write_bytes(ledger.read_bytes()[: ledger.read_bytes().index(b',"kind":"delete"') - 200])


def change_the_order(course: Course) -> None:
    entered(course)
    ledger = course.folder / LEDGER_FILE
    ledger.write_bytes(ledger.read_bytes().replace(b'"order":"ey', b'"order":"ez'))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lose_one_more, "records are lost that nobody ordered deleted"),
        (delete_without_entry, "is deleted without an entry"),
        (bring_back_no_tombstone, "left nothing"),
        (spoil_keys, "lost its keys before its tombstone stood"),
        (spare_keys, "lost its name with its keys whole"),
        (forget_the_entry, "exit 2"),
        (change_the_order, "exit 2"),
    ],
)
def test_what_is_found_wrong(course: Course, spoil: Callable[[Course], None], words: str) -> None:
    spoil(course)
    tally = seen(course)
    assert not tally.good
    assert any(words in wrong for wrong in tally.wrong)


# ---- what goes wrong while it is carried out


def no_keys_overwritten(self: Grave, segno: int) -> None:
    """Only unlinked: readable for whoever reads the disk below the file system."""


def no_tombstone(self: Grave, tombstone: bytes, segno: int) -> None:
    """Nothing stays of it."""


def half_a_tombstone(self: Grave, tombstone: bytes, segno: int) -> None:
    Path(f"/proc/self/fd/{self.folder_fd}", gone_name(segno)).write_bytes(tombstone[:-9])


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("_overwrite_keys", no_keys_overwritten, "is not gone as it should be"),
        ("_raise", no_tombstone, "exit 3"),
        ("_raise", half_a_tombstone, "exit 2"),
    ],
)
def test_a_deletion_that_is_wrong(
    course: Course, monkeypatch: pytest.MonkeyPatch, name: str, wrong: object, words: str
) -> None:
    monkeypatch.setattr(Grave, name, wrong)
    tally = carried_out(course)
    assert not tally.good
    assert any(words in told for told in tally.wrong)


def test_a_file_that_comes_back(course: Course) -> None:
    named = course.scene.ordered[0]
    data = course.segment(named).read_bytes()
    assert carried_out(course).good
    course.segment(named).write_bytes(data)
    tally = Tally()
    remains._stay_gone(course, tally, "x")
    for words in ("can be read", "is not gone as it should be", "are still there"):
        assert any(words in wrong for wrong in tally.wrong)


def test_a_start_that_does_not_go_on(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    entered(course)
    monkeypatch.setattr(Retention, "finish", lambda _: ())
    tally = carried_out(course)
    assert any("the next start leaves" in wrong for wrong in tally.wrong)
    assert any("not all is deleted in the end" in wrong for wrong in tally.wrong)


# ---- faults that come


def test_every_step_of_a_deletion_is_among_its_calls(course: Course) -> None:
    """Killed in each, it is found in every state between the order and the last unlink."""
    named, states = course.scene.ordered[0], set()
    for at in deletions._calls(course):
        half = half_at(course, at)
        keys = any(half.keys(named))
        states.add((named in half.entered(), half.there(named), half.gone(named), keys))
    assert states >= {
        (False, True, False, True),
        (True, True, False, True),
        (True, True, True, True),
        (True, True, True, False),
        (True, False, True, False),
    }


def test_a_power_cut_may_bring_back_a_name_that_was_removed(course: Course) -> None:
    """Until the folder is synced; then it does not."""
    named, calls = course.scene.ordered[-1], list(deletions._calls(course))
    removed = next(at for at in calls[-6:] if not half_at(course, at).there(named))
    back = set()
    for at in (removed, calls[-1]):
        for dice in range(1, 7):
            cut = course.copy("cut")
            cut.live(Fault(CUT, at=at, dice=dice), cut.scene.together())
            back.add((at, cut.there(named)))
            assert seen(cut).wrong == []
    assert back == {(removed, True), (removed, False), (calls[-1], False)}
    assert not list(course.folder.parent.glob("cut.removed-*"))


def test_power_is_cut_after_a_failure_that_passed(course: Course) -> None:
    first, *_, last = deletions._calls(course)
    fault = Fault(FAIL, at=first, code=5, lossy=True, cut=last)
    assert course.live(fault, course.scene.together())
    assert not course.modules.ended
    assert course.marks["deleting"]


def test_power_that_is_cut_between_two_deletions_is_a_try_behind_a_failure_alone(course: Course) -> None:
    """While the start goes on that has resumed one: nothing of the deletion is under way then."""
    half = half_at(course, deletions._calls(course)[-5])
    calls = list(deletions._calls(half))
    between = next(at + 1 for at, after in pairwise(calls) if after > at + 4) + 2
    for fault, tries in (
        (Fault(FAIL, at=calls[0], code=5, lossy=True, cut=between), 1),
        (Fault(FAIL, at=calls[0], code=5, lossy=True, cut=10**6), 0),
        (Fault(CUT, at=between), 0),
    ):
        tally = Tally()
        deletions._tries(course.scene.ground, half, [fault], tally)
        assert (tally.tries, tally.good) == (tries, tries > 0)


def test_a_fault_that_never_comes_or_not_in_the_deletion_is_no_try(course: Course) -> None:
    tally = Tally()
    deletions._tries(course.scene.ground, course, [Fault(KILL, at=10**6)], tally)
    deletions._tries(course.scene.ground, course, [Fault(KILL, at=1)], tally)
    assert tally.tries == 0
    assert len(tally.wrong) == 2
    assert all("the fault never came, or elsewhere" in wrong for wrong in tally.wrong)
