"""What a recorder that is away, hangs, or runs out of room does to the robot, and what it is given of it."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agent.core.causes import Clear
from agent.core.responses import Response
from agent.keeping import NO_TASKS, RECORD_TICKS, RESERVE_ONLY, SAMPLE_TICKS, Keeping
from agent.link import Message

LOST_NS = 1_000


class Sink:
    """The sender's side, as `Keeping` needs it."""

    def __init__(self) -> None:
        self.connected = True
        self.oldest_pending_boottime_ns: int | None = None
        self.on_message: Callable[[Message], bool] = lambda _: False
        self.emitted: list[tuple[str, Mapping[str, object], str]] = []
        self.offered: list[Mapping[str, Any]] = []

    def emit(self, kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
        self.emitted.append((kind, body, stream))

    def offer(self, message: Mapping[str, object]) -> bool:
        self.offered.append(message)
        return True


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def keeping(sink: Sink) -> Keeping:
    return Keeping(sink, lost_ns=LOST_NS, now_ns=0)  # type: ignore[arg-type]


def test_a_recorder_that_is_away_for_too_long_is_lost(sink: Sink, keeping: Keeping) -> None:
    assert not keeping.demands(500)
    sink.connected = False
    assert not keeping.demands(500 + LOST_NS)
    assert set(keeping.demands(501 + LOST_NS)) == {"recorder_lost"}
    sink.connected = True
    assert not keeping.demands(502 + LOST_NS)


def test_a_recorder_that_keeps_nothing_is_lost_though_its_connection_stands(
    sink: Sink, keeping: Keeping
) -> None:
    sink.oldest_pending_boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - LOST_NS
    assert set(keeping.demands(LOST_NS + 1)) == {"recorder_lost"}


@pytest.mark.parametrize("level", range(NO_TASKS))
def test_with_room_enough_nothing_is_asked(sink: Sink, keeping: Keeping, level: int) -> None:
    assert sink.on_message({"type": "space", "level": level})
    assert not keeping.demands(0)


def test_little_room_is_a_warning_that_ends_by_itself(sink: Sink, keeping: Keeping) -> None:
    assert sink.on_message({"type": "space", "level": NO_TASKS})
    demand = keeping.demands(0)["log_space"]
    assert (demand.response, demand.clear) == (Response.WARN, Clear.AUTO)


def test_reserve_only_is_what_the_plan_says_of_it(sink: Sink, keeping: Keeping) -> None:
    assert sink.on_message({"type": "space", "level": RESERVE_ONLY})
    demand = keeping.demands(0)["log_space"]
    assert (demand.response, demand.clear) == (None, None)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "space"},
        {"type": "space", "level": "4"},
        {"type": "space", "level": True},
        {"type": "space", "level": -1},
        {"type": "space", "level": RESERVE_ONLY + 1},
        {"type": "ledger", "level": 0},
    ],
)
def test_what_is_no_level_is_refused_and_changes_nothing(
    sink: Sink, keeping: Keeping, message: Message
) -> None:
    sink.on_message({"type": "space", "level": RESERVE_ONLY})
    assert not sink.on_message(message)
    assert keeping.level == RESERVE_ONLY


def test_ten_samples_a_second_are_offered_and_one_is_kept(sink: Sink, keeping: Keeping) -> None:
    for _ in range(3 * RECORD_TICKS):
        keeping.tick({"speed_mps": (0.5, 1)})
    assert sink.emitted == [("telemetry", {"speed_mps": 0.5}, "tele")] * 3
    assert len(sink.offered) == 3 * RECORD_TICKS // SAMPLE_TICKS
    assert all(sample["data"] == {"speed_mps": 0.5} for sample in sink.offered)
    assert all(sample["wall_ns"] > sample["boottime_ns"] for sample in sink.offered)


def test_without_a_robot_nothing_is_told(sink: Sink, keeping: Keeping) -> None:
    for _ in range(RECORD_TICKS):
        keeping.tick({})
    assert not sink.emitted
    assert not sink.offered
