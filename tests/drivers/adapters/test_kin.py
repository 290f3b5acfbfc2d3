"""Who belongs to a target: rules that need no signal to be seen."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from drivers.adapters import kin as kin_module
from drivers.adapters import procfs
from drivers.adapters.kin import CgroupKin, Kin, PidFileKin, ProgramKin, SessionKin, TargetError, relatives
from drivers.adapters.procfs import Stat
from tests.drivers.adapters.rig import IDLES, SHELL, Program, shell, sleeper
from tests.waiting import block_until

UID = os.getuid()


def find(kin: Kin, held: dict[int, int] | None = None) -> list[int]:
    search = kin.find(held or {})
    while True:
        try:
            next(search)
        except StopIteration as end:
            return sorted(entry.pid for entry in kin.confirm(end.value))


def entry(pid: int, ppid: int = 1, pgrp: int = 0, session: int = 0, start: int = 5) -> Stat:
    return Stat(pid, "S", ppid, pgrp or pid, session or pid, 1, start)


TABLE = {
    each.pid: each
    for each in (
        entry(10, pgrp=10, session=10),
        entry(11, 10, 10, 10),
        entry(12, 11, 12, 12),  # left the session
        entry(13, 12, 12, 12),
        entry(20, pgrp=20, session=20),
        entry(21, 20, 20, 20),
        entry(30, 1, 10, 10),  # lost its parent, kept its group
    )
}


@pytest.mark.parametrize(
    ("seeds", "group", "expected"),
    [
        ({10: 5}, None, [10, 11, 12, 13]),
        ({10: 5}, 10, [10, 11, 12, 13, 30]),
        ({}, 10, [10, 11, 12, 13, 30]),
        ({12: 5}, None, [12, 13]),
        ({12: 4}, None, []),
        ({99: 5}, None, []),
        ({21: 5}, 10, [10, 11, 12, 13, 21, 30]),
    ],
)
def test_relatives(seeds: dict[int, int], group: int | None, expected: list[int]) -> None:
    found = relatives(TABLE, seeds, lambda each: (each.pgrp, each.session) == (group, group))
    assert sorted(each.pid for each in found) == expected


def test_parents_that_go_in_circles_end_the_search() -> None:
    table = {1: entry(1, 2), 2: entry(2, 1)}
    assert len(relatives(table, {1: 5}, lambda _: False)) == 2


# ------------------------------------------------------------------------------------------------- pid files


@pytest.fixture
def robot() -> Iterator[Program]:
    with shell("sleep 600 & echo $!; wait") as program:
        yield program


@pytest.fixture
def pid_file(tmp_path: Path, robot: Program) -> Path:
    path = tmp_path / "robot.pid"
    path.write_text(f"{robot.pid}\n")
    path.chmod(0o644)
    return path


def by_file(path: Path, exe: str = SHELL, uid: int = UID, *, newer_ok: bool = False) -> PidFileKin:
    return PidFileKin(str(path), exe, uid, newer_ok=newer_ok)


def test_the_process_of_a_pid_file_and_its_group(pid_file: Path, robot: Program) -> None:
    """They, and nobody else on this machine."""
    assert find(by_file(pid_file)) == sorted([robot.pid, *robot.extra])


def test_the_file_is_read_once_per_step(pid_file: Path, robot: Program) -> None:
    """Whoever writes another number into it meanwhile changes nothing."""
    kin = by_file(pid_file)
    find(kin)
    pid_file.write_text("1\n")
    assert robot.pid in find(kin)


@pytest.mark.parametrize(("exe", "uid"), [("/usr/bin/false", UID), (SHELL, UID + 1)])
def test_a_pid_that_is_another_program_s_or_another_user_s(pid_file: Path, exe: str, uid: int) -> None:
    pid_file.chmod(0o644)
    with pytest.raises(TargetError, match="its pid was reused, or the plan is wrong"):
        find(by_file(pid_file, exe, uid))


def test_a_process_that_started_after_its_file_was_written(pid_file: Path, robot: Program) -> None:
    old_s = time.time() - 3600
    os.utime(pid_file, (old_s, old_s))
    with pytest.raises(TargetError, match="its pid was reused"):
        find(by_file(pid_file))
    assert robot.pid in find(by_file(pid_file, newer_ok=True))


def test_a_pid_reused_while_we_looked_is_found_out(
    pid_file: Path, robot: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at its program and the pidfd it became something else."""
    programs = iter([SHELL, "/usr/bin/other"])
    monkeypatch.setattr(procfs, "program", lambda _: next(programs))
    with pytest.raises(TargetError, match="is not"):
        find(by_file(pid_file))


def test_a_process_that_has_ended(pid_file: Path, robot: Program) -> None:
    robot.end()
    assert find(by_file(pid_file)) == []


def test_a_group_without_its_leader_is_nobody_s(pid_file: Path, robot: Program) -> None:
    os.kill(robot.pid, 9)
    robot.reap()
    with pytest.raises(TargetError, match="has ended, but 1 of a group of that number"):
        find(by_file(pid_file))


@pytest.mark.parametrize("content", ["", "\n", "x", "-5", "0", "1", "12 13", "9" * 40, "٣"])
def test_a_file_without_a_pid(pid_file: Path, content: str) -> None:
    pid_file.write_text(content, "utf-8")
    with pytest.raises(TargetError, match="holds no process id"):
        find(by_file(pid_file))


def test_a_file_that_others_may_write(pid_file: Path) -> None:
    for mode in (0o664, 0o646):
        pid_file.chmod(mode)
        with pytest.raises(TargetError, match="not a file that only root or the robot's user can write"):
            find(by_file(pid_file))


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="No such file"):
        find(by_file(tmp_path / "none"))
    with pytest.raises(TargetError, match="Is a directory"):
        find(by_file(tmp_path))
    os.mkfifo(tmp_path / "fifo", 0o644)
    with pytest.raises(TargetError, match="not a file"):
        find(by_file(tmp_path / "fifo"))


def test_a_hidden_proc_is_no_proof_of_anything(pid_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "read_stat", lambda _: None)
    for kin in (by_file(pid_file), ProgramKin(SHELL, UID)):
        with pytest.raises(TargetError, match="hides other users' processes"):
            find(kin)


# ------------------------------------------------------------------------------------------------- by program


@pytest.fixture
def own_program(tmp_path: Path) -> str:
    """A program that nobody else runs."""
    return str(shutil.copy(SHELL, tmp_path / "robot"))


def test_every_process_of_the_program_and_what_they_began(own_program: str) -> None:
    parent = f"exec {own_program} -c 'sleep 600 & echo $!; wait'"
    with shell(parent) as one, shell(parent) as two:
        found = find(ProgramKin(own_program, UID))
        assert found == sorted([one.pid, two.pid, *one.extra, *two.extra])
        assert find(ProgramKin(own_program, UID + 1)) == []


def test_a_number_that_changed_hands_while_its_program_was_read_is_no_root(
    own_program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shell(f"exec {own_program} -c '{IDLES}'"):
        kin = ProgramKin(own_program, UID)
        assert find(kin) != []
        monkeypatch.setattr(kin_module, "_same", lambda _one, _other: False)
        assert find(ProgramKin(own_program, UID)) == []


def test_only_where_a_group_belongs_as_a_whole_is_it_signalled_as_one() -> None:
    """A control group's process may be in a process group with others that are not."""
    for kind in (PidFileKin, ProgramKin, SessionKin):
        assert kind.whole_groups
    assert not CgroupKin.whole_groups


def test_what_it_leaves_behind_is_held_on_to(own_program: str) -> None:
    with shell(f"exec {own_program} -c 'sleep 600 & echo $!; wait'") as program:
        kin = ProgramKin(own_program, UID)
        find(kin)
        os.kill(program.pid, 9)
        program.reap()
        assert find(kin) == program.extra


def test_those_that_may_not_be_looked_at_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(pid: int) -> str:
        raise PermissionError

    monkeypatch.setattr(procfs, "program", denied)
    kin = ProgramKin(SHELL, UID)
    with sleeper() as program:
        assert find(kin) == []
        sure = kin.unsure
        assert sure >= 1
        monkeypatch.setattr(procfs, "real_uid", lambda pid: UID if pid in {1, program.pid} else UID + 1)
        assert find(kin) == []
        assert kin.unsure == 1  # process 1 would never be signalled


# ------------------------------------------------------------------------------------------------- sessions


def test_a_session_and_who_left_it_with_a_living_parent() -> None:
    with shell("setsid sleep 600 & echo $!; wait") as program:
        block_until(lambda: os.getsid(program.extra[0]) == program.extra[0])
        assert find(SessionKin(program.pid)) == sorted([program.pid, *program.extra])


def test_others_that_may_not_be_seen_do_not_matter_to_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    real = procfs.read_stat

    def mine(pid: int) -> Stat | None:
        if pid == 1:
            raise PermissionError
        return real(pid)

    with sleeper() as program:
        monkeypatch.setattr(procfs, "read_stat", mine)
        assert find(SessionKin(program.pid)) == [program.pid]


# ---------------------------------------------------------------------------------------------------- cgroups


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[Path]:
    """A control group where this user may make one, else a folder that looks like one."""
    real = real_cgroup()
    if real is None:
        yield tmp_path
        return
    yield real
    for folder in (real / "below", real):
        block_until(partial(is_empty, folder))
        folder.rmdir()


def is_empty(folder: Path) -> bool:
    return not (folder / "cgroup.procs").read_text()


def real_cgroup() -> Path | None:
    for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        folder = Path(mount, f"warden-test-{os.getpid()}")
        with suppress(OSError):
            folder.mkdir()
            if (folder / "cgroup.kill").exists():  # version 2
                return folder
            folder.rmdir()
    return None


def enter(cgroup: Path, pid: int) -> None:
    with (cgroup / "cgroup.procs").open("a") as file:
        file.write(f"{pid}\n")


def test_all_of_a_control_group_and_of_those_below(cgroup: Path) -> None:
    with sleeper() as one, sleeper() as two, sleeper() as other:
        (cgroup / "below").mkdir()
        enter(cgroup, one.pid)
        enter(cgroup / "below", two.pid)
        found = find(CgroupKin(str(cgroup)))
        assert found == sorted([one.pid, two.pid])
        assert other.pid not in found


def test_a_control_group_that_never_was_is_an_error_one_that_went_is_empty(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="there is no control group"):
        find(CgroupKin(str(tmp_path / "none")))
    folder = tmp_path / "group"
    folder.mkdir()
    (folder / "cgroup.procs").touch()
    kin = CgroupKin(str(folder))
    assert find(kin) == []
    shutil.rmtree(folder)
    assert find(kin) == []


def test_a_control_group_that_cannot_be_read_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.procs").touch()

    def threaded(path: Path, encoding: str) -> str:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "read_text", threaded)
    with pytest.raises(TargetError, match="Operation not supported"):
        find(CgroupKin(str(tmp_path)))


def test_one_that_left_the_group_while_we_looked_is_not_taken(tmp_path: Path) -> None:
    with sleeper() as program:
        (tmp_path / "cgroup.procs").write_text(f"{program.pid}\n")
        kin = CgroupKin(str(tmp_path))
        search = kin.find({})
        found: list[Stat] = []
        try:
            while True:
                next(search)
        except StopIteration as end:
            found = end.value
        assert [each.pid for each in found] == [program.pid]
        (tmp_path / "cgroup.procs").write_text("")
        assert kin.confirm(found) == []
