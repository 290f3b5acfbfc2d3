"""The robot's side in Python: what the permits say to it (PROTOCOL 1), and that the file stands alone."""

import ast
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.permit import PermitWriter
from sdk.python import robot_warden
from sdk.python.robot_warden import Permits, Verdict
from tests.permits import RUN, STOP, but, record

SOURCE = Path(robot_warden.__file__)
DEAD = Verdict(may_move=False, may_power=False, speed_permille=0, epoch=0, response=5)
EVER = but(RUN, motion_until_ns=2**63, power_until_ns=2**63)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("reflex.permit", "remote.permit"):
        (tmp_path / name).write_bytes(record(1, **RUN))
    return tmp_path


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_means_both_its_permits(folder: Path, kind: type) -> None:
    permits = Permits(kind(folder))
    assert permits.read(1) == Verdict(
        may_move=True, may_power=True, speed_permille=1000, epoch=14, response=0
    )
    permits.close()


def test_motion_and_power_end_on_their_deadlines(folder: Path) -> None:
    permits = Permits(folder)
    seen = [(v.may_move, v.may_power) for v in map(permits.read, (999, 1000, 1999, 2000))]
    assert seen == [(True, True), (False, True), (False, True), (False, False)]
    permits.close()


def test_the_strictest_permit_counts_and_epochs_add_up(folder: Path) -> None:
    (folder / "remote.permit").write_bytes(
        record(9, **but(RUN, motion_until_ns=500, epoch=30, speed_permille=300, response=2))
    )
    permits = Permits(folder)
    assert permits.read(499) == Verdict(True, True, 300, 37, 2)
    assert permits.read(500) == Verdict(False, True, 300, 37, 2)
    permits.close()


@pytest.mark.parametrize("name", ["reflex.permit", "remote.permit"])
def test_one_permit_missing_is_a_stop(folder: Path, name: str) -> None:
    (folder / name).unlink()
    permits = Permits(folder)
    verdict = permits.read(1)
    assert (verdict.may_move, verdict.may_power, verdict.speed_permille) == (False, False, 0)
    (folder / name).write_bytes(record(1, **RUN))
    assert permits.read(1).may_move
    permits.close()


@pytest.mark.parametrize("paths", [[], ["/nowhere/a.permit"], ["\0"], ["."], ["x" * 5000]])
def test_what_cannot_be_read_never_raises_and_never_permits(paths: list[str]) -> None:
    permits = Permits(paths)
    assert permits.read(1) == DEAD
    assert permits.read() == DEAD
    permits.close()


def test_a_symlink_or_fifo_is_no_permit(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(record(1, **EVER))
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        permits = Permits([tmp_path / name])
        assert permits.read(1) == DEAD
        permits.close()


def test_without_a_time_the_clock_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.permit"
    permits = Permits([path])
    path.write_bytes(record(1, **EVER))
    assert permits.read().may_move
    path.write_bytes(record(1, **but(EVER, motion_until_ns=time.monotonic_ns())))
    verdict = permits.read()
    assert (verdict.may_move, verdict.may_power) == (False, True)
    permits.close()


def test_the_clock_is_read_after_the_permits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A robot held up between the two must not take a deadline that has passed meanwhile for one to come.
    path = tmp_path / "a.permit"
    writer = PermitWriter(path)
    writer.write(**EVER)
    permits = Permits([path])

    def clock() -> int:
        writer.write(**STOP)  # too late for this read, were it made after the clock
        return 1

    monkeypatch.setattr(time, "monotonic_ns", clock)
    assert permits.read().may_move
    assert not permits.read().may_move
    permits.close()
    writer.close()


def test_no_permit_is_looked_for_on_disk_while_motion_is_permitted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    lstat = Path.lstat

    def counted(path: Path) -> os.stat_result:
        looks.append(path)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", counted)
    permits = Permits(folder)
    looks.clear()
    assert permits.read(999).may_move
    assert looks == []
    assert not permits.read(1000).may_move
    assert sorted(looks) == [folder / "reflex.permit", folder / "remote.permit"]
    permits.close()


def test_a_file_that_is_gone_runs_out_by_itself(folder: Path) -> None:
    permits = Permits(folder)
    for name in ("reflex.permit", "remote.permit"):
        (folder / name).unlink()
    assert permits.read(999).may_move
    assert permits.read(1000)[:2] == (False, True)
    assert permits.read(2000)[:2] == (False, False)
    permits.close()


def test_closed_permits_are_mapped_again_by_a_read(folder: Path) -> None:
    permits = Permits(folder)
    permits.close()
    permits.close()
    assert permits.read(1).may_move
    permits.close()


class Shifting:
    """A mapping in which motion is renewed at each look: no copy of it is ever of one piece."""

    def __init__(self) -> None:
        self.looks = 0

    def __getitem__(self, where: slice) -> bytes:
        self.looks += 1
        return record(1, **but(EVER, motion_until_ns=2**63 + self.looks))[where]

    def close(self) -> None:
        """Nothing to let go."""


def test_a_permit_that_never_holds_still_is_a_stop(folder: Path) -> None:
    permits = Permits([folder / "reflex.permit"])
    shifting: Any = Shifting()
    permits._files[0].close()
    permits._files[0]._map = shifting
    assert not permits.read(1).may_move
    permits.close()


def test_it_is_one_file_of_the_standard_library() -> None:
    tree = ast.parse(SOURCE.read_text("utf-8"))
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= sys.stdlib_module_names


def test_its_grammar_is_that_of_python_3_8() -> None:
    ast.parse(SOURCE.read_text("utf-8"), feature_version=(3, 8))


def test_it_works_copied_out_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "robot_warden.py").write_bytes(SOURCE.read_bytes())
    program = f"import robot_warden; print(robot_warden.Permits({str(tmp_path)!r}).read().may_move)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_all_is_what_is_public() -> None:
    own = {
        name
        for name, value in vars(robot_warden).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == robot_warden.__name__
    }
    assert own | {"MAX_PACKET", "PERMIT_NAMES"} == set(robot_warden.__all__)
