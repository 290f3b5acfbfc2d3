"""`warden`'s command line (PROTOCOL 7): exit codes, one line per error, one JSON object, no traceback."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from agent import cli
from agent.cli_parts import end
from agent.errors import WardenError
from agent.log_cli import log_app
from tests.bare import Bare, warden

FAILED, USAGE, REFUSED, NO_ANSWER = 1, 2, 3, 4
ONLY_PERMIT = "only its permit holds the robot / 该通道没有自己的输出，仅由运行许可约束机器人"
CONDITION = """
[inputs.spare]
driver = "sim"

[[condition]]
id = "spare_open"
input = "spare"
is = "open"
response = "hold"
"""


@pytest.fixture
def bare(run_dir: Path) -> Iterator[Bare]:
    with Bare(run_dir) as one:
        yield one


def call(*words: str | Path) -> Result:
    """In this process; what a user would see of an exception nobody caught is one."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def told(result: Result) -> dict[str, Any]:
    """The one JSON object on standard output; nothing on standard error."""
    assert result.stderr == ""
    (line,) = result.stdout.splitlines()
    return dict(json.loads(line))


def error(result: Result, code: int) -> str:
    """The one line on standard error; nothing on standard output."""
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("warden: ")
    return line.removeprefix("warden: ")


def commands() -> list[list[str]]:
    top = [info.name or getattr(info.callback, "__name__", "") for info in cli.app.registered_commands]
    log = [info.name or "" for info in log_app.registered_commands]
    return [[name] for name in top] + [["log"]] + [["log", name] for name in log]


# ---- usage


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_explains_itself(words: list[str]) -> None:
    result = call(*words, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Usage:" in result.stdout


def test_the_program_explains_itself() -> None:
    result = call("--help")
    assert result.exit_code == 0
    for name, *_ in commands():
        assert name in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["dance"],
        ["status"],
        ["status", "--config"],
        ["check"],
        ["check", "a", "b"],
        ["run", "--speed", "3"],
        ["log", "burn"],
        ["demo", "--broker"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(words: list[str]) -> None:
    result = call(*words)
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert result.stderr


def test_without_a_word_it_says_what_there_is() -> None:
    assert call().exit_code == USAGE
    assert call("log").exit_code == USAGE


def test_a_broker_that_does_not_exist_is_wrong_usage() -> None:
    line = error(call("demo", "--broker", "rabbit"), USAGE)
    assert line == "--broker: must be one of auto, mosquitto, embedded, not 'rabbit'"
    assert told(call("demo", "--broker", "rabbit", "--json")) == {"error": line, "exit": USAGE}


# ---- check


def test_a_good_plan(bare: Bare) -> None:
    result = call("check", bare.plan)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{bare.plan}: good / 通过: R-1 福小安, risk high")
    assert result.stdout.count("note: ") == 2


def test_a_good_plan_as_json(bare: Bare) -> None:
    result = call("check", bare.plan, "--json")
    about = told(result)
    assert result.exit_code == 0
    assert about.pop("digest")
    assert about == {
        "ok": True,
        "file": str(bare.plan),
        "robot_id": "R-1",
        "inputs": [],
        "outputs": [],
        "conditions": 0,
        "notes": [
            {"key": "outputs", "note": f"{channel} has no output of its own: {ONLY_PERMIT}"}
            for channel in ("reflex", "remote")
        ],
    }


def test_an_input_that_no_condition_names_is_a_note_and_no_refusal(bare: Bare) -> None:
    bare.write(lambda plan: plan + '[inputs.spare]\ndriver = "sim"\n')
    result = call("check", bare.plan)
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = [line for line in result.stdout.splitlines() if "inputs.spare" in line]
    assert line.startswith(
        "  note: inputs.spare: no condition names it: it stops the robot when it is stale or"
    )
    assert "没有条件使用该输入" in line
    about = told(call("check", bare.plan, "--json"))
    assert [note["key"] for note in about["notes"]] == ["inputs.spare", "outputs", "outputs"]
    bare.write(lambda plan: plan + CONDITION)
    assert "inputs.spare" not in [note["key"] for note in told(call("check", bare.plan, "--json"))["notes"]]


Edit = Callable[[str], str]


def worse(text: str) -> str:
    return text.replace('name = "福小安"', 'name = "福小安"\nkind = "boat"') + 'speed = "fast"\n'


def test_each_problem_is_a_line_with_file_key_and_bound(bare: Bare) -> None:
    bare.write(worse)
    result = call("check", bare.plan)
    assert (result.exit_code, result.stdout) == (REFUSED, "")
    kind, speed = result.stderr.splitlines()
    assert kind.startswith(f"warden: {bare.plan}: robot.kind: ")
    assert "'embodied', 'humanoid' or 'virtual'" in kind
    assert speed == f"warden: {bare.plan}: monitor.speed: unknown key"


def test_each_problem_is_a_row_of_the_one_object(bare: Bare) -> None:
    bare.write(worse)
    result = call("check", bare.plan, "--json")
    about = told(result)
    assert (result.exit_code, about["ok"], about["file"]) == (REFUSED, False, str(bare.plan))
    assert [problem["key"] for problem in about["problems"]] == ["robot.kind", "monitor.speed"]
    assert all(problem["bound"] for problem in about["problems"])


def test_rights_are_checked_on_the_robot_and_left_out_elsewhere(bare: Bare) -> None:
    bare.write(lambda text: text.replace('id = "R-1"', 'id = "R-2"'))
    line = error(call("check", bare.plan), REFUSED)
    assert line.startswith(f"{bare.pki.trust}: names no robot 'R-2'")
    assert told(call("check", bare.plan, "--json")) == {"error": line, "exit": REFUSED}
    assert call("check", bare.plan, "--offline").exit_code == 0


def test_a_key_others_can_read(bare: Bare) -> None:
    bare.pki.robot.signing_key.chmod(0o644)
    line = error(call("check", bare.plan), REFUSED)
    assert line.startswith(f"{bare.plan}: remote.signing_key: ")
    assert "chmod 600" in line


@pytest.mark.parametrize("content", [b"\xff", b"= 3", b"[" * 3000, b""])
def test_what_is_no_plan_is_one_line_too(bare: Bare, content: bytes) -> None:
    bare.plan.write_bytes(content)
    for words in (
        ("check",),
        ("status", "--config"),
        ("log", "verify", "--config"),
        ("tmpfiles", "--config"),
    ):
        result = call(*words, bare.plan)
        assert (result.exit_code, result.stdout) == (REFUSED, "")
        for line in result.stderr.splitlines():
            assert line.startswith(f"warden: {bare.plan}: ")


# ---- status


def test_without_any_module_nobody_answers_and_nothing_moves(bare: Bare) -> None:
    result = call("status", "--config", bare.plan, "--json")
    seen = told(result)
    assert result.exit_code == NO_ANSWER
    assert {
        "robot_id",
        "response",
        "epoch",
        "motion",
        "power",
        "causes",
        "blockers",
        "modules",
    } <= seen.keys()
    assert (seen["motion"], seen["power"]) == (False, False)
    assert {name: module["alive"] for name, module in seen["modules"].items()} == {
        "reflex": False,
        "remote": False,
        "recorder": False,
        "monitor": False,
    }


def test_the_same_for_people(bare: Bare) -> None:
    result = call("status", "-c", bare.plan)
    assert (result.exit_code, result.stderr) == (NO_ANSWER, "")
    assert "stopped 已停机" in result.stdout


def test_a_plan_that_is_refused_has_no_status(bare: Bare) -> None:
    away = bare.folder / "away.toml"
    line = f"{away}: cannot be read: No such file or directory"
    assert error(call("status", "--config", away), REFUSED) == line
    assert told(call("status", "--config", away, "--json")) == {"error": line, "exit": REFUSED}


def test_of_a_running_agent_through_the_program_itself(bare: Bare) -> None:
    child = bare.start()
    try:
        ended = warden("status", "--config", bare.plan, "--json")
        people = warden("status", "--config", bare.plan)
    finally:
        child.stop()
    seen = json.loads(ended.stdout)
    assert (ended.returncode, people.returncode) == (0, 0)
    assert (seen["robot_id"], seen["response"], seen["motion"]) == ("R-1", "emergency_stop", False)
    assert seen["epoch"] >= 2
    assert all(module["alive"] for module in seen["modules"].values())
    assert len({module["pid"] for module in seen["modules"].values()}) == 4
    assert seen["causes"][0]["text"].keys() == {"zh", "en"}
    assert "stopped 已停机" in people.stdout


# ---- the rest


def test_the_folders_root_must_own(bare: Bare) -> None:
    result = call("tmpfiles", "--config", bare.plan)
    assert result.exit_code == 0
    run, state = result.stdout.splitlines()
    assert run == f'd "{bare.folder}/run/R-1" 3771 root warden - -'
    assert state == f'd "{bare.folder}/state/R-1" 3770 root warden - -'


def test_what_nobody_caught_below_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise WardenError("/some/where: in the way")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == FAILED
    assert capsys.readouterr().err == "warden: /some/where: in the way\n"


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


def test_an_exit_is_a_number(bare: Bare) -> None:
    with pytest.raises(typer.Exit) as ended:
        end(REFUSED, "no")
    assert ended.value.exit_code == REFUSED
