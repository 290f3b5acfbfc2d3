"""Programs: what they get, what they may not leave, and how they are ended."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from drivers.adapters import command as command_module
from drivers.adapters import procfs
from drivers.adapters.base import Outcome
from drivers.adapters.command import KEPT_BYTES, CommandAdapter
from tests.descriptors import open_descriptors
from tests.drivers.adapters.rig import LOOP, PYTHON, SHELL, Desk, lives, state
from tests.waiting import block_until, wait_until


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Nothing is left of any program when its test ends: no child, no descriptor."""
    before = open_descriptors()
    yield Desk()
    assert open_descriptors() <= before


def adapter(desk: Desk, *command: str | Path, grace_ms: int = 1000) -> CommandAdapter:
    program, *args = map(str, command)
    return CommandAdapter(
        "command cut", {"program": program, "args": args, "grace_ms": grace_ms}, desk.around
    )


async def run(desk: Desk, *command: str | Path) -> tuple[Outcome, str]:
    cut = adapter(desk, *command)
    found = await desk.outcome(cut, desk.begin(cut))
    await wait_until(lambda: cut.children == 0)
    return found


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cut"
    path.write_text(f"#!{SHELL}\n{text}\n")
    path.chmod(0o755)
    return path


async def numbers(path: Path, count: int = 1) -> list[int]:
    """The pids that a program writes to a file, each on a line."""

    def read() -> list[int]:
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [int(line) for line in lines if line.endswith("\n")]

    await wait_until(lambda: len(read()) >= count)
    return read()


# --------------------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize(
    ("text", "outcome", "detail"),
    [
        ("", Outcome.DONE, "exit 0"),
        ("echo power off", Outcome.DONE, "exit 0: power off"),
        ("echo no route >&2; exit 3", Outcome.FAILED, "exit 3: no route"),
        ("kill -9 $$", Outcome.FAILED, "ended by signal 9"),
        ("kill -64 $$", Outcome.FAILED, "ended by signal 64"),
        (r"printf 'a\tb\033[31m\nc\377'", Outcome.DONE, "exit 0: a b [31m c\ufffd"),
    ],
)
async def test_its_exit_is_the_result(
    desk: Desk, tmp_path: Path, text: str, outcome: Outcome, detail: str
) -> None:
    assert await run(desk, script(tmp_path, text)) == (outcome, detail)


async def test_arguments_are_handed_over_as_they_are(desk: Desk, tmp_path: Path) -> None:
    path = script(tmp_path, "printf '<%s>' \"$@\"")
    words = ("a b", "$(touch /tmp/x)", "; rm -rf /", "*", "")
    assert await run(desk, path, *words) == (
        Outcome.DONE,
        "exit 0: <a b><$(touch /tmp/x)><; rm -rf /><*><>",
    )


async def test_it_gets_nothing_of_ours(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "x")
    seen = tmp_path / "seen"
    program = (
        "import json, os, sys\n"
        f"json.dump({{'env': dict(os.environ), 'in': sys.stdin.read(), 'cwd': os.getcwd(),\n"
        "  'fds': sorted(os.listdir('/proc/self/fd')), 'sid': os.getsid(0), 'pid': os.getpid(),\n"
        f"  'umask': os.umask(0)}}, open({str(seen)!r}, 'w'))"
    )
    path = tmp_path / "cut"
    path.write_text(f"#!{PYTHON} -IS\n{program}\n")
    path.chmod(0o755)
    inherited = os.dup(0)
    os.set_inheritable(inherited, True)
    try:
        assert await run(desk, path) == (Outcome.DONE, "exit 0")
    finally:
        os.close(inherited)
    found: Mapping[str, object] = json.loads(seen.read_text())
    assert found["env"] == {
        "PATH": command_module.PATH,
        "LANG": "C.UTF-8",
        "WARDEN_STEP": "stop_motion",
        "WARDEN_EPOCH": "7",
        "WARDEN_DEADLINE_MS": "1000",
    }
    assert (found["in"], found["cwd"], found["umask"]) == ("", "/", 0o077)
    # 3 is the listing itself, and the file that it is written to.
    assert found["fds"] in (["0", "1", "2", "3"], ["0", "1", "2", "3", "4"])
    assert found["sid"] == found["pid"] != os.getsid(0)


async def test_megabytes_of_words_are_read_and_dropped(desk: Desk, tmp_path: Path) -> None:
    path = script(tmp_path, "echo begin; head -c 5000000 /dev/zero; echo end >&2")
    cut = adapter(desk, path)
    step_id = desk.begin(cut)
    (child,) = cut._children
    outcome, detail = await desk.outcome(cut, step_id)
    assert (outcome, detail) == (Outcome.DONE, "exit 0: begin")
    assert len(child.kept) == KEPT_BYTES
    await wait_until(lambda: cut.children == 0)


async def test_words_at_the_very_end_are_not_lost(desk: Desk, tmp_path: Path) -> None:
    """Its end is seen before what it wrote: the loop does not say which comes first."""
    cut = adapter(desk, script(tmp_path, "echo last words"))
    step_id = desk.begin(cut)
    (child,) = cut._children
    assert child._process.stdout is not None
    desk.around.loop.remove_reader(child._process.stdout.fileno())
    assert await desk.outcome(cut, step_id) == (Outcome.DONE, "exit 0: last words")
    await wait_until(lambda: cut.children == 0)


# --------------------------------------------------------------------------------------------- cannot be run


async def test_what_cannot_be_run_fails_at_once(desk: Desk, tmp_path: Path) -> None:
    missing, plain, loose = tmp_path / "missing", tmp_path / "plain", script(tmp_path, "")
    plain.write_text("")
    plain.chmod(0o644)
    loose.chmod(0o777)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(bytes(range(256)))
    garbage.chmod(0o755)
    interpreter = tmp_path / "interpreter"
    interpreter.write_text("#!/nowhere/at/all\n")
    interpreter.chmod(0o755)
    for path, words in (
        (missing, "cannot be run: No such file or directory"),
        (plain, "is not executable"),
        (loose, "can be written by others"),
        (garbage, "cannot be run: Exec format error"),
        (interpreter, "cannot be run: No such file or directory"),
    ):
        cut = adapter(desk, path)
        step_id = desk.begin(cut)
        (result,) = desk.of(step_id)
        assert (result.outcome, result.detail) == (Outcome.FAILED, f"{path} {words}")
        assert cut.children == 0


async def test_a_program_that_could_not_be_watched_is_not_left_running(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def none_left(pid: int) -> int:
        started.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none_left)
    path = script(tmp_path, LOOP)
    cut = adapter(desk, path)
    step_id = desk.begin(cut)
    assert desk.of(step_id)[0].detail == f"{path} cannot be run: Too many open files"
    assert not lives(started[0])


# --------------------------------------------------------------------------------------------- made to end


async def test_at_the_deadline_it_is_killed_with_its_whole_group(desk: Desk, tmp_path: Path) -> None:
    """Itself, a child, and one that left its session; none of them listens to SIGTERM."""
    pids = tmp_path / "pids"
    child = f"{SHELL} -c 'echo $$ >> {pids}; {LOOP}'"
    path = script(
        tmp_path, f"trap '' TERM HUP INT; echo $$ >> {pids}; echo busy; {child} & setsid {child} & wait"
    )
    cut = adapter(desk, path)
    step_id = desk.begin(cut, deadline_ms=500)
    family = await numbers(pids, 3)
    await desk.pass_polling(cut, 490)
    assert all(lives(pid) for pid in family)
    assert desk.heard == []
    desk.pass_ms(10)
    desk.poll(cut)
    (child_of_ours,) = cut._children
    block_until(lambda: state(child_of_ours.pid) in {"T", "D"})  # within that very poll
    result = await desk.result(cut, step_id)
    assert (result.outcome, result.detail) == (
        Outcome.FAILED,
        "killed at its deadline, ended by signal 9: busy",
    )
    assert 500 <= result.after_ms < 1500
    assert not any(lives(pid) for pid in family)
    await wait_until(lambda: cut.children == 0)


async def test_one_that_ends_just_after_its_deadline_is_late(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    cut = adapter(desk, script(tmp_path, f"while [ ! -e {go} ]; do sleep 0.01; done"))
    step_id = desk.begin(cut, deadline_ms=500)
    desk.pass_ms(505)
    go.touch()  # no poll has come between the deadline and its end
    await wait_until(lambda: desk.heard)
    (result,) = desk.of(step_id)
    assert (result.outcome, result.after_ms, result.detail) == (Outcome.LATE, 505, "exit 0")
    await wait_until(lambda: cut.children == 0)


async def test_what_it_leaves_behind_is_killed(desk: Desk, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    child = f"{SHELL} -c 'echo $$ >> {pids}; exec sleep 600'"
    path = script(tmp_path, f"{child} & while [ ! -s {pids} ]; do :; done; echo off")
    cut = adapter(desk, path)
    step_id = desk.begin(cut)
    assert await desk.outcome(cut, step_id) == (Outcome.DONE, "exit 0, 1 left behind and killed: off")
    (left,) = await numbers(pids)
    assert not lives(left)
    await wait_until(lambda: cut.children == 0)


async def test_what_left_its_session_is_remembered(desk: Desk, tmp_path: Path) -> None:
    """Seen while its parent lived, it is killed although nothing ties it to the program any more."""
    pids, go = tmp_path / "pids", tmp_path / "go"
    child = f"setsid {SHELL} -c 'echo $$ >> {pids}; exec sleep 600'"
    cut = adapter(desk, script(tmp_path, f"{child} & while [ ! -e {go} ]; do sleep 0.01; done"))
    step_id = desk.begin(cut, deadline_ms=60_000)
    (left,) = await numbers(pids)
    await desk.polled(cut, lambda: knows(cut, left))
    go.touch()
    assert await desk.outcome(cut, step_id) == (Outcome.DONE, "exit 0, 1 left behind and killed")
    assert not lives(left)
    await wait_until(lambda: cut.children == 0)


def knows(cut: CommandAdapter, pid: int) -> bool:
    works = [job.work for job in cut._jobs.values()]
    return any(
        isinstance(work, command_module._CommandWork) and pid in work._family._members for work in works
    )


async def test_one_that_cannot_be_killed_is_given_up_and_reaped_when_it_ends(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in uninterruptible sleep: signals are taken and nothing happens, for now."""
    pids = tmp_path / "pids"
    cut = adapter(desk, script(tmp_path, f"echo $$ > {pids}; exec sleep 600"), grace_ms=100)
    step_id = desk.begin(cut, deadline_ms=50)
    (pid,) = await numbers(pids)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", lambda *_: None)
        patch.setattr(os, "killpg", lambda *_: None)
        await desk.pass_polling(cut, 140)
        assert desk.heard == []
        result = await desk.result(cut, step_id)
        assert result.outcome is Outcome.FAILED
        assert result.detail == "not finished 100 ms after its deadline of 50 ms"
    (child,) = cut._children
    assert child._process.stdout is not None
    assert child._process.stdout.closed
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: cut.children == 0)


@pytest.mark.parametrize("kernel_knows_groups", [True, False])
async def test_closing_kills_what_is_under_way(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_knows_groups: bool
) -> None:
    if not kernel_knows_groups:
        monkeypatch.setattr(procfs, "send_group", lambda _pidfd, _number: False)
    pids = tmp_path / "pids"
    child = f"{SHELL} -c 'echo $$ >> {pids}; {LOOP}'"
    cut = adapter(desk, script(tmp_path, f"trap '' TERM; {child} & {child} & wait"))
    step_id = desk.begin(cut)
    family = await numbers(pids, 2)
    cut.close()
    cut.close()
    assert [(each.outcome, each.detail) for each in desk.of(step_id)] == [
        (Outcome.FAILED, "the adapter was closed")
    ]
    await wait_until(lambda: cut.children == 0 and not any(lives(pid) for pid in family))


async def test_closing_kills_who_left_the_session_too(desk: Desk, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    cut = adapter(desk, script(tmp_path, f"setsid {SHELL} -c 'echo $$ >> {pids}; exec sleep 600' & wait"))
    desk.begin(cut, deadline_ms=60_000)
    (left,) = await numbers(pids)
    await desk.polled(cut, lambda: knows(cut, left))
    cut.close()
    await wait_until(lambda: cut.children == 0 and not lives(left))


async def test_many_at_a_time_do_not_hit_each_other(desk: Desk, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waits = adapter(desk, script(tmp_path, f"while [ ! -e {go} ]; do sleep 0.01; done; echo unharmed"))
    slow = desk.begin(waits, deadline_ms=60_000)
    for _ in range(3):
        quick = adapter(desk, "/bin/sh", "-c", "sleep 600 & exit 0")
        outcome, detail = await desk.outcome(quick, desk.begin(quick))
        assert (outcome, detail) == (Outcome.DONE, "exit 0, 1 left behind and killed")
        await wait_until(lambda: quick.children == 0)  # noqa: B023 - waited for within the turn
    go.touch()
    assert await desk.outcome(waits, slow) == (Outcome.DONE, "exit 0: unharmed")
    await wait_until(lambda: waits.children == 0)


async def test_a_look_that_says_nothing_is_no_success(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind() -> list[int]:
        raise OSError(24, "Too many open files")

    cut = adapter(desk, script(tmp_path, ""))
    step_id = desk.begin(cut)
    with monkeypatch.context() as patch:
        patch.setattr(procfs, "pids", blind)
        outcome, detail = await desk.outcome(cut, step_id)
    assert outcome is Outcome.FAILED
    assert detail.startswith("what it began cannot be ended for certain: ")
    await wait_until(lambda: cut.children == 0)


def test_no_shell_is_ever_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Mapping[str, object]] = []

    def refuse(command: object, **options: object) -> None:
        seen.append({"command": command, **options})
        raise OSError(2, "No such file or directory")

    async def begin() -> None:
        desk = Desk()
        desk.begin(adapter(desk, script(tmp_path, ""), "x"))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    asyncio.run(begin())
    (call,) = seen
    assert call["command"] == (str(tmp_path / "cut"), "x")
    assert "shell" not in call
