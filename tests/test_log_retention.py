"""`warden log due | delete | hold`, with a recorder that stands in: what it is asked, what people read."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import log_retention
from agent.logformat.draft import MAX_ORDER_SEGMENTS
from agent.processes import may_send
from console.order import read_draft
from tests.audit.forge import WALL
from tests.bare import warden
from tests.log_folder import Answer, Robot
from tests.test_cli import FAILED, NO_ANSWER, REFUSED, USAGE, call, error, told

DONE = 0
S = 10**9
NOW = "2027-01-15 16:00:00+08:00"
REASON = "court order 沪01-17"


@pytest.fixture
def robot(run_dir: Path) -> Iterator[Robot]:
    with Robot(run_dir) as one:
        yield one


def segment(number: int, stream: str = "tele") -> dict[str, Any]:
    named = {"stream": stream, "segno": number, "seal": f"{number:064x}"}
    return {**named, "from_ns": WALL, "to_ns": WALL + 3600 * S, "bytes": 1000 * number}


def due(*segments: dict[str, Any], witness_time_ns: int | None = WALL) -> dict[str, Any]:
    return {"type": "log_due", "segments": list(segments), "witness_time_ns": witness_time_ns}


def test_the_recorder_lets_the_command_line_ask() -> None:
    for kind in ("log_due", "log_delete", "log_hold", "log_release"):
        assert may_send("recorder", "status", kind)


# ---- due


def test_what_is_due_is_printed_as_a_draft(robot: Robot) -> None:
    with robot.recorder(lambda _: due(segment(1), segment(2))) as recorder:
        result = call("log", "due", "--config", robot.plan)
    assert (result.exit_code, recorder.heard) == (DONE, [{"type": "log_due"}])
    rows = [{name: segment(n)[name] for name in ("stream", "segno", "seal")} for n in (1, 2)]
    assert json.loads(result.stdout) == {"robot": "R-1", "order": "delete", "segments": rows, "reason": ""}
    assert result.stderr.splitlines() == [
        f"2 segments are due / 到期日志段, 3000 bytes, by the witnesses' time / 按见证时间 {NOW}",
        "  tele 1: 2027-01-15 16:00:00+08:00 – 2027-01-15 17:00:00+08:00, 1000 bytes",
        "  tele 2: 2027-01-15 16:00:00+08:00 – 2027-01-15 17:00:00+08:00, 2000 bytes",
    ]


def test_a_draft_in_a_file_is_what_guardian_order_takes(robot: Robot) -> None:
    draft = robot.folder / "draft.json"
    words = ("log", "due", "--config", robot.plan, "--output", draft)
    with robot.recorder(lambda _: due(segment(3, "net"))):
        result = call(*words)
        again = error(call(*words), FAILED)
    assert (
        result.stdout == f"{draft}: 1 segments / 日志段; have it signed: guardian order {draft} --out FILE\n"
    )
    assert read_draft(draft).segments == (("net", 3, f"{3:064x}"),)
    assert again == f"{draft}: cannot be written: File exists"


def test_due_as_one_object(robot: Robot) -> None:
    draft = robot.folder / "draft.json"
    with robot.recorder(lambda _: due(segment(1))):
        about = told(call("log", "due", "--config", robot.plan, "--json"))
        written = told(call("log", "due", "--config", robot.plan, "--json", "--output", draft))
    assert about.keys() == {"robot", "witness_time_ns", "segments", "draft", "output"}
    assert (about["segments"], about["witness_time_ns"], about["output"]) == ([segment(1)], WALL, None)
    assert (written["output"], written["draft"]) == (str(draft), json.loads(draft.read_text()))


def test_nothing_due_is_no_draft(robot: Robot) -> None:
    draft = robot.folder / "draft.json"
    with robot.recorder(lambda _: due()):
        result = call("log", "due", "--config", robot.plan, "--output", draft)
    assert (result.exit_code, result.stdout, draft.exists()) == (DONE, "", False)
    assert result.stderr.startswith("nothing is due")


@pytest.mark.parametrize("none", [None, 0])
def test_without_a_witness_nothing_can_be_due(robot: Robot, none: int | None) -> None:
    with robot.recorder(lambda _: due(witness_time_ns=none)):
        result = call("log", "due", "--config", robot.plan)
    assert (result.exit_code, result.stdout) == (DONE, "")
    assert "no witness has told the time" in result.stderr


def test_a_draft_names_no_more_than_one_order_may(robot: Robot) -> None:
    with robot.recorder(lambda _: due(*(segment(n) for n in range(1, MAX_ORDER_SEGMENTS + 3)))):
        result = call("log", "due", "--config", robot.plan)
    assert len(json.loads(result.stdout)["segments"]) == MAX_ORDER_SEGMENTS
    assert f"one order names at most {MAX_ORDER_SEGMENTS}" in result.stderr
    assert "and 182 more" in result.stderr


def test_a_refused_question_is_3(robot: Robot) -> None:
    with robot.recorder(lambda _: {"type": "log_due", "ok": False, "reason": "disk\x1b[2J"}):
        line = error(call("log", "due", "--config", robot.plan), REFUSED)
    assert line == "refused / 被拒绝: disk?[2J"


# ---- orders


def order_file(robot: Robot, content: bytes = b"e30.e30.c2ln\n") -> Path:
    path = robot.folder / "order.jwt"
    path.write_bytes(content)
    return path


def test_an_order_is_handed_over_as_it_is(robot: Robot) -> None:
    token = robot.order("department-chen")
    path = order_file(robot, token.encode() + b"\n")
    answer = {"type": "log_delete", "ok": True, "deleted": 2, "problems": []}
    with robot.recorder(lambda _: answer) as recorder:
        result = call("log", "delete", "--config", robot.plan, "--order", path)
        about = told(call("log", "delete", "--config", robot.plan, "--order", path, "--json"))
    assert (result.exit_code, result.stderr) == (DONE, "")
    assert result.stdout == "2 segments deleted / 已删除日志段\n"
    assert recorder.heard == [{"type": "log_delete", "order": token}] * 2
    assert about == {"ok": True, "deleted": 2, "reason": "", "problems": [], "exit": DONE}


def test_a_refused_order_says_why_in_both_languages(robot: Robot) -> None:
    problem = {"stream": "tele", "segno": 7, "zh": "被保留", "en": "hold h-1 is on it"}
    answer = {"type": "log_delete", "ok": False, "deleted": 0, "reason": "1 reason", "problems": [problem]}
    path = order_file(robot)
    with robot.recorder(lambda _: answer):
        result = call("log", "delete", "--config", robot.plan, "--order", path)
        as_json = call("log", "delete", "--config", robot.plan, "--order", path, "--json")
    assert (result.exit_code, result.stdout) == (REFUSED, "")
    assert result.stderr.splitlines() == [
        "warden: tele 7: not deleted / 未删除: hold h-1 is on it / 被保留",
        "warden: refused / 被拒绝: 1 reason",
    ]
    assert (as_json.exit_code, told(as_json)["problems"]) == (REFUSED, [problem])


def test_an_order_that_was_refused_before_anything_was_looked_at(robot: Robot) -> None:
    with robot.recorder(lambda _: {"type": "log_delete", "ok": False, "reason": "bad_signature: no"}):
        line = error(call("log", "delete", "--config", robot.plan, "--order", order_file(robot)), REFUSED)
    assert line == "refused / 被拒绝: bad_signature: no"


def test_some_that_stay_are_no_success(robot: Robot) -> None:
    problem = {"stream": "tele", "segno": 7, "en": "damaged", "zh": "损坏"}
    with robot.recorder(lambda _: {"type": "log_delete", "ok": True, "deleted": 1, "problems": [problem]}):
        result = call("log", "delete", "--config", robot.plan, "--order", order_file(robot))
    assert (result.exit_code, result.stdout) == (REFUSED, "1 segments deleted / 已删除日志段\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"robot": "R-1"}', "is a draft, and must be signed by the department: guardian order"),
        (b"", "must hold one signed order"),
        (b"\xff.\xff.\xff", "must hold one signed order"),
        (b"a.b", "must hold one signed order"),
        (b"a.b.c d.e.f", "must hold one signed order"),
        (b"a" * 70_000, "is larger than 65536 bytes"),
    ],
)
def test_what_is_no_order_is_not_even_asked(robot: Robot, content: bytes, said: str) -> None:
    path = order_file(robot, content)
    for words in (("delete", "--order"), ("hold", "--release")):
        line = error(call("log", words[0], "--config", robot.plan, words[1], path), REFUSED)
        assert line.startswith(f"{path}: {said}")


def test_an_order_that_is_no_file(robot: Robot) -> None:
    fifo = robot.folder / "fifo"
    os.mkfifo(fifo)
    words = ("log", "delete", "--config", robot.plan, "--order")
    assert error(call(*words, robot.folder / "away"), FAILED).endswith("No such file or directory")
    assert error(call(*words, robot.folder), FAILED).endswith("Is a directory")
    assert "must hold one signed order" in error(call(*words, fifo), REFUSED)


# ---- hold


def test_a_hold_over_days(robot: Robot) -> None:
    words = ("log", "hold", "--config", robot.plan, "--from", "2027-01-15", "--to", "2027-01-16")
    with robot.recorder(lambda _: {"type": "log_hold", "ok": True, "id": "hold-1"}) as recorder:
        result = call(*words, "--reason", REASON)
        about = told(call(*words, "--reason", REASON, "--json"))
    begin = 1_799_942_400 * S
    question = {"type": "log_hold", "from_ns": begin, "to_ns": begin + 2 * 86_400 * S - 1, "reason": REASON}
    assert (result.exit_code, recorder.heard) == (DONE, [question] * 2)
    assert result.stdout == (
        "held / 已保留: 2027-01-15 00:00:00+08:00 – 2027-01-16 23:59:59+08:00; id / 编号: hold-1\n"
    )
    assert "the end of that day in China" in result.stderr
    assert about == {"ok": True, "id": "hold-1", "reason": "", "exit": DONE}


def test_a_hold_is_released_by_an_order(robot: Robot) -> None:
    path = order_file(robot)
    with robot.recorder(lambda _: {"type": "log_release", "ok": True, "id": "hold-1"}) as recorder:
        result = call("log", "hold", "--config", robot.plan, "--release", path)
    assert recorder.heard == [{"type": "log_release", "order": "e30.e30.c2ln"}]
    assert (result.exit_code, result.stdout) == (DONE, "released / 已解除保留; id / 编号: hold-1\n")


def test_a_refused_hold_or_release_is_3(robot: Robot) -> None:
    words = ("log", "hold", "--config", robot.plan, "--from", "2027-01-15", "--to", "2027-01-16")
    with robot.recorder(lambda q: {"type": q["type"], "ok": False, "reason": "no such hold"}):
        line = error(call("log", "hold", "--config", robot.plan, "--release", order_file(robot)), REFUSED)
        as_json = call(*words, "--reason", REASON, "--json")
    assert line == "refused / 被拒绝: no such hold"
    assert as_json.exit_code == REFUSED
    assert told(as_json) == {"ok": False, "id": "", "reason": "no such hold", "exit": REFUSED}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --from and --to, or --release"),
        (["--from", "2027-01-15"], "give --from and --to, or --release"),
        (["--from", "2027-01-15", "--to", "2027-01-16"], "--reason: must be 1 to 200"),
        (["--from", "2027-01-15", "--to", "2027-01-16", "--reason", "\x07"], "--reason: must be 1 to 200"),
        (["--from", "2027-01-15", "--to", "2027-01-16", "--reason", "x" * 201], "--reason: must be"),
        (["--from", "then", "--to", "2027-01-16", "--reason", "x"], "--from: must be a date"),
        (["--from", "2027-01-17", "--to", "2027-01-16", "--reason", "x"], "--from must not be later"),
        (["--release", "order.jwt", "--reason", "x"], "--release takes neither"),
        (["--release", "order.jwt", "--from", "2027-01-17"], "--release takes neither"),
    ],
)
def test_wrong_usage_of_hold(robot: Robot, words: list[str], said: str) -> None:
    about = told(call("log", "hold", "--config", robot.plan, *words, "--json"))
    assert about["exit"] == USAGE
    assert about["error"].startswith(said)


# ---- the recorder


def everything(robot: Robot) -> Iterator[tuple[str | Path, ...]]:
    config = ("--config", robot.plan)
    yield "log", "due", *config
    yield "log", "delete", *config, "--order", order_file(robot)
    yield "log", "hold", *config, "--release", order_file(robot)
    yield "log", "hold", *config, "--from", "2027-01-15T00:00Z", "--to", "2027-01-16T00:00Z", "--reason", "x"


def test_no_recorder_is_4(robot: Robot) -> None:
    socket_path = robot.run_folder / "recorder.sock"
    for words in everything(robot):
        line = error(call(*words), NO_ANSWER)
        assert line.startswith(f"{socket_path}: the recorder does not answer / 记录模块无应答")
        assert told(call(*words, "--json")) == {"error": line, "exit": NO_ANSWER}


def test_a_recorder_that_hangs_up_is_4(robot: Robot) -> None:
    for words in everything(robot):
        with robot.recorder(lambda _: None):
            assert call(*words).exit_code == NO_ANSWER
        (robot.run_folder / "recorder.sock").unlink()


def test_a_recorder_that_says_nothing_is_waited_for_and_no_longer(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_retention, "ANSWER_S", 0.1)
    robot.run_folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(robot.run_folder / "recorder.sock"))
        listener.listen()
        assert call("log", "due", "--config", robot.plan).exit_code == NO_ANSWER


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=5)
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
ROW = st.fixed_dictionaries(
    {"stream": st.just("tele"), "segno": st.just(1), "seal": st.just("ab")},
    optional={"from_ns": ANYTHING, "to_ns": ANYTHING, "bytes": ANYTHING, "zh": ANYTHING, "en": ANYTHING},
)
ANSWER = st.fixed_dictionaries(
    {},
    optional={
        "ok": st.booleans() | ANYTHING,
        "reason": ANYTHING,
        "id": ANYTHING,
        "deleted": ANYTHING,
        "problems": st.lists(ROW | ANYTHING, max_size=2) | ANYTHING,
        "segments": st.lists(ROW | ANYTHING, max_size=2) | ANYTHING,
        "witness_time_ns": ANYTHING,
    },
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(answer=ANSWER, which=st.integers(0, 3), as_json=st.booleans())
def test_whatever_a_recorder_answers_there_is_no_traceback(
    robot: Robot, answer: dict[str, Any], which: int, as_json: bool
) -> None:
    (robot.run_folder / "recorder.sock").unlink(missing_ok=True)
    words = list(everything(robot))[which]
    with robot.recorder(lambda question: {**answer, "type": question["type"]}):
        result = call(*words, *(["--json"] if as_json else []))
    assert result.exit_code in (DONE, FAILED, REFUSED)
    assert all(line.isprintable() for line in (result.stdout + result.stderr).split("\n"))
    if as_json:
        assert isinstance(told(result), dict)


@pytest.mark.parametrize(
    "answer", [b"\xff", b"[", b"[]", b"[" * 50_000, b'{"type": "log_due", "segments": 3}']
)
def test_bytes_that_are_no_answer(robot: Robot, answer: Answer) -> None:
    with robot.recorder(lambda _: answer):
        result = call("log", "due", "--config", robot.plan)
    assert result.exit_code in (FAILED, NO_ANSWER)
    assert len(result.stderr.splitlines()) == 1


def test_through_the_program_itself(robot: Robot) -> None:
    with robot.recorder(lambda _: due(segment(1))):
        done = warden("log", "due", "--config", robot.plan, "--json")
    assert (done.returncode, done.stderr) == (DONE, "")
    assert json.loads(done.stdout)["draft"]["robot"] == "R-1"
