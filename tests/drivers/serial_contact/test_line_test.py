"""The line test by itself, driven tick by tick like a script."""

import pytest

from drivers.serial_contact.line_test import RETEST_NS, SETTLE_NS, LineTest
from drivers.serial_contact.lines import NONE, Line

MS = 1_000_000
BOTH = Line.CTS | Line.DSR
PULSE_NS = 8 * MS
PERIOD_NS = 10_000 * MS


def is_lit(test: LineTest) -> bool:
    return test.supply


def lit(*, lines: Line = BOTH, period_ns: int | None = PERIOD_NS) -> LineTest:
    """A test that has just been passed, at 0."""
    test = LineTest(lines, period_ns=period_ns, pulse_ns=PULSE_NS)
    test.begin(-2 * PULSE_NS)
    assert not test.step(NONE, -PULSE_NS)
    assert test.step(lines, 0)
    return test


def test_a_port_begins_dark_and_is_believed_once_its_lines_are_back() -> None:
    test = LineTest(BOTH, period_ns=PERIOD_NS, pulse_ns=PULSE_NS)
    test.begin(0)
    assert not is_lit(test)
    assert not test.step(BOTH, PULSE_NS - 1)
    assert (is_lit(test), test.stuck) == (False, NONE)
    assert not test.step(NONE, PULSE_NS)
    assert is_lit(test)
    assert not test.step(Line.CTS, PULSE_NS + 1)
    assert test.step(BOTH, PULSE_NS + 2)


def test_lines_that_do_not_come_back_are_believed_when_their_time_is_up() -> None:
    test = LineTest(BOTH, period_ns=PERIOD_NS, pulse_ns=PULSE_NS)
    test.begin(0)
    test.step(NONE, PULSE_NS)
    assert not test.step(Line.DSR, PULSE_NS + SETTLE_NS - 1)
    assert test.step(Line.DSR, PULSE_NS + SETTLE_NS)


def test_whatever_was_open_before_a_reopened_port_waits_for_every_line() -> None:
    test = lit()
    assert test.step(NONE, 1)
    test.begin(2)
    test.step(NONE, 2 + PULSE_NS)
    assert not test.step(NONE, 3 + PULSE_NS)
    assert test.step(BOTH, 4 + PULSE_NS)


def test_the_period_counts_from_the_end_of_the_test_before() -> None:
    test = lit()
    assert test.step(BOTH, PERIOD_NS - 1)
    assert is_lit(test)
    assert test.step(BOTH, PERIOD_NS)  # seen before the supply is switched off: still the truth
    assert not is_lit(test)


@pytest.mark.parametrize("stuck", [Line.CTS, Line.DSR, BOTH])
def test_what_stays_high_in_the_dark_is_stuck_until_it_does_not(stuck: Line) -> None:
    test = lit()
    test.step(BOTH, PERIOD_NS)
    test.step(stuck, PERIOD_NS + PULSE_NS)
    assert test.stuck == stuck
    back_ns = PERIOD_NS + PULSE_NS + 1
    assert test.step(BOTH, back_ns)
    assert test.step(BOTH, back_ns + RETEST_NS - 1)
    assert is_lit(test)
    test.step(BOTH, back_ns + RETEST_NS)
    assert (is_lit(test), test.stuck) == (False, stuck)
    test.step(NONE, back_ns + RETEST_NS + PULSE_NS)
    assert test.stuck == NONE


def test_a_retest_never_takes_longer_than_a_test() -> None:
    test = lit(period_ns=RETEST_NS // 2)
    test.step(BOTH, RETEST_NS)
    test.step(BOTH, RETEST_NS + PULSE_NS)
    test.step(BOTH, RETEST_NS + PULSE_NS + 1)
    test.step(BOTH, RETEST_NS + PULSE_NS + 1 + RETEST_NS // 2)
    assert not is_lit(test)


def test_only_what_was_high_is_waited_for() -> None:
    test = lit()
    test.step(Line.CTS, PERIOD_NS)
    test.step(NONE, PERIOD_NS + PULSE_NS)
    assert test.step(Line.CTS, PERIOD_NS + PULSE_NS + 1)


def test_nothing_high_is_nothing_to_test() -> None:
    test = lit()
    assert test.step(NONE, 5 * PERIOD_NS)
    assert is_lit(test)
    test.step(Line.DSR, 5 * PERIOD_NS + 1)
    assert not is_lit(test)


def test_other_lines_are_not_its_business() -> None:
    test = lit()
    test.step(BOTH | Line.RTS, PERIOD_NS)
    test.step(Line.RTS | Line.DTR | Line.RI, PERIOD_NS + PULSE_NS)
    assert test.stuck == NONE


def test_without_a_period_it_is_tested_when_opened_only() -> None:
    test = lit(period_ns=None)
    assert test.step(BOTH, 1_000 * PERIOD_NS)
    assert is_lit(test)
    test.begin(1_000 * PERIOD_NS)
    assert not is_lit(test)


def test_without_lines_there_is_no_supply() -> None:
    test = LineTest(NONE, period_ns=None, pulse_ns=PULSE_NS)
    test.begin(0)
    assert not test.step(BOTH, PULSE_NS)
    assert test.step(BOTH, PULSE_NS + 1)
    assert not is_lit(test)


def test_a_supply_that_was_wrong_makes_the_pulse_begin_anew() -> None:
    test = lit()
    test.step(BOTH, PERIOD_NS)
    test.postpone(PERIOD_NS + PULSE_NS)
    assert not test.step(BOTH, PERIOD_NS + 2 * PULSE_NS - 1)
    assert (is_lit(test), test.stuck) == (False, NONE)
    test.step(NONE, PERIOD_NS + 2 * PULSE_NS)
    assert is_lit(test)


def test_a_supply_that_was_off_when_it_should_not_lets_the_lines_settle() -> None:
    test = lit()
    test.postpone(100)
    assert not test.step(Line.CTS, 100 + SETTLE_NS - 1)
    assert test.step(Line.CTS, 100 + SETTLE_NS)
    assert is_lit(test)
