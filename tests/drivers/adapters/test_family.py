"""Who is held and signalled, and who never is; with ways of finding that lie."""

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from drivers.adapters import family as family_module
from drivers.adapters import procfs
from drivers.adapters.family import Family
from drivers.adapters.kin import Held, Kin, SessionKin, TargetError
from drivers.adapters.procfs import Stat
from tests.descriptors import open_descriptors
from tests.drivers.adapters.rig import IDLES, SHELL, Program, lives, shell, sleeper, state
from tests.waiting import wait_until


class Says:
    """Finds whoever the test says."""

    whole_groups = False
    unsure = 0

    def __init__(self, *found: Stat) -> None:
        self.found = list(found)
        self.confirmed: Callable[[Stat], bool] = lambda _: True
        self.trouble: Exception | None = None

    def find(self, held: Held) -> Generator[None, None, list[Stat]]:
        yield
        if self.trouble:
            raise self.trouble
        return self.found

    def confirm(self, found: list[Stat]) -> list[Stat]:
        return [entry for entry in found if self.confirmed(entry)]


def stat_of(pid: int) -> Stat:
    stat = procfs.read_stat(pid)
    assert stat is not None
    return stat


@contextmanager
def sleeping() -> Iterator[tuple[Program, Stat]]:
    with sleeper() as program:
        yield program, stat_of(program.pid)


@asynccontextmanager
async def family_of(kin: Kin) -> AsyncIterator[Family]:
    family = Family(asyncio.get_running_loop(), kin)
    yield family
    family.close()


async def look(family: Family) -> None:
    looked: list[bool] = []
    family.look(lambda: looked.append(True))
    await wait_until(lambda: looked)


async def test_who_is_found_is_held_and_signalled() -> None:
    with sleeping() as (program, stat):
        async with family_of(Says(stat)) as family:
            await look(family)
            assert len(family) == 1
            assert family.signal(signal.SIGKILL) == (1, 0)
            assert family.signal(signal.SIGKILL) == (0, 0)
            assert program.reap() == -signal.SIGKILL
            kin = Says()
            family._kin = kin
            await look(family)
            assert len(family) == 0


async def test_a_number_that_means_someone_else_by_now_is_never_held() -> None:
    """The pid was reused between the finding and the pidfd: same number, another start."""
    with sleeping() as (program, stat):
        async with family_of(Says(stat._replace(start_ticks=stat.start_ticks - 1))) as family:
            await look(family)
            assert len(family) == 0
            assert family.signal(signal.SIGKILL) == (0, 0)
            assert lives(program.pid)


async def test_who_does_not_belong_when_asked_again_is_not_signalled() -> None:
    with sleeping() as (program, stat):
        kin = Says(stat)
        kin.confirmed = lambda _: False
        async with family_of(kin) as family:
            before = open_descriptors()
            await look(family)
            assert len(family) == 0
            assert open_descriptors() == before
            family.signal(signal.SIGKILL)
            assert lives(program.pid)


@pytest.mark.parametrize(
    ("pid", "whom"), [(1, "process 1"), (os.getpid(), "the agent itself")], ids=["first", "own"]
)
async def test_this_process_and_the_first_one_are_never_signalled(pid: int, whom: str) -> None:
    with sleeping() as (program, stat):
        async with family_of(Says(stat, stat_of(pid))) as family:
            await look(family)
            assert family.trouble == f"{whom} belongs to the target"
            assert family.signal(signal.SIGKILL) == (0, 0)
            assert lives(program.pid)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (TargetError("who is meant?"), "who is meant?"),
        (OSError(errno.EMFILE, "x"), "processes cannot be looked at: Too many open files"),
    ],
)
async def test_trouble_is_said_and_over_with_the_next_look(trouble: Exception, words: str) -> None:
    with sleeping() as (_, stat):
        kin = Says(stat)
        kin.trouble = trouble
        async with family_of(kin) as family:
            await look(family)
            assert (family.trouble, len(family)) == (words, 0)
            kin.trouble = None
            await look(family)
            assert (family.trouble, len(family)) == ("", 1)


async def test_trouble_when_asked_again_lets_go_of_everyone() -> None:
    def doubt(_: Stat) -> bool:
        raise TargetError("it is another program by now")

    with sleeping() as (_, stat):
        kin = Says(stat)
        kin.confirmed = doubt
        async with family_of(kin) as family:
            before = open_descriptors()
            await look(family)
            assert (family.trouble, len(family)) == ("it is another program by now", 0)
            assert open_descriptors() == before


@pytest.mark.parametrize(
    ("states", "pending", "stops"),
    [
        ("D", True, True),
        ("D", False, False),
        ("DT", False, True),
        ("DS", True, False),
        ("DTR", True, False),
        ("S", True, False),
    ],
)
def test_who_sleeps_in_the_kernel_and_stops_when_it_wakes(
    monkeypatch: pytest.MonkeyPatch, states: str, pending: bool, stops: bool
) -> None:
    monkeypatch.setattr(procfs, "stop_pending", lambda _: pending)
    assert Family._stops_when_it_wakes(4711, list(states)) is stops


async def test_what_is_known_of_a_member_is_what_was_seen_last() -> None:
    with sleeping() as (program, stat):
        kin = Says(stat)
        async with family_of(kin) as family:
            await look(family)
            kin.found = [stat._replace(pgrp=4711)]
            await look(family)
            assert family._members[program.pid].stat.pgrp == 4711
            kin.found = [stat._replace(start_ticks=stat.start_ticks + 1)]
            await look(family)
            assert family._members[program.pid].stat.start_ticks == stat.start_ticks


async def test_no_more_are_held_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_module, "MAX_HELD", 2)
    with sleeping() as one, sleeping() as two, sleeping() as three:
        kin = Says(one[1], two[1], three[1])
        async with family_of(kin) as family:
            await look(family)
            assert (len(family), family.unheld) == (3, 1)
            assert family.signal(signal.SIGKILL) == (2, 0)
            await wait_until(
                lambda: [lives(each[0].pid) for each in (one, two, three)] == [False, False, True]
            )
            await look(family)
            assert (len(family), family.unheld) == (1, 0)
            assert family.signal(signal.SIGKILL) == (1, 0)
            await wait_until(lambda: not lives(three[0].pid))


async def test_without_a_descriptor_someone_is_unheld_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with sleeping() as (_, stat):
        async with family_of(Says(stat)) as family:
            monkeypatch.setattr(procfs, "open_pidfd", none_left)
            await look(family)
            assert (len(family), family.unheld) == (1, 1)


async def test_a_refused_signal_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pidfd: int, number: int) -> None:
        raise PermissionError

    with sleeping() as (program, stat):
        async with family_of(Says(stat)) as family:
            await look(family)
            monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
            assert family.signal(signal.SIGKILL) == (1, 1)
            assert lives(program.pid)


@pytest.mark.parametrize("kernel_knows_groups", [True, False])
async def test_a_session_is_signalled_whole(
    monkeypatch: pytest.MonkeyPatch, kernel_knows_groups: bool
) -> None:
    """Before Linux 6.9 each process is signalled by itself."""
    alone: list[int] = []
    real = procfs.send

    def send(pidfd: int, number: int) -> bool:
        alone.append(number)
        return real(pidfd, number)

    def send_group(pidfd: int, number: int) -> bool:
        if kernel_knows_groups:
            os.killpg(program.pid, number)
        return kernel_knows_groups

    monkeypatch.setattr(procfs, "send", send)
    monkeypatch.setattr(procfs, "send_group", send_group)
    with shell("sleep 600 & echo $!; wait") as program:
        async with family_of(SessionKin(program.pid)) as family:
            await look(family)
            members = [pid for pid in family._members if pid in {program.pid, *program.extra}]
            assert len(members) == 2
            family.signal(signal.SIGSTOP)
            assert len(alone) == (0 if kernel_knows_groups else 2)
            await wait_until(lambda: all(state(pid) == "T" for pid in members))
            await look(family)
            assert family.stopped == len(family) >= 2


async def test_a_group_that_holds_this_process_is_never_signalled_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []

    def note(pidfd: int, number: int) -> bool:
        sent.append(number)
        return True

    monkeypatch.setattr(procfs, "send_group", note)
    with sleeping() as (program, stat):
        kin = Says(stat)
        kin.whole_groups = True
        monkeypatch.setattr(os, "getpgrp", lambda: program.pid)
        async with family_of(kin) as family:
            await look(family)
            assert family.signal(signal.SIGTERM) == (1, 0)
            assert sent == []


async def test_insisting_reaches_only_those_who_run() -> None:
    with shell(IDLES) as one, shell(IDLES) as two:
        kin = Says(stat_of(one.pid), stat_of(two.pid))
        async with family_of(kin) as family:
            await look(family)
            family.signal(signal.SIGSTOP)
            await wait_until(lambda: state(one.pid) == state(two.pid) == "T")
            os.kill(two.pid, signal.SIGCONT)
            await wait_until(lambda: state(two.pid) != "T")
            await look(family)
            assert family.stopped == 1
            family.insist(signal.SIGSTOP)
            await wait_until(lambda: state(two.pid) == "T")


async def test_the_end_of_the_last_one_is_told_at_once() -> None:
    with sleeping() as one, sleeping() as two:
        async with family_of(Says(one[1], two[1])) as family:
            told: list[bool] = []
            await look(family)
            family.watch(lambda: told.append(True))
            family.watch(lambda: told.append(False))
            os.kill(one[0].pid, signal.SIGKILL)
            await wait_until(lambda: len(family._watched) == 1)
            assert told == []
            os.kill(two[0].pid, signal.SIGKILL)
            await wait_until(lambda: told)
            assert told == [True]


async def test_closing_lets_go_of_everything_and_ends_a_look() -> None:
    with sleeping() as (program, stat):
        before = open_descriptors()
        async with family_of(Says(stat)) as family:
            await look(family)
            family.watch(lambda: None)
            looked: list[bool] = []
            family.look(lambda: looked.append(True))
            family.close()
            family.close()
            assert not family.looking
            assert open_descriptors() == before
            await asyncio.sleep(0)
            assert looked == []
            assert lives(program.pid)


async def test_a_look_lets_the_loop_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_module, "READS_PER_TURN", 1)
    looked: list[bool] = []
    turns = 0
    async with family_of(SessionKin(os.getpid() + 1_000_000_000)) as family:
        family.look(lambda: looked.append(True))
        while not looked:
            turns += 1
            await asyncio.sleep(0)
        assert len(family) == 0
    assert turns > len(procfs.pids()) // 2


async def test_nobody_is_killed_before_a_look_that_began_when_all_stood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child that was being forked while its parent was stopped is found before the parent is gone."""
    sent: list[int] = []
    real = procfs.send

    def send(pidfd: int, number: int) -> bool:
        sent.append(number)
        return real(pidfd, number)

    monkeypatch.setattr(procfs, "send", send)
    with sleeping() as parent, sleeping() as child:
        kin = Says(parent[1])
        async with family_of(kin) as family:
            await look(family)
            assert family.end_all() == (1, 0)
            await wait_until(lambda: state(parent[0].pid) == "T")
            await look(family)
            assert family.end_all() == (1, 0)  # all stand now, but this look had begun before
            kin.found.append(child[1])
            await look(family)
            assert family.end_all() == (1, 0)
            assert sent == [signal.SIGSTOP, signal.SIGSTOP]
            await wait_until(lambda: state(child[0].pid) == "T")
            for _ in range(2):
                await look(family)
                told = family.end_all()
            assert told == (2, 0)
            assert sent[2:] == [signal.SIGKILL, signal.SIGKILL]


async def test_one_that_never_stands_is_killed_all_the_same() -> None:
    with sleeping() as (program, stat):
        async with family_of(Says(stat)) as family:
            await look(family)
            for _ in range(family_module.MAX_ROUNDS - 1):
                assert family.end_all() == (1, 0)
            assert family.end_all() == (1, 0)
            assert program.reap() == -signal.SIGKILL


async def test_one_that_has_left_its_group_since_it_was_found_is_signalled_by_itself(tmp_path: Path) -> None:
    go = tmp_path / "go"
    leaves = f"while [ ! -e {go} ]; do :; done; exec setsid sleep 600"
    with shell(f"{SHELL} -c '{leaves}' & echo $!; wait") as program:
        (child,) = program.extra
        async with family_of(SessionKin(program.pid)) as family:
            await look(family)
            assert child in family._members
            go.touch()
            await wait_until(lambda: os.getsid(child) == child)
            family.signal(signal.SIGSTOP)
            await wait_until(lambda: state(child) == "T")
