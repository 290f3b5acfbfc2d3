"""`warden log decrypt` and `export`: records for who holds a key, and a bundle for who verifies elsewhere."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.forge import WALL
from tests.bare import ROOT
from tests.log_folder import Robot, damage
from tests.test_cli import call, error, told

CLEAN, TAMPERED, FAILED = 0, 2, 1


@pytest.fixture
def robot(run_dir: Path) -> Iterator[Robot]:
    with Robot(run_dir) as one:
        yield one


# ---- decrypt


def rows(text: str) -> list[tuple[str, int]]:
    return [(row["stream"], row["seq"]) for row in map(json.loads, text.splitlines())]


def test_records_come_as_lines_and_the_report_beside_them(robot: Robot) -> None:
    result = call("log", "decrypt", "--config", robot.plan, "--key", robot.key())
    assert result.exit_code == 0
    assert rows(result.stdout) == [*(("safety", n) for n in range(1, 7)), ("tele", 1), ("tele", 2)]
    assert "8 records / 记录" in result.stderr


def test_into_a_file_that_only_its_owner_reads(robot: Robot) -> None:
    output = robot.folder / "records.csv"
    words = ("log", "decrypt", robot.log, "--key", robot.key(1), "--format", "csv", "--output", output)
    about = told(call(*words, "--json"))
    assert (about["written"], about["exit_code"]) == (8, 0)
    assert output.stat().st_mode & 0o777 == 0o600
    assert len(list(csv.DictReader(io.StringIO(output.read_text("utf-8"))))) == 8
    again = error(call(*words), 3)
    assert again == f"{output}: cannot be made: File exists"


def test_only_some_streams_and_a_time(robot: Robot) -> None:
    words = ("log", "decrypt", robot.log, "--key", robot.key())
    assert {name for name, _ in rows(call(*words, "--stream", "tele").stdout)} == {"tele"}
    both = call(*words, "--stream", "net", "--stream", "tele").stdout
    assert rows(both) == [("tele", 1), ("tele", 2)]
    moment = "2027-01-15T08:00:00.002000000Z"
    assert rows(call(*words, "--from", moment, "--to", moment).stdout) == [("safety", 2), ("tele", 2)]


def test_what_decrypt_prints_as_time_finds_the_same_record(robot: Robot) -> None:
    words = ("log", "decrypt", robot.log, "--key", robot.key(), "--stream", "safety")
    first = json.loads(call(*words).stdout.splitlines()[0])
    assert first["wall_ns"] == WALL + 1_000_000
    found = call(*words, "--from", first["time"], "--to", first["time"])
    assert rows(found.stdout) == [("safety", 1)]


def test_a_plain_date_is_a_day_in_china_and_said_to_be(robot: Robot) -> None:
    words = ("log", "decrypt", robot.log, "--key", robot.key())
    whole = call(*words, "--from", "2027-01-15", "--to", "2027-01-15")
    assert len(rows(whole.stdout)) == 8
    assert "--from 2027-01-15: the beginning of that day in China (UTC+8)" in whole.stderr
    assert rows(call(*words, "--from", "2027-01-16").stdout) == []
    assert rows(call(*words, "--to", "2027-01-14").stdout) == []


def test_a_key_that_opens_nothing_is_3_and_says_who_could(robot: Robot) -> None:
    key = robot.key()
    robot.forge.recipients[0].kid = "other"
    jwk = json.loads(key.read_text())
    key.write_text(json.dumps({**jwk, "kid": "other"}))
    result = call("log", "decrypt", robot.log, "--key", key)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "none of the keys opens this log / 密钥不符，无法打开" in result.stderr


def test_a_key_that_others_can_read_is_refused_and_never_shown(robot: Robot) -> None:
    key = robot.key()
    key.chmod(0o644)
    line = error(call("log", "decrypt", robot.log, "--key", key), 3)
    assert line == f"{key}: has mode 0644 and must be 0600 or stricter: chmod 600 {key}"


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"-----BEGIN", b"[" * 3000])
def test_what_is_no_key(robot: Robot, content: bytes) -> None:
    key = robot.key()
    key.write_bytes(content)
    result = call("log", "decrypt", robot.log, "--key", key)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"warden: {key}: must be a recipient's private key")
    assert json.loads(call("log", "decrypt", robot.log, "--key", key, "--json").stderr)["exit"] == 3


def test_a_damaged_frame_is_skipped_and_told(robot: Robot) -> None:
    damage(robot.forge.path("safety", 1), robot.forge.done["safety", 1].offsets[0] + 30)
    result = call("log", "decrypt", robot.log, "--key", robot.key(), "--stream", "safety")
    assert result.exit_code == TAMPERED
    assert [number for _, number in rows(result.stdout)] == [3, 4, 5, 6]


def piped(robot: Robot, target: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "agent", "log", "decrypt", str(robot.log), "--key", str(robot.key())]
    line = " ".join(f"'{word}'" for word in words)
    return subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {line} {target}"],
        cwd=ROOT,
        # Buffered, as it is for people: what is left in the buffer is tried again at the interpreter's end.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_output_that_finds_no_room_is_one_line(robot: Robot) -> None:
    done = piped(robot, "> /dev/full")
    assert done.returncode == 3
    assert done.stderr == "warden: No space left on device\n"


def test_a_reader_that_went_away_is_no_traceback(robot: Robot) -> None:
    done = piped(robot, "| true")
    assert "Traceback" not in done.stderr


# ---- export


def test_a_bundle_verifies_and_opens_like_the_log(robot: Robot) -> None:
    bundle = robot.folder / "bundle"
    result = call("log", "export", bundle, "--config", robot.plan)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{bundle}: 4 files / 文件, ")
    again = call("log", "verify", bundle, "--genesis", robot.genesis, "--json")
    assert (again.exit_code, told(again)["bundle"]) == (CLEAN, True)
    assert len(rows(call("log", "decrypt", bundle, "--key", robot.key()).stdout)) == 8


def test_an_export_as_one_object_and_never_over_another(robot: Robot) -> None:
    bundle = robot.folder / "bundle"
    words = ("log", "export", bundle, "--folder", robot.log)
    about = told(call(*words, "--json"))
    assert (about["target"], about["robot"], about["files"]) == (str(bundle), "R-1", 4)
    assert error(call(*words), FAILED) == f"{bundle}: cannot be made: File exists"
    away = robot.folder / "away"
    line = error(call("log", "export", robot.folder / "b", "--folder", away), FAILED)
    assert line.startswith(f"{away}: cannot be read: ")
