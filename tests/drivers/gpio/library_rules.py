"""The rules of all drivers once more, through the real `gpiod` and libgpiod; run by `test_library.py`.

Not collected by itself: its process needs `kernel.so` preloaded.
"""

import time
from collections.abc import Iterator
from enum import IntFlag
from pathlib import Path

import gpiod
import pytest

from agent.core.plan import DeviceSpec
from agent.core.readings import Quality
from drivers.drop import Dropped, Outcome, drop
from drivers.gpio.lines import CONSUMER, EDGES_MOST, Lines, Wire
from drivers.registry import check_settings
from tests.drivers.gpio.board import Board
from tests.drivers.gpio.kernel_board import KernelBoard
from tests.drivers.gpio.rig import ChipRig, ContactRig, RelayRig
from tests.drivers.gpio.test_device import RELAYS
from tests.drivers.rules import InputRig, InputRules, OutputRig, OutputRules


class Flag(IntFlag):
    """`GPIO_V2_LINE_FLAG_…` in linux/gpio.h."""

    ACTIVE_LOW = 1 << 1
    INPUT = 1 << 2
    OUTPUT = 1 << 3
    EDGE_RISING = 1 << 4
    EDGE_FALLING = 1 << 5
    BIAS_PULL_UP = 1 << 8
    BIAS_PULL_DOWN = 1 << 9
    BIAS_DISABLED = 1 << 10


CONTACT = Flag.INPUT | Flag.EDGE_RISING | Flag.EDGE_FALLING


class LibraryContactRig(ContactRig):
    board_type: type[Board] = KernelBoard


class LibraryRelayRig(RelayRig):
    board_type: type[Board] = KernelBoard


def kernel(rig: ChipRig) -> KernelBoard:
    assert isinstance(rig.board, KernelBoard)
    return rig.board


class TestOneChannel(InputRules):
    @pytest.fixture(params=[False, True], ids=["to supply", "to ground"])
    def rig(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[InputRig]:
        rig = LibraryContactRig(active_low=request.param)
        yield rig
        rig.release()


class TestTwoChannels(InputRules):
    @pytest.fixture(params=[False, True], ids=["same polarity", "opposite polarity"])
    def rig(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[InputRig]:
        rig = LibraryContactRig(line_b=5, active_low_b=request.param)
        yield rig
        rig.release()


class TestRelay(OutputRules):
    @pytest.fixture(params=list(RELAYS.values()), ids=list(RELAYS))
    def rig(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[OutputRig]:
        rig = LibraryRelayRig(**request.param)
        yield rig
        rig.release()


def test_the_chip_is_taken_for_one() -> None:
    assert gpiod.is_gpiochip_device(KernelBoard(lambda: 0).path)


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, CONTACT | Flag.BIAS_PULL_DOWN),
        ({"active_low": True}, CONTACT | Flag.BIAS_PULL_UP | Flag.ACTIVE_LOW),
        ({"bias": "disabled"}, CONTACT | Flag.BIAS_DISABLED),
        ({"bias": "as_is"}, CONTACT),
    ],
)
def test_what_the_kernel_is_asked_for_a_contact(settings: dict[str, object], asked: Flag) -> None:
    rig = LibraryContactRig(debounce_us=1_500, **settings)
    rig.start()
    board = kernel(rig)
    assert Flag(board.flags(4)) == asked
    assert (board.debounce_us(4), board.queue(4), board.consumer(4)) == (1_500, EDGES_MOST, CONSUMER)
    rig.release()
    assert board.held == []


def test_no_debounce_is_not_asked_for() -> None:
    rig = LibraryContactRig()
    rig.start()
    assert kernel(rig).debounce_us(4) == 0
    rig.release()


def test_each_channel_is_asked_for_by_itself() -> None:
    rig = LibraryContactRig(line_b=5, active_low_b=True)
    rig.start()
    board = kernel(rig)
    assert Flag(board.flags(4)) == CONTACT | Flag.BIAS_PULL_DOWN
    assert Flag(board.flags(5)) == CONTACT | Flag.BIAS_PULL_UP | Flag.ACTIVE_LOW
    rig.release()


def test_what_the_kernel_is_asked_for_a_relay() -> None:
    rig = LibraryRelayRig(readback_line=21)
    rig.start()
    board = kernel(rig)
    assert Flag(board.flags(20)) == Flag.OUTPUT
    assert Flag(board.flags(21)) == CONTACT | Flag.BIAS_PULL_UP
    assert board.debounce_us(21) == 5_000
    assert board.orders(20) == [False]
    rig.release()
    assert board.held == []


def test_a_broken_wire_reads_open() -> None:
    rig = LibraryContactRig()
    rig.start()
    rig.board.drive(4, None)
    rig.wake()
    assert rig.reading().value is False
    rig.release()


def test_a_line_that_another_process_holds_is_named() -> None:
    rig = LibraryContactRig(line_b=5)
    rig.board.own(5, "gpio-keys")
    rig.device.open()
    assert rig.reading().detail == "lines away: line 5 is held by 'gpio-keys'"
    rig.board.own(5, "")
    rig.ticks(20)
    assert rig.reading().quality is Quality.GOOD
    rig.release()


def test_another_chip_is_refused() -> None:
    rig = LibraryContactRig(label="board")
    rig.device.open()
    assert rig.reading().detail == "lines away: the chip here is 'standin', not 'board'"
    assert rig.board.held == []


def test_a_line_that_the_chip_has_not_is_refused() -> None:
    rig = ContactRig.__new__(LibraryContactRig)
    ChipRig.__init__(rig, {"estop": {"line": 400}})
    rig.device.open()
    assert rig.reading().detail == "lines away: line [400]: line offset of out range"


def test_a_queue_that_ran_over_is_counted_and_a_fault() -> None:
    rig = LibraryContactRig()
    rig.start()
    for number in range(3 * EDGES_MOST):
        rig.put(closed=bool(number % 2))
    rig.wake()
    assert rig.reading().quality is Quality.FAULT
    assert rig.device.counters["edges_lost"] == 2 * EDGES_MOST
    rig.release()


def test_reading_an_empty_queue_does_not_wait() -> None:
    board = KernelBoard(lambda: 0)
    lines = Lines(board.path, "", [Wire(4)], board.open_chip)
    lines.open()
    assert lines.edges() == []
    lines.release()


def test_a_drop_that_could_not_be_written_is_tried_again() -> None:
    rig = LibraryRelayRig()
    rig.start()
    rig.order(True)
    rig.board.writable = False
    rig.order(False)
    rig.board.writable = True
    rig.ticks(1)
    assert rig.orders == [False, True, False]
    assert rig.device.counters["writes_failed"] == 1
    rig.release()


@pytest.mark.parametrize("settings", [{}, {"readback_line": 21}, {"mode": "pulse", "readback_line": 21}])
def test_the_second_program_drops_a_line_that_a_crash_left_energised(settings: dict[str, object]) -> None:
    board = KernelBoard(time.monotonic_ns)
    board.drive(21, False)
    plain = {"chip": board.path, "line": 20, **settings}
    spec = DeviceSpec("gpio", check_settings("gpio", "output", plain))
    assert drop({"relay_b": spec}) == {"relay_b": Dropped(Outcome.SEEN)}
    assert set(board.orders(20)) == {False}
    assert board.held == []


def test_the_second_program_says_when_a_relay_is_welded_or_its_line_is_held() -> None:
    board = KernelBoard(time.monotonic_ns)
    board.drive(21, True)
    board.own(22, "leds")
    plain = {"chip": board.path, "readback_line": 21}
    specs = {
        "welded": DeviceSpec("gpio", check_settings("gpio", "output", {**plain, "line": 20})),
        "held": DeviceSpec("gpio", check_settings("gpio", "output", {"chip": board.path, "line": 22})),
    }
    assert drop(specs, budget_s=0.05) == {
        "welded": Dropped(Outcome.ENERGISED),
        "held": Dropped(Outcome.AWAY),
    }
