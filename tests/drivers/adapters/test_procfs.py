"""What /proc and pidfds say, against real processes."""

import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.adapters import procfs
from tests.drivers.adapters.rig import IDLES, PYTHON, SHELL, python, shell, sleeper, state, vforking
from tests.waiting import block_until


def test_of_this_very_process() -> None:
    stat = procfs.read_stat(os.getpid())
    assert stat is not None
    assert (stat.pid, stat.ppid, stat.pgrp, stat.session) == (
        os.getpid(),
        os.getppid(),
        os.getpgrp(),
        os.getsid(0),
    )
    assert stat.state in "RS"
    assert procfs.real_uid(os.getpid()) == os.getuid()
    assert procfs.program(os.getpid()) == PYTHON
    assert os.getpid() in procfs.pids()
    assert os.getpid() in procfs.thread_ids(os.getpid())


def test_a_start_is_counted_from_boot() -> None:
    stat = procfs.read_stat(os.getpid())
    assert stat is not None
    started_s = stat.start_ticks / os.sysconf("SC_CLK_TCK")
    assert 0 < started_s <= time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize("name", ["sleep", "a (b) c", ") R 1 1 1", "x" * 15])
def test_a_process_may_be_called_what_it_likes(name: str) -> None:
    line = f"42 ({name}) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 12345 1 1".encode()
    assert procfs.parse_stat(line) == procfs.Stat(42, "S", 7, 8, 9, 3, 12345)


@given(st.binary(max_size=400))
def test_no_bytes_are_mistaken_for_an_error(line: bytes) -> None:
    stat = procfs.parse_stat(line)
    assert stat is None or stat.pid >= 0


def test_nobody_of_that_number() -> None:
    with sleeper() as program:
        pid = program.pid
        program.end()
        assert procfs.read_stat(pid) is None
        assert procfs.real_uid(pid) is None
        assert procfs.program(pid) is None
        assert procfs.open_pidfd(pid) is None
        assert procfs.thread_ids(pid) == []
        assert procfs.thread_state(pid, pid) == "X"


def test_a_program_that_was_replaced_on_disk_is_still_that_program(tmp_path: Path) -> None:
    copy = tmp_path / "robot"
    copy.write_bytes(Path(SHELL).read_bytes())
    copy.chmod(0o755)
    with shell(f"exec {copy} -c '{IDLES}'") as program:
        copy.unlink()
        assert procfs.program(program.pid) == str(copy)


def test_not_being_able_to_look_is_not_the_same_as_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(path: object, flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        procfs.read_stat(os.getpid())


def test_a_pidfd_tells_the_end_and_takes_signals_until_then() -> None:
    with sleeper() as program:
        pidfd = procfs.open_pidfd(program.pid)
        assert pidfd is not None
        try:
            assert not procfs.ended(pidfd)
            assert procfs.send(pidfd, signal.SIGSTOP)
            block_until(lambda: state(program.pid) == "T")
            assert procfs.send(pidfd, signal.SIGKILL)
            block_until(lambda: procfs.ended(pidfd))
            program.end()
            assert procfs.send(pidfd, signal.SIGKILL)
            assert not procfs.send_group(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


def test_a_group_is_signalled_as_one_where_the_kernel_can() -> None:
    """Linux 6.9 brought it; before, each process is signalled by itself."""
    version = tuple(int(number) for number in os.uname().release.split(".")[:2])
    with shell("sleep 600 & echo $!; wait") as program:
        pidfd = procfs.open_pidfd(program.pid)
        assert pidfd is not None
        try:
            assert procfs.send_group(pidfd, signal.SIGSTOP) is (version >= (6, 9))
            if version >= (6, 9):
                block_until(lambda: [state(pid) for pid in (program.pid, *program.extra)] == ["T", "T"])
        finally:
            os.close(pidfd)


def test_a_process_lives_on_when_only_its_first_thread_has_ended() -> None:
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=lambda: (print(flush=True), time.sleep(600))).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"  # exit of this thread alone
    )
    if os.uname().machine == "aarch64":
        script = script.replace("syscall(60", "syscall(93")
    with python(script) as program:
        pidfd = procfs.open_pidfd(program.pid)
        assert pidfd is not None
        try:
            block_until(lambda: state(program.pid) == "Z")
            assert not procfs.ended(pidfd)
            states = [procfs.thread_state(program.pid, tid) for tid in procfs.thread_ids(program.pid)]
            assert any(each not in procfs.STOPPED for each in states)
        finally:
            os.close(pidfd)


def test_a_parent_that_waits_in_vfork_for_a_stopped_child_is_about_to_stop() -> None:
    """It never gets to `T`, and runs nothing: its child was stopped before its exec."""
    with vforking() as program:
        assert not procfs.stop_pending(program.pid)
        os.kill(program.pid, signal.SIGSTOP)
        assert procfs.stop_pending(program.pid)
        assert state(program.pid) == "D"
