"""Half a year in seconds: what is written, deleted and verified adds up."""

import json
from pathlib import Path

import pytest

from hil.log.__main__ import main
from hil.log.robot import Robot, Span
from hil.log.verdict import verify_span

DAY_S = 86_400


def test_a_span_longer_than_anything_is_kept(tmp_path: Path) -> None:
    ticks: list[int] = []
    robot = Robot(tmp_path / "log", Span("span", 196 * DAY_S, 30_000), 1, ticks.append)
    written = robot.run()
    verdict = verify_span(robot, written, 1.0)
    assert verdict.good
    assert verdict.kinds == {}
    assert written.early == ("not_witnessed", "too_young"), "the newest segment is kept by both clocks"
    assert written.deleted > 4
    assert len(list((tmp_path / "log").glob("*/*.gone"))) == written.deleted
    assert not list((tmp_path / "log" / "safety").glob("*.gone")), "in service nothing of safety is deleted"
    assert verdict.records + verdict.deleted_records == written.records
    assert len(ticks) == 196 * DAY_S // 30_000 + 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "years.json"
    command = ["years", "--hours", "1", "--days", "0", "--folder", str(tmp_path), "--json", str(told)]
    assert main(command) == 0
    (row,) = json.loads(told.read_text())["results"]
    assert row["good"]
    assert row["written"]["records"] == 3_600 * 11
    assert "190 days at full rate" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [told], "nothing is left behind"
