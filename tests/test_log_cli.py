"""`warden log verify` and `genesis`: what an operator and an auditor see, usage, exit codes."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.log_cli import Format, Stream
from agent.logformat.layout import STREAMS
from tests.bare import ROOT, warden
from tests.log_folder import Robot, damage
from tests.test_cli import USAGE, call, error, told

CLEAN, EXPLAINED, TAMPERED, INCOMPLETE = range(4)
FAILED, REFUSED = 1, 3


@pytest.fixture
def robot(run_dir: Path) -> Iterator[Robot]:
    with Robot(run_dir) as one:
        yield one


# ---- verify


def test_a_clean_log_by_the_plan_or_by_its_folder(robot: Robot) -> None:
    for where in (("--config", robot.plan), (robot.log,)):
        result = call("log", "verify", *where, "--genesis", robot.genesis)
        assert (result.exit_code, result.stderr) == (CLEAN, "")
        first, *_, last = result.stdout.splitlines()
        assert (first, last.strip()) == (f"{robot.log}: R-1", "clean / 完好")


def test_the_report_as_one_object(robot: Robot) -> None:
    result = call("log", "verify", robot.log, "--genesis", robot.genesis, "--json")
    about = told(result)
    assert (result.exit_code, about["exit_code"], about["verdict"]) == (CLEAN, CLEAN, "clean / 完好")
    assert (about["robot"], about["segments"], about["records"], about["findings"]) == ("R-1", 3, 8, [])


def test_without_the_registered_genesis_it_is_never_clean(robot: Robot) -> None:
    result = call("log", "verify", robot.log, "--json")
    assert result.exit_code == INCOMPLETE
    assert told(result)["counts"] == {"genesis_not_given": 1}


def test_tampering_is_2_and_says_where(robot: Robot) -> None:
    damage(robot.forge.path("safety", 1), -30)
    result = call("log", "verify", robot.log, "--genesis", robot.genesis)
    assert (result.exit_code, result.stderr) == (TAMPERED, "")
    assert "safety/0000000001.seg" in result.stdout
    assert result.stdout.splitlines()[-1].strip() == "evidence of tampering / 疑似篡改"


def test_another_genesis_is_tampering(robot: Robot) -> None:
    robot.genesis.write_bytes(robot.forge.lines[0].replace(b"1.0", b"1.1"))
    assert call("log", "verify", robot.log, "--genesis", robot.genesis).exit_code == TAMPERED


def test_orders_are_checked_with_the_keys_of_plan_or_options(robot: Robot) -> None:
    robot.forge.delete(robot.forge.done["tele", 1])
    verify = ("log", "verify", robot.log, "--genesis", robot.genesis)
    assert call(*verify).exit_code == EXPLAINED
    assert call(*verify, "--root-key", robot.root).exit_code == CLEAN
    # The plan pins another root key than the one that signed.
    assert call(*verify, "--config", robot.plan).exit_code == TAMPERED


def test_a_person_of_the_department_orders_by_the_trust_file(robot: Robot) -> None:
    robot.forge.delete(robot.forge.done["tele", 1], order=robot.order("department-chen"))
    verify = ("log", "verify", robot.log, "--genesis", robot.genesis)
    keys = ("--root-key", robot.pki.root_jwk, "--trust", robot.pki.trust)
    assert call(*verify, *keys).exit_code == CLEAN
    assert call(*verify, "--config", robot.plan).exit_code == CLEAN


def test_a_guardian_orders_no_deletion(robot: Robot) -> None:
    robot.forge.delete(robot.forge.done["tele", 1], order=robot.order("guardian-li"))
    result = call("log", "verify", "--config", robot.plan, "--genesis", robot.genesis, "--json")
    assert (result.exit_code, told(result)["counts"]) == (TAMPERED, {"order_bad": 1})


def test_acknowledgements_are_checked_with_the_witness_keys(robot: Robot) -> None:
    robot.forge.ack(3)
    verify = ("log", "verify", robot.log, "--genesis", robot.genesis, "--json")
    witnessed = [
        told(call(*verify, *keys))["witnessed"]["by"]
        for keys in ((), ("--witness-key", robot.witness), ("--config", robot.plan))
    ]
    assert witnessed == ["claim", "token", "token"]
    assert call(*verify, "--witness-key", robot.root).exit_code == TAMPERED


def test_the_witnesss_record_shows_a_tail_that_was_cut(robot: Robot) -> None:
    record = robot.folder / "witness" / "R-1.jsonl"
    record.parent.mkdir()
    shutil.copy(robot.forge.ledger, record)
    verify = ("log", "verify", robot.log, "--genesis", robot.genesis, "--witness")
    assert call(*verify, record.parent).exit_code == CLEAN
    robot.forge.ledger.write_bytes(b"".join(line + b"\n" for line in robot.forge.lines[:-1]))
    assert call(*verify, record).exit_code == TAMPERED


@pytest.mark.parametrize("name", ["away", "plan.toml"])
def test_a_folder_that_cannot_be_read_is_3(robot: Robot, name: str) -> None:
    line = error(call("log", "verify", robot.folder / name), INCOMPLETE)
    assert line.startswith(f"{robot.folder / name}: cannot be read: ")
    assert told(call("log", "verify", robot.folder / name, "--json")) == {"error": line, "exit": INCOMPLETE}


def test_an_empty_folder_is_incomplete(robot: Robot) -> None:
    empty = robot.folder / "empty"
    empty.mkdir()
    result = call("log", "verify", empty, "--genesis", robot.genesis)
    assert (result.exit_code, result.stderr) == (INCOMPLETE, "")


PLAIN_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
"""Root whom file modes bind like anybody; a test as another user may not even read Python."""


def test_without_the_right_to_read_it_says_so(robot: Robot) -> None:
    robot.log.chmod(0)
    command = [*PLAIN_ROOT, sys.executable, "-m", "agent", "log", "verify", str(robot.log)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    robot.log.chmod(0o700)
    assert done.stderr == f"warden: {robot.log}: cannot be read: Permission denied\n"
    assert (done.returncode, done.stdout) == (INCOMPLETE, "")


@pytest.mark.parametrize("option", ["--root-key", "--witness-key", "--genesis"])
@pytest.mark.parametrize("file", ["away", "log"])
def test_a_key_or_genesis_that_cannot_be_read_is_3(robot: Robot, option: str, file: str) -> None:
    line = error(call("log", "verify", robot.log, option, robot.folder / file), INCOMPLETE)
    assert line.startswith(f"{robot.folder / file}: ")


def test_one_witness_twice(robot: Robot) -> None:
    keys = ("--witness-key", robot.witness, "--witness-key", robot.witness)
    line = error(call("log", "verify", robot.log, *keys), INCOMPLETE)
    assert line == f'{robot.witness}: the kid "wit-1" comes twice among the witnesses'


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{}", b"[" * 5000, b"\n", b'{"kind":"genesis"}'])
def test_whatever_stands_in_the_ledger_is_a_verdict(robot: Robot, content: bytes) -> None:
    robot.forge.ledger.write_bytes(content)
    result = call("log", "verify", robot.log, "--genesis", robot.genesis, "--json")
    assert result.exit_code in (TAMPERED, INCOMPLETE)
    assert told(result)["exit_code"] == result.exit_code


# ---- usage


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["log", "verify"], "give FOLDER, or --config with the plan"),
        (["log", "verify", "a", "--trust", "t"], "--trust needs --root-key"),
        (["log", "decrypt", "--key", "k"], "give FOLDER, or --config with the plan"),
        (["log", "export", "t"], "give --folder, or --config with the plan"),
        (["log", "decrypt", "a", "--key", "k", "--from", "soon"], "--from: must be a date"),
        (["log", "decrypt", "a", "--key", "k", "--to", "2027-01-15T08:00"], "--to: must be a date"),
        (
            ["log", "decrypt", "a", "--key", "k", "--from", "2027-01-16", "--to", "2027-01-15"],
            "--from must not be later than --to",
        ),
    ],
)
def test_what_is_wrong_usage_by_our_own_rules(words: list[str], said: str) -> None:
    about = told(call(*words, "--json"))
    assert about["exit"] == USAGE
    assert about["error"].startswith(said)
    result = call(*words)
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert result.stderr.splitlines()[-1].startswith(f"warden: {said}")


@pytest.mark.parametrize(
    "words",
    [
        ["log", "verify", "a", "b"],
        ["log", "verify", "--speed"],
        ["log", "decrypt", "a"],
        ["log", "decrypt", "a", "--key", "k", "--format", "xml"],
        ["log", "decrypt", "a", "--key", "k", "--stream", "ledger"],
        ["log", "export"],
        ["log", "genesis"],
        ["log", "due"],
        ["log", "delete", "--config", "p"],
        ["log", "hold"],
    ],
    ids=" ".join,
)
def test_wrong_usage(words: list[str]) -> None:
    result = call(*words)
    assert (result.exit_code, result.stdout) == (USAGE, "")


def test_the_options_offer_what_the_format_has() -> None:
    assert tuple(Stream) == STREAMS
    assert tuple(Format) == ("jsonl", "csv")


# ---- genesis


def test_the_genesis_is_printed_as_it_is_to_be_registered(robot: Robot) -> None:
    result = call("log", "genesis", "--config", robot.plan)
    assert (result.exit_code, result.stdout) == (0, robot.genesis.read_text("utf-8"))
    assert result.stderr == f"R-1: hash / 哈希 {robot.forge.suite.hash(robot.forge.lines[0]).hex()}\n"
    registered = robot.folder / "registered"
    registered.write_text(result.stdout, "utf-8")
    assert call("log", "verify", robot.log, "--genesis", registered).exit_code == CLEAN


def test_the_genesis_as_one_object(robot: Robot) -> None:
    about = told(call("log", "genesis", "--config", robot.plan, "--json"))
    assert about.keys() == {"robot", "line", "hash", "previous"}
    assert (about["line"].encode(), about["previous"]) == (robot.forge.lines[0], None)


def test_a_ledger_that_was_broken_off_is_said(robot: Robot) -> None:
    robot.forge.break_off(reason="state_lost")
    result = call("log", "genesis", "--config", robot.plan)
    assert result.exit_code == 0
    assert "an earlier ledger was broken off / 早先账本已中断: entry 11, state_lost" in result.stderr


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff\n", b"[" * 4000])
def test_what_is_no_genesis_is_not_registered(robot: Robot, content: bytes) -> None:
    robot.forge.ledger.write_bytes(content)
    line = error(call("log", "genesis", "--config", robot.plan), FAILED)
    assert line.startswith(f"{robot.forge.ledger}: line 1: ")


def test_neither_is_one_of_another_robot_or_with_a_wrong_signature(robot: Robot) -> None:
    whole = robot.forge.ledger.read_bytes()
    robot.forge.ledger.write_bytes(whole.replace(b'"R-1"', b'"R-2"', 1))
    assert "not the genesis of R-1" in error(call("log", "genesis", "--config", robot.plan), FAILED)
    robot.forge.ledger.write_bytes(whole.replace(b'"version":"1.0"', b'"version":"1.1"', 1))
    assert "its signature is wrong" in error(call("log", "genesis", "--config", robot.plan), FAILED)
    robot.forge.ledger.unlink()
    line = error(call("log", "genesis", "--config", robot.plan), FAILED)
    assert line == f"{robot.forge.ledger}: cannot be read: No such file or directory"


# ---- as a program


def on_a_terminal(*words: str | Path) -> tuple[int, str]:
    """The exit code, and what a terminal shows that standard error goes to."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agent", *map(str, words)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # EIO: the other end is closed
    os.close(ours)
    return child.wait(), shown.decode()


def test_a_bar_is_drawn_on_a_terminal_and_never_with_json(robot: Robot) -> None:
    where = (robot.log, "--genesis", robot.genesis)
    code, shown = on_a_terminal("log", "verify", *where)
    assert code == CLEAN
    assert "verify 核验" in shown
    assert "━" in shown
    assert on_a_terminal("log", "verify", *where, "--json") == (CLEAN, "")


def test_through_the_program_itself(robot: Robot) -> None:
    done = warden("log", "verify", robot.log, "--genesis", robot.genesis, "--root-key", robot.root, "--json")
    assert (done.returncode, done.stderr) == (CLEAN, "")
    assert json.loads(done.stdout)["robot"] == "R-1"


def test_a_name_that_no_encoding_carries(robot: Robot) -> None:
    folder = os.fsdecode(os.fsencode(robot.folder) + b"/l\xff\x1bg")
    shutil.copytree(robot.log, folder)
    for words in (("verify", folder), ("verify", folder, "--json"), ("verify", folder + "x")):
        done = warden("log", *words)
        assert done.returncode == INCOMPLETE
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
