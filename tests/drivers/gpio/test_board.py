"""The board is no second opinion of `gpiod`: what it makes up has the library's own signatures."""

import inspect
from collections.abc import Callable

import gpiod
import pytest

from drivers.gpio import lines
from tests.drivers.gpio.board import FakeChip, FakeRequest

USED: list[tuple[type, type, type]] = [
    (lines.Chip, FakeChip, gpiod.Chip),
    (lines.Request, FakeRequest, gpiod.LineRequest),
]
METHODS = [
    (used, fake, real, name)
    for used, fake, real in USED
    for name in vars(used)
    if inspect.isfunction(vars(used)[name]) and not name.startswith("_")
]


def shape(method: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Names, kinds and defaults of what a method takes; mypy holds the types."""
    parameters = inspect.signature(method).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]


def test_nothing_that_is_used_is_left_out() -> None:
    assert {(used.__name__, name) for used, _, _, name in METHODS} == {
        *(("Chip", name) for name in ("get_info", "get_line_info", "request_lines", "close")),
        *(
            ("Request", name)
            for name in ("get_values", "set_values", "read_edge_events", "fileno", "release")
        ),
    }


@pytest.mark.parametrize(("used", "fake", "real", "name"), METHODS, ids=str)
def test_each_method_is_the_library_s(used: type, fake: type, real: type, name: str) -> None:
    assert shape(getattr(used, name)) == shape(getattr(real, name)) == shape(getattr(fake, name))


def test_a_chip_is_opened_by_its_path() -> None:
    assert list(inspect.signature(gpiod.Chip).parameters) == ["path"]
    opened: lines.OpenChip = gpiod.Chip  # and mypy sees that the library's chip is one of ours
    assert opened is gpiod.Chip
