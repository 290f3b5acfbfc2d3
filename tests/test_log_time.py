"""TIME of `warden log`: ISO 8601 with a zone, or a day in China."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audit.output import iso
from agent.log_time import BOUND, FOREVER_NS, parse_ns, show_ns

DAY_NS = 86_400 * 10**9
MIDNIGHT = 1_799_942_400 * 10**9
"""2027-01-15T00:00:00+08:00."""


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2027-01-15", MIDNIGHT),
        ("2027-01-15T00:00+08:00", MIDNIGHT),
        ("2027-01-15 00:00:00+08:00", MIDNIGHT),
        ("2027-01-14T16:00:00Z", MIDNIGHT),
        ("2027-01-14T10:30:00-05:30", MIDNIGHT),
        ("2027-01-14T16:00:00.5Z", MIDNIGHT + 500_000_000),
        ("2027-01-14T16:00:00.000000001Z", MIDNIGHT + 1),
        ("1970-01-01T00:00:00Z", 0),
        ("2262-04-11T23:47:16.854775807Z", FOREVER_NS),
    ],
)
def test_a_time(text: str, ns: int) -> None:
    assert parse_ns(text) == ns


def test_a_date_is_a_whole_day_in_china() -> None:
    assert parse_ns("2027-01-15", last=True) == MIDNIGHT + DAY_NS - 1
    assert parse_ns("2024-02-29", last=True) + 1 == parse_ns("2024-03-01")


def test_a_moment_has_no_end() -> None:
    assert parse_ns("2027-01-14T16:00:00Z", last=True) == MIDNIGHT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1800000000",
        "2027-01",
        "2027-1-5",
        "2027-02-29",
        "2027-13-01",
        "20270115",
        "2027-W02-5",
        "2027-01-15T08:00:00",
        "2027-01-15T08:00:60Z",
        "2027-01-15T25:00:00Z",
        "2027-01-15T08:00:00.1234567890Z",
        "2027-01-15T08:00:00+99:00",
        "2027-01-15T08:00:00 Asia/Shanghai",
        " 2027-01-15",
        "2027-01-15\n",
        "1969-12-31T23:59:59Z",
        "1970-01-01",
        "2262-04-13",
        "9999-12-31",
        "0001-01-01T00:00:00+23:59",
        "٢٠٢٧-01-15",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="zone") as raised:
        parse_ns(text)
    assert str(raised.value) == BOUND


@given(st.text() | st.from_regex(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d{1,9})?(Z|[+-]\d\d:\d\d))?"))
def test_any_text_is_a_time_or_the_bound(text: str) -> None:
    try:
        found = parse_ns(text)
    except ValueError as error:
        found = -1 if str(error) == BOUND else -2
    assert -1 <= found <= FOREVER_NS


@given(st.integers(0, FOREVER_NS))
def test_what_decrypt_prints_is_read_back_to_the_nanosecond(ns: int) -> None:
    assert parse_ns(iso(ns)) == ns


@given(st.integers(0, FOREVER_NS // 10**9), st.integers(-23 * 60, 23 * 60))
def test_zones_as_the_standard_library_counts_them(second: int, minutes: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    text = moment.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    assert parse_ns(text) == second * 10**9


def test_times_are_shown_in_china() -> None:
    assert show_ns(MIDNIGHT + 1) == "2027-01-15 00:00:00+08:00"
    assert show_ns(-5) == show_ns(0) == "1970-01-01 08:00:00+08:00"
    assert show_ns(2**80) == show_ns(FOREVER_NS)
