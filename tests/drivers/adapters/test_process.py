"""Freeze, thaw, stop, kill: real processes, some of which would rather not."""

import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.adapters import procfs
from drivers.adapters.base import Outcome
from drivers.adapters.process import ProcessAdapter
from drivers.base import DriverError
from tests.descriptors import open_descriptors
from tests.drivers.adapters.rig import (
    DEAF,
    IDLES,
    LOOP,
    PYTHON,
    SHELL,
    SLEEP,
    Desk,
    Program,
    group,
    lives,
    python,
    shell,
    sleeper,
    state,
    vforking,
)
from tests.waiting import block_until

CHILDREN = "sleep 600 & echo $!; wait"
FORKER = f"echo; while :; do sleep 600 & {LOOP.replace('while :; do ', '').replace('; done', '')}; done"
"""Begins another child every 50 ms."""


@pytest.fixture
async def desk() -> Desk:
    return Desk()


def adapter(desk: Desk, path: Path, **changes: object) -> ProcessAdapter:
    settings = {
        "find": "pid_file",
        "path": str(path),
        "exe": SHELL,
        "user": os.getuid(),
        "newer_ok": False,
        "grace_ms": 1000,
    }
    return ProcessAdapter("process robot", {**settings, **changes}, desk.around)


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "robot.pid"


def note(pid_file: Path, program: Program | int) -> None:
    pid_file.write_text(str(program if isinstance(program, int) else program.pid))
    pid_file.chmod(0o644)


# --------------------------------------------------------------------------------------- freeze, thaw


async def test_freeze_and_thaw_a_process_and_its_children(desk: Desk, pid_file: Path) -> None:
    with shell(CHILDREN) as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file)
        everyone = (program.pid, *program.extra)
        step_id = desk.begin(robot, action="freeze")
        assert desk.heard == []
        assert await desk.outcome(robot, step_id) == (Outcome.DONE, "2 processes")
        assert [state(pid) for pid in everyone] == ["T", "T"]
        assert await desk.outcome(robot, desk.begin(robot, action="freeze")) == (Outcome.DONE, "2 processes")
        assert await desk.outcome(robot, desk.begin(robot, action="thaw")) == (Outcome.DONE, "2 processes")
        assert "T" not in [state(pid) for pid in everyone]


async def test_freezing_means_every_thread(desk: Desk, pid_file: Path) -> None:
    script = (
        "import threading, time\n"
        "for _ in range(20): threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print(flush=True); time.sleep(600)"
    )
    with python(script) as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file, exe=PYTHON)
        assert await desk.outcome(robot, desk.begin(robot, action="freeze")) == (Outcome.DONE, "1 process")
        threads = procfs.thread_ids(program.pid)
        assert len(threads) == 21
        assert {procfs.thread_state(program.pid, tid) for tid in threads} == {"T"}


async def test_freezing_catches_children_that_appear_meanwhile(desk: Desk, pid_file: Path) -> None:
    with shell(FORKER) as program:
        block_until(lambda: len(group(program.pid)) > 3)
        note(pid_file, program)
        robot = adapter(desk, pid_file)
        outcome, _ = await desk.outcome(robot, desk.begin(robot, action="freeze"))
        assert outcome is Outcome.DONE
        running = [pid for pid in group(program.pid) if state(pid) != "T"]
        # The shell begins children by vfork: it waits in the kernel for one that was stopped before its exec.
        assert {(state(pid), procfs.stop_pending(pid)) for pid in running} <= {("D", True)}


async def test_freezing_in_the_middle_of_a_vfork_is_seen_for_what_it_is(desk: Desk, pid_file: Path) -> None:
    with vforking() as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file, exe=PYTHON)
        assert await desk.outcome(robot, desk.begin(robot, action="freeze")) == (Outcome.DONE, "2 processes")
        assert await desk.outcome(robot, desk.begin(robot, action="kill")) == (Outcome.DONE, "2 processes")
        assert not lives(program.pid)


async def test_a_thaw_by_someone_else_meanwhile_is_undone(
    desk: Desk, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group's signal is swallowed, as by a supervisor's SIGCONT; insisting gets through."""
    monkeypatch.setattr(procfs, "send_group", lambda _pidfd, _number: True)
    with sleeper() as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file, exe=SLEEP)
        outcome, _ = await desk.outcome(robot, desk.begin(robot, action="freeze"))
        assert outcome is Outcome.DONE
        assert state(program.pid) == "T"


async def test_freezing_what_does_not_run_fails(desk: Desk, pid_file: Path) -> None:
    with sleeper() as program:
        note(pid_file, program)
        program.end()
        robot = adapter(desk, pid_file)
        for action in ("freeze", "thaw"):
            step_id = desk.begin(robot, action=action)
            assert await desk.outcome(robot, step_id) == (Outcome.FAILED, "no such process")


async def test_what_ends_while_it_is_thawed_is_not_running_again(
    desk: Desk, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sleeper() as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file, exe=SLEEP)
        await desk.outcome(robot, desk.begin(robot, action="freeze"))

        def kill(pidfd: int, number: int) -> bool:
            procfs.send(pidfd, signal.SIGKILL)
            return block_until(lambda: procfs.ended(pidfd))

        monkeypatch.setattr(procfs, "send_group", kill)
        step_id = desk.begin(robot, action="thaw")
        assert await desk.outcome(robot, step_id) == (Outcome.FAILED, "it ended meanwhile")


# ------------------------------------------------------------------------------------------ stop, kill


@pytest.mark.parametrize("action", ["stop", "kill"])
async def test_stop_and_kill_end_the_whole_group(desk: Desk, pid_file: Path, action: str) -> None:
    with shell(CHILDREN) as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file)
        step_id = desk.begin(robot, action=action)
        assert await desk.outcome(robot, step_id) == (Outcome.DONE, "2 processes")
        assert group(program.pid) == []
        expected = signal.SIGTERM if action == "stop" else signal.SIGKILL
        assert program.reap() == -expected


async def test_one_that_ignores_sigterm_gets_sigkill_at_the_deadline_and_not_before(
    desk: Desk, pid_file: Path
) -> None:
    with shell(DEAF) as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file)
        step_id = desk.begin(robot, deadline_ms=500, action="stop")
        await desk.pass_polling(robot, 490)
        assert state(program.pid) in "RSD"
        assert desk.heard == []
        desk.pass_ms(10)
        result = await desk.result(robot, step_id)
        assert (result.outcome, result.detail) == (Outcome.LATE, "2 processes, SIGKILL was needed")
        assert result.after_ms >= 500
        assert program.reap() == -signal.SIGKILL


async def test_what_is_frozen_is_not_thawed_to_be_stopped(desk: Desk, pid_file: Path) -> None:
    with sleeper() as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file, exe=SLEEP)
        await desk.outcome(robot, desk.begin(robot, action="freeze"))
        step_id = desk.begin(robot, deadline_ms=300, action="stop")
        await desk.pass_polling(robot, 290)
        assert state(program.pid) == "T"
        desk.pass_ms(10)
        assert await desk.outcome(robot, step_id) == (Outcome.LATE, "1 process, SIGKILL was needed")


async def test_one_that_forks_away_at_sigterm_is_followed(desk: Desk, pid_file: Path, tmp_path: Path) -> None:
    """It answers SIGTERM by beginning another program in a session of its own, and lives on."""
    escaped = tmp_path / "escaped"
    script = f'trap \'trap "" TERM; setsid {SHELL} -c "echo \\$\\$ > {escaped}; {LOOP}" &\' TERM; {IDLES}'
    with shell(script) as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file)
        step_id = desk.begin(robot, deadline_ms=60_000, action="stop")
        await desk.polled(robot, lambda: escaped.exists() and escaped.read_text())
        pid = int(escaped.read_text())
        assert os.getsid(pid) == pid
        desk.pass_ms(60_000)
        outcome, detail = await desk.outcome(robot, step_id)
        assert (outcome, detail.endswith(", SIGKILL was needed")) == (Outcome.LATE, True)
        assert not lives(pid)
        assert not lives(program.pid)


async def test_killing_catches_children_that_appear_meanwhile(desk: Desk, pid_file: Path) -> None:
    with shell(FORKER) as program:
        block_until(lambda: len(group(program.pid)) > 3)
        note(pid_file, program)
        robot = adapter(desk, pid_file)
        outcome, _ = await desk.outcome(robot, desk.begin(robot, action="kill"))
        assert outcome is Outcome.DONE
        assert group(program.pid) == []


@pytest.mark.parametrize("action", ["stop", "kill"])
async def test_what_had_ended_before_is_done(desk: Desk, pid_file: Path, action: str) -> None:
    with sleeper() as program:
        note(pid_file, program)
        program.end()
        robot = adapter(desk, pid_file)
        step_id = desk.begin(robot, action=action)
        assert await desk.outcome(robot, step_id) == (Outcome.DONE, "nothing of it was running")


async def test_one_that_cannot_be_killed_fails_in_bounded_time(
    desk: Desk, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in uninterruptible sleep: signals are taken and nothing happens."""
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: None)
    before = open_descriptors()
    with sleeper() as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file, exe=SLEEP)
        step_id = desk.begin(robot, deadline_ms=100, action="kill")
        await desk.pass_polling(robot, 1090)
        assert desk.heard == []
        desk.pass_ms(10)
        result = await desk.result(robot, step_id)
        assert result.outcome is Outcome.FAILED
        assert result.detail == "not finished 1000 ms after its deadline of 100 ms"
        assert lives(program.pid)
    assert open_descriptors() == before


# --------------------------------------------------------------------------------- never the wrong one


@pytest.mark.parametrize("action", ["freeze", "stop", "kill"])
async def test_a_reused_pid_is_never_hit(desk: Desk, pid_file: Path, action: str) -> None:
    """The number in the file is a live process that is not the robot's."""
    with sleeper() as someone_else:
        note(pid_file, someone_else)
        robot = adapter(desk, pid_file)
        outcome, detail = await desk.outcome(robot, desk.begin(robot, action=action))
        assert outcome is Outcome.FAILED
        assert detail.startswith(f"process {someone_else.pid} is not {SHELL} of user")
        assert state(someone_else.pid) == "S"


async def test_a_pid_reused_by_the_same_program_is_known_by_its_start(desk: Desk, pid_file: Path) -> None:
    with shell(IDLES) as someone_else:
        note(pid_file, someone_else)
        os.utime(pid_file, (1, 1))
        robot = adapter(desk, pid_file)
        outcome, detail = await desk.outcome(robot, desk.begin(robot, action="kill"))
        assert (outcome, "its pid was reused" in detail) == (Outcome.FAILED, True)
        assert lives(someone_else.pid)


async def test_the_agent_itself_is_never_hit(desk: Desk, pid_file: Path) -> None:
    note(pid_file, os.getpid())
    robot = adapter(desk, pid_file, exe=PYTHON)
    step_id = desk.begin(robot, action="kill")
    assert await desk.outcome(robot, step_id) == (Outcome.FAILED, "the agent itself belongs to the target")


async def test_without_the_right_to_signal_it_fails_at_once(
    desk: Desk, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    with shell(CHILDREN) as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file)
        monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
        step_id = desk.begin(robot, action="kill")
        assert await desk.outcome(robot, step_id) == (
            Outcome.FAILED,
            "not permitted to signal 2 of 2 processes",
        )


async def test_a_missing_pid_file_is_no_proof_that_nothing_runs(desk: Desk, tmp_path: Path) -> None:
    robot = adapter(desk, tmp_path / "none.pid")
    outcome, detail = await desk.outcome(robot, desk.begin(robot, action="kill"))
    assert outcome is Outcome.FAILED
    assert detail.endswith("none.pid: No such file or directory")


# ----------------------------------------------------------------------------------- other ways to find


async def test_by_program_and_user(desk: Desk, tmp_path: Path) -> None:
    own = Path(shutil.copy(SHELL, tmp_path / "robot"))
    user = pwd.getpwuid(os.getuid()).pw_name
    robot = adapter(desk, own, find="exe", exe=None, user=user)
    with shell(f"exec {own} -c '{CHILDREN}'") as one, shell(f"exec {own} -c '{CHILDREN}'") as two:
        with shell(IDLES) as other:
            step_id = desk.begin(robot, action="kill")
            assert await desk.outcome(robot, step_id) == (Outcome.DONE, "4 processes")
            assert lives(other.pid)
        assert not any(lives(program.pid) for program in (one, two))
    step_id = desk.begin(robot, action="kill")
    assert await desk.outcome(robot, step_id) == (Outcome.DONE, "nothing of it was running")


async def test_programs_that_may_not_be_read_leave_a_doubt(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(pid: int) -> str:
        raise PermissionError

    robot = adapter(desk, tmp_path / "robot", find="exe", exe=None)
    monkeypatch.setattr(procfs, "program", denied)
    outcome, detail = await desk.outcome(robot, desk.begin(robot, action="kill"))
    assert outcome is Outcome.FAILED
    assert detail.endswith("may not be read (same user or CAP_SYS_PTRACE)")


async def test_by_control_group(desk: Desk, tmp_path: Path) -> None:
    """A folder that looks like one; `test_kin` has a real one where it can be made."""
    with shell(CHILDREN) as program:
        (tmp_path / "cgroup.procs").write_text(f"{program.extra[0]}\n")
        robot = adapter(desk, tmp_path, find="cgroup", exe=None, user=None)
        assert await desk.outcome(robot, desk.begin(robot, action="kill")) == (Outcome.DONE, "1 process")
        assert not lives(program.extra[0])


# ---------------------------------------------------------------------------------------------- the rest


async def test_an_action_that_is_none_fails(desk: Desk, pid_file: Path) -> None:
    robot = adapter(desk, pid_file)
    for args in ({}, {"action": "explode"}, {"action": 5}):
        desk.begin(robot, **args)
    assert {(each.outcome, each.detail) for each in desk.heard} == {
        (Outcome.FAILED, "args.action must be one of freeze, thaw, stop, kill")
    }


async def test_a_user_that_is_not_known_stops_the_build(desk: Desk, pid_file: Path) -> None:
    with pytest.raises(DriverError, match="user that is not known here: 'nobody-of-that-name'"):
        adapter(desk, pid_file, user="nobody-of-that-name")


async def test_closing_leaves_the_target_as_it_is(desk: Desk, pid_file: Path) -> None:
    before = open_descriptors()
    with shell(DEAF) as program:
        note(pid_file, program)
        robot = adapter(desk, pid_file)
        step_id = desk.begin(robot, deadline_ms=500, action="stop")
        await desk.polled(robot, lambda: len(robot._jobs) == 1)
        robot.close()
        robot.close()
        (result,) = desk.of(step_id)
        assert (result.outcome, result.detail) == (Outcome.FAILED, "the adapter was closed")
        assert lives(program.pid)
    assert open_descriptors() == before


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    """Every pidfd is closed once its step has its result."""
    before = open_descriptors()
    yield
    assert open_descriptors() <= before
