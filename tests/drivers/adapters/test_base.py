"""The words that results are made of."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.adapters.base import MAX_DETAIL, Outcome, one_line


def test_outcomes_are_the_protocol_s_words() -> None:
    assert [str(outcome) for outcome in Outcome] == ["done", "failed", "late"]


@given(st.text(max_size=2000))
def test_a_detail_is_one_printable_line_of_bounded_length(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= MAX_DETAIL
    assert one_line(line) == line


def test_what_fits_is_kept() -> None:
    assert one_line(" stopped\n\tat\x00once ") == "stopped at once"
    assert one_line("x" * 300) == "x" * 199 + "…"
