"""What the driver asks of the real `gpiod`, as far as that goes without a chip.

Paths are real, and so are the refusals; the requests are turned into the library's own C objects.
"""

import errno
import os
from datetime import timedelta
from pathlib import Path

import gpiod
import pytest
from gpiod import LineSettings, _ext
from gpiod.line import Bias, Clock, Direction, Edge, Value
from gpiod.line_settings import _line_settings_to_ext

from drivers.gpio.lines import Lines, LinesError, Wire
from tests.drivers.gpio.board import Board, FakeChip, FakeRequest, refusal

CONTACT = Wire(4, active_low=True, bias=Bias.PULL_UP, debounce_us=1_500)


def real(path: str | Path) -> Lines:
    return Lines(str(path), "", [CONTACT], gpiod.Chip)


def test_a_chip_that_is_away_is_a_refusal(tmp_path: Path) -> None:
    lines = real(tmp_path / "gpiochip0")
    with pytest.raises(LinesError) as caught:
        lines.open()
    assert (caught.value.reason, caught.value.gone, caught.value.misused) == (
        "No such file or directory",
        False,
        False,
    )
    assert caught.value.path == str(tmp_path / "gpiochip0")
    assert not lines.is_open


@pytest.mark.parametrize(
    ("name", "reason"),
    [("/dev/null", "No such device"), ("a folder", "Inappropriate ioctl for device")],
)
def test_what_is_no_chip_is_a_refusal(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(LinesError) as caught:
        real(name if name.startswith("/") else tmp_path).open()
    assert caught.value.reason == reason


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LinesError):
        real(tmp_path / "pipe").open()


def test_lines_that_are_not_requested_know_nothing(tmp_path: Path) -> None:
    lines = real(tmp_path)
    for use in (lines.levels, lines.edges, lines.fileno, lambda: lines.drive(True)):
        with pytest.raises(LinesError, match="not requested"):
            use()
    lines.release()


def test_an_input_is_asked_for_with_everything_its_wire_says() -> None:
    assert CONTACT.settings() == LineSettings(
        direction=Direction.INPUT,
        edge_detection=Edge.BOTH,
        bias=Bias.PULL_UP,
        active_low=True,
        debounce_period=timedelta(microseconds=1_500),
        event_clock=Clock.MONOTONIC,
    )


def test_an_output_begins_inactive_and_is_pushed_both_ways() -> None:
    settings = Wire(20, output=True).settings()
    assert (settings.direction, settings.output_value) == (Direction.OUTPUT, Value.INACTIVE)
    assert not settings.active_low


@pytest.mark.parametrize("wire", [CONTACT, Wire(20, output=True), Wire(1023, debounce_us=50_000)])
def test_the_library_makes_a_request_of_it(wire: Wire) -> None:
    config = _ext.LineConfig()
    config.add_line_settings([wire.offset], _line_settings_to_ext(wire.settings()))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EINVAL, ValueError),
        (errno.EOPNOTSUPP, NotImplementedError),
        (errno.EACCES, OSError),
        (errno.ENXIO, OSError),
    ],
)
def test_whatever_the_library_raises_is_one_error(number: int, kind: type[Exception]) -> None:
    """Gpiod makes these of the kernel's errors (`Py_gpiod_SetErrFromErrno`)."""

    def refuse(path: str) -> gpiod.Chip:
        raise kind(number, "in its words")

    with pytest.raises(LinesError) as caught:
        Lines("/dev/gpiochip0", "", [CONTACT], refuse).open()
    assert (
        caught.value.reason
        == {
            errno.EINVAL: "Invalid argument",
            errno.EOPNOTSUPP: "Operation not supported",
            errno.EACCES: "Permission denied",
            errno.ENXIO: "No such device or address",
        }[number]
    )


@pytest.mark.parametrize(
    ("number", "reason", "misused"),
    [
        (errno.ENXIO, "no edges from line [4]", True),  # the line has no interrupt
        (errno.EPERM, "Operation not permitted", False),
    ],
)
def test_a_request_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, number: int, reason: str, misused: bool
) -> None:
    board = Board(lambda: 0)

    def refuse(*_: object, **__: object) -> FakeRequest:
        raise refusal(number)

    monkeypatch.setattr(FakeChip, "request_lines", refuse)
    with pytest.raises(LinesError) as caught:
        Lines(board.path, "", [CONTACT], board.open_chip).open()
    assert (caught.value.reason, caught.value.misused) == (reason, misused)


def test_a_line_that_the_chip_has_not_is_named() -> None:
    board = Board(lambda: 0)
    with pytest.raises(LinesError, match=r"line \[400\]: line offset of out range"):
        Lines(board.path, "", [Wire(400)], board.open_chip).open()
    assert board.held == []
