"""What may be ordered: the table, its bounds, and that nothing else is taken."""

from pathlib import Path

import pytest

from hil.node_line import Line
from hil.node_orders import ORDERS, check, from_words, usage
from hil.node_simulator import Simulator

INPUTS = ("estop", "bumper")


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ({"order": "state"}, ("state", {})),
        ({"order": "press", "input": "bumper"}, ("press", {"input": "bumper"})),
        ({"order": "cut", "input": "estop"}, ("cut", {"input": "estop", "channel": "a"})),
        ({"order": "mend", "input": "estop"}, ("mend", {"input": "estop", "channel": "both"})),
        ({"order": "garbage", "count": 4096}, ("garbage", {"count": 4096, "seed": 0})),
        ({"order": "faults", "value": 255}, ("faults", {"value": 255})),
    ],
)
def test_a_good_order_comes_out_complete(
    message: dict[str, object], wanted: tuple[str, dict[str, object]]
) -> None:
    assert check(message, INPUTS) == wanted


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (["press"], "JSON object"),
        ({}, "order must be one of"),
        ({"order": "explode"}, "order must be one of"),
        ({"order": ["press"]}, "order must be one of"),
        ({"order": "press"}, "input must be one of estop, bumper"),
        ({"order": "press", "input": "gate"}, "'gate'"),
        ({"order": "press", "input": 0}, "input must be"),
        ({"order": "press", "input": "estop", "channel": "a"}, "press takes no channel"),
        ({"order": "cut", "input": "estop", "channel": "both"}, "channel must be one of a, b"),
        ({"order": "garbage"}, "count must be a whole number from 1 to 4096"),
        ({"order": "garbage", "count": 4097}, "from 1 to 4096"),
        ({"order": "garbage", "count": 1.5}, "count"),
        ({"order": "faults", "value": True}, "value must be a whole number"),
        ({"order": "faults", "value": 256}, "from 0 to 255"),
        ({"order": "skew", "step": 0}, "from 1 to 65535"),
    ],
)
def test_a_bad_order_is_refused_and_told_why(message: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check(message, INPUTS)


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ("press estop", {"order": "press", "input": "estop"}),
        ("weld estop b", {"order": "weld", "input": "estop", "channel": "b"}),
        ("garbage 0x10 7", {"order": "garbage", "count": 16, "seed": 7}),
        ("unplug", {"order": "unplug"}),
    ],
)
def test_words_of_a_command_line(words: str, order: dict[str, object]) -> None:
    assert from_words(words.split()) == order


@pytest.mark.parametrize("words", ["explode", "press estop now", "garbage many", "unplug it"])
def test_words_that_are_no_order(words: str) -> None:
    with pytest.raises(ValueError, match=r"no such order|takes at most|invalid literal"):
        from_words(words.split())


def test_usage_shows_what_may_be_left_out() -> None:
    assert usage("cut") == "cut INPUT [CHANNEL]"
    assert usage("garbage") == "garbage COUNT [SEED]"
    assert usage("state") == "state"


def test_each_row_of_the_table_is_carried_out(tmp_path: Path) -> None:
    simulator = Simulator(INPUTS, Line(tmp_path / "tty"), None, None)
    assert set(simulator._orders) == set(ORDERS)
