"""What `guardian watch` draws, and that nothing a robot says can drive the terminal."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from console.board import MAX_PROBLEMS, Board
from console.messages import Event, MessageError, State, clean
from console.show import ShowJson, ShowText, update_line
from console.told import EventSeen, LinkSeen, Problem, StateSeen, Update
from tests.console.robots import CHALLENGE, cause

NOW_S = 1_782_792_000.0


def state(**changes: object) -> State:
    claims: dict[str, Any] = {
        "iss": "R1",
        "aud": "*",
        "iat": NOW_S - 2,
        "jti": "j",
        "robot_id": "R1",
        "name": "福小安",
        "response": "hold",
        "epoch": 7,
        "challenge": CHALLENGE,
        "causes": [cause("estop_pressed")],
        "blockers": ["cause_active"],
        "channels": {"reflex": {"response": "hold", "motion": False, "alive": True}},
        **changes,
    }
    return State.read(claims)


def event(**fields: object) -> Event:
    return Event.read({"iss": "R1", "aud": "*", "iat": NOW_S, "jti": "j", "kind": "stop", **fields})


def drawn(board: Board) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(board)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_board_has_a_row_for_each_robot() -> None:
    board = Board(lambda: NOW_S)

    assert board.take(StateSeen("R1", state()))
    assert board.take(LinkSeen("R2", online=False))
    text = drawn(board)

    for part in ("R1 福小安", "暂停 hold", "epoch 7", "reflex hold", "急停按钮被按下", "cause_active", "2 s"):
        assert part in text
    assert "离线 offline" in text.split("R2")[1]


def test_a_cause_that_both_modules_have_is_shown_once() -> None:
    twice = state(
        causes=[cause("estop_pressed"), cause("estop_pressed"), cause("estop_pressed", active=False)]
    )
    board = Board(lambda: NOW_S)
    board.take(StateSeen("R1", twice))
    console = Console(file=io.StringIO(), soft_wrap=True)
    ShowText(console).state(twice, 1.0)
    assert isinstance(console.file, io.StringIO)

    assert drawn(board).count("急停按钮被按下") == 2, "once as it stands, once as gone"
    assert console.file.getvalue().count("急停按钮被按下") == 2
    assert update_line(StateSeen("R1", twice)).plain.count("estop_pressed") == 1


def test_a_board_counts_the_age_of_a_state_anew_each_time() -> None:
    now_s = [NOW_S]
    board = Board(lambda: now_s[0])
    board.take(StateSeen("R1", state()))
    now_s[0] += 60

    assert "62 s" in drawn(board)


def test_a_board_takes_the_last_word() -> None:
    board = Board(lambda: NOW_S)
    board.take(StateSeen("R1", state()))
    board.take(LinkSeen("R1", online=False))
    board.take(StateSeen("R1", state(response="none", causes=[], blockers=[])))
    board.take(LinkSeen("R1", online=True))

    text = drawn(board)
    assert "正常 running" in text
    assert "hold" not in text.replace("reflex hold", "")
    assert "offline" not in text


def test_events_and_problems_are_lines_and_a_flood_of_problems_is_not() -> None:
    board = Board(lambda: NOW_S)
    problem = Problem("R1", "state", "bad_signature", "the signature does not fit")

    assert not board.take(EventSeen("R1", event()))
    assert not board.take(EventSeen("R1", event())), "every event is told"
    assert not board.take(problem)
    assert board.take(problem), "a problem is told once"
    board.take(StateSeen("R1", state()))
    assert not board.take(problem), "and again after a state that was in order"
    told = [
        not board.take(Problem(f"R{number}", "link", "malformed", "")) for number in range(2 * MAX_PROBLEMS)
    ]
    assert sum(told) == MAX_PROBLEMS - 1


@pytest.mark.parametrize("evil", ["\x1b[2J", "\x9b31m", "a\nb", "\r", "\u202e", "\x00", "\U000e0001"])
def test_nothing_a_robot_says_drives_the_terminal(evil: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen = state(
        name=evil,
        response=evil,
        causes=[cause(evil, text={"zh": evil, "en": evil}, clear=evil), cause(evil, text={})],
        blockers=[evil],
        channels={evil: {"response": evil, "motion": True, "alive": False}},
    )
    updates: list[Update] = [
        StateSeen("R1", seen),
        EventSeen("R1", event(kind=evil, detail=evil)),
        Problem(evil, evil, evil, evil),
        LinkSeen(evil, online=True),
    ]
    board = Board(lambda: NOW_S)
    for update in updates:
        board.take(update)
        assert update_line(update).plain.isprintable()
        ShowJson().update(update)
    console = Console(file=io.StringIO(), width=200, soft_wrap=True, highlight=False)
    ShowText(console).state(seen, 1.0)
    assert isinstance(console.file, io.StringIO)

    for shown in (drawn(board), console.file.getvalue(), capsys.readouterr().out):
        assert shown.replace("\n", "").isprintable()
    assert len(console.file.getvalue().splitlines()) == 4
    assert clean(evil).isprintable()


def test_every_update_has_a_line() -> None:
    assert update_line(StateSeen("R1", state())).plain == "R1  暂停 hold  epoch 7  estop_pressed"
    assert update_line(EventSeen("R1", event())).plain == "R1  事件 event  stop"
    assert update_line(LinkSeen("R1", online=True)).plain == "R1  在线 online"
    assert "签名不可信" in update_line(Problem("R1", "state", "malformed", "x")).plain


def test_json_keeps_all_that_was_signed_and_its_own_type(capsys: pytest.CaptureFixture[str]) -> None:
    show = ShowJson()
    show.update(StateSeen("R1", state(type="forged", future={"a": 1})))
    show.update(EventSeen("R1", event(type="forged", self="x", robot_id="R9")))
    show.state(state(age_s=-5), 2.0)

    seen, happened, once = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (seen["type"], seen["future"], seen["epoch"]) == ("state", {"a": 1}, 7)
    assert (happened["type"], happened["kind"], happened["self"], happened["robot_id"]) == (
        "event",
        "stop",
        "x",
        "R1",
    )
    assert (once["type"], once["age_s"]) == ("state", 2.0)


def test_an_event_is_told_in_few_words() -> None:
    assert event(detail="x" * 1000).words.startswith('stop  {"detail": "xxx')
    assert len(event(detail="x" * 1000).words) == 300


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": True},
        {"epoch": 1.5},
        {"challenge": None},
        {"response": 5},
        {"iat": "now"},
        {"jti": ""},
        {"blockers": "cause_active"},
        {"channels": {"reflex": {}}},
        {"name": "x" * 501},
    ],
)
def test_a_state_of_the_wrong_shape_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MessageError, match=next(iter(changes))):
        state(**changes)
