"""Which frames are new and how old they are: scripted lines, and nodes with jitter, drift and stalls."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.serial_node.arrivals import MS, RUN_FRAMES, Admission, Arrivals, Stamp

SILENT_NS = 50 * MS
T0 = 10_000_000 * MS
NEW, UNPROVEN, REPEATED = Admission.NEW, Admission.UNPROVEN, Admission.REPEATED


class Line:
    """A node and its line: `say` one frame so long after the last, by our clock and by the node's."""

    def __init__(self, seq: int = 100, node_ms: int = 1_000_000) -> None:
        self.arrivals = Arrivals(silent_ns=SILENT_NS)
        self.seq = seq
        self.node_ms = node_ms
        self.now_ns = T0

    def say(self, ms: float = 10, node_ms: int | None = None, *, skip: int = 1) -> Admission:
        self.seq = (self.seq + skip) & 0xFFFF
        self.node_ms = (self.node_ms + (round(ms) if node_ms is None else node_ms)) & 0xFFFFFFFF
        self.now_ns += round(ms * MS)
        return self.arrivals.admit(Stamp(self.seq, self.node_ms, self.now_ns))

    def age_ms(self) -> float | None:
        age_ns = self.arrivals.age_ns(self.now_ns)
        return None if age_ns is None else age_ns / MS

    def start(self) -> "Line":
        assert [self.say() for _ in range(3)] == [UNPROVEN, UNPROVEN, NEW]
        assert self.age_ms() == 0
        return self


@pytest.mark.parametrize(
    ("seq", "node_ms", "after"),
    [
        (101, 1_000_000, True),
        (101, 1_000_010, True),
        (100 + 0x7FFF, 1_000_010, True),
        (100, 1_000_000, False),
        (100, 1_000_010, False),
        (99, 1_000_010, False),
        (100 + 0x8000, 1_000_010, False),
        (101, 999_999, False),
        (101, 1_000_000 + (1 << 31) - 1, True),
        (101, 1_000_000 + (1 << 31), False),
    ],
)
def test_seq_and_clock_must_both_go_on(seq: int, node_ms: int, after: bool) -> None:
    assert Stamp(seq, node_ms, T0).follows(Stamp(100, 1_000_000, T0)) is after


def test_seq_and_clock_come_round() -> None:
    last = Stamp(0xFFFF, 0xFFFFFFFF, T0)
    first = Stamp(0, 9, T0 + 10 * MS)
    assert first.follows(last)
    assert not last.follows(first)
    assert first.node_ns_since(last) == 10 * MS
    assert first.late_ns_since(last) == 0


def test_a_replay_from_before_seq_came_round_is_not_new() -> None:
    line = Line().start()
    old = Stamp((line.seq + 20_000) & 0xFFFF, line.node_ms - 455_360, line.now_ns)
    assert line.arrivals.admit(old) is REPEATED


def test_nothing_is_known_before_the_first_run() -> None:
    line = Line()
    assert line.age_ms() is None
    assert (line.say(), line.age_ms()) == (UNPROVEN, None)


def test_lost_frames_do_no_harm() -> None:
    line = Line().start()
    assert line.say(40, skip=4) is NEW
    assert line.age_ms() == 0


def test_a_run_takes_time() -> None:
    line = Line()
    assert [line.say(1) for _ in range(16)] == [UNPROVEN] * 15 + [NEW]


def test_a_long_burst_within_the_span_is_not_kept() -> None:
    line = Line()
    for _ in range(1000):
        assert line.say(0) is UNPROVEN
    assert len(line.arrivals._run) <= RUN_FRAMES
    assert [line.say(), line.say()] == [UNPROVEN, NEW]


def test_a_run_needs_its_frames() -> None:
    line = Line()
    assert [line.say(100), line.say(100), line.say(100)] == [UNPROVEN, UNPROVEN, NEW]


def test_a_repetition_breaks_a_run() -> None:
    line = Line()
    said = [line.say(), line.say(), line.say(skip=0), line.say(), line.say()]
    assert said == [UNPROVEN, UNPROVEN, REPEATED, UNPROVEN, NEW]


def test_a_run_that_catches_up_begins_again() -> None:
    """Old frames read out faster than they were made: 10 ms of the node's time in 2 of ours."""
    line = Line()
    assert {line.say(2, node_ms=10) for _ in range(200)} == {UNPROVEN}
    assert [line.say(), line.say()] == [UNPROVEN, NEW]


@pytest.mark.parametrize(("ms", "proven"), [(8, True), (5, True), (4.999999, False)])
def test_a_little_jitter_does_not_break_a_run(ms: float, proven: bool) -> None:
    line = Line()
    assert [line.say(), line.say(ms, node_ms=10)] == [UNPROVEN, UNPROVEN]
    assert line.say(10) is (NEW if proven else UNPROVEN)


def test_a_late_frame_is_as_old_as_its_clock_says() -> None:
    line = Line().start()
    assert line.say(40, node_ms=10) is NEW
    assert line.age_ms() == 40 - 10 - 2  # two milliseconds are forgiven
    line.say(1, node_ms=10)
    assert line.age_ms() == pytest.approx(28 - 9 - 0.1)


def test_a_delay_is_forgiven_by_and_by() -> None:
    """Else a node whose clock counts frames would grow older with every hiccup of its own."""
    line = Line().start()
    line.say(40, node_ms=10)
    ages = []
    for _ in range(30):
        line.say(10)
        ages.append(line.age_ms())
    assert ages == [max(0, 28 - n) for n in range(1, 31)]


@pytest.mark.parametrize("node_ms", [0, 1, 10, 25])
def test_a_node_whose_clock_does_not_keep_time_is_believed_all_the_same(node_ms: int) -> None:
    """PROTOCOL 4 asks for a new `seq`, not for a good clock: it may count frames, or stand still."""
    line = Line().start()
    for period_ms in (10, 12, 9, 19, 10, 11) * 50:
        assert line.say(period_ms, node_ms=node_ms) is NEW
        age_ms = line.age_ms()
        assert age_ms is not None
        assert age_ms < 1


def test_an_early_frame_gives_no_credit() -> None:
    line = Line().start()
    line.say(10, node_ms=500)
    line.say(30, node_ms=10)
    assert line.age_ms() == 18


def test_drift_never_ages_a_node() -> None:
    line = Line().start()
    for _ in range(2000):
        assert line.say(10.5, node_ms=10) is NEW
    assert line.age_ms() == pytest.approx(0, abs=0.001)


def test_long_absence_excuses_no_more_than_2_ms_of_delay() -> None:
    line = Line().start()
    line.say(10_040, node_ms=10_000)
    assert line.age_ms() == 38


def test_silence_then_a_restart() -> None:
    line = Line().start()
    line.seq = line.node_ms = 0
    assert [line.say(), line.say(), line.say(), line.say()] == [REPEATED] * 4
    assert line.age_ms() == 40
    assert [line.say(), line.say(), line.say()] == [UNPROVEN, UNPROVEN, NEW]
    assert line.age_ms() == 0


def test_a_restart_that_is_still_within_the_bound_is_not_begun_to_be_heard() -> None:
    line = Line().start()
    line.seq = line.node_ms = 0
    assert line.say(49.999999) is REPEATED
    assert line.say(0.000001, node_ms=10) is UNPROVEN


def test_a_node_that_lags_for_good_is_taken_anew() -> None:
    """Otherwise one long stall of a node that counts ticks would make it stale for ever."""
    line = Line().start()
    assert line.say(1_000, node_ms=10) is NEW
    assert line.age_ms() == 988
    line.say()
    line.say()
    assert line.age_ms() == 0


def test_lose_forgets_the_age_and_keeps_the_order() -> None:
    line = Line().start()
    old = Stamp(line.seq, line.node_ms, line.now_ns)
    line.arrivals.lose()
    assert line.age_ms() is None
    assert line.arrivals.admit(old) is UNPROVEN
    assert line.age_ms() is None
    assert line.say(500) is NEW
    assert line.age_ms() == 0


def test_a_run_does_not_go_on_over_a_lost_line() -> None:
    line = Line()
    assert [line.say(), line.say()] == [UNPROVEN, UNPROVEN]
    line.arrivals.lose()
    assert [line.say(), line.say(), line.say()] == [UNPROVEN, UNPROVEN, NEW]


def test_what_is_read_in_one_go_after_a_freeze_never_makes_a_dead_node_fresh() -> None:
    for frozen_frames in range(6, 400, 7):
        line = Line().start()
        line.now_ns += (frozen_frames * 10 + 60) * MS  # the node went on for so long, and died 60 ms ago
        for _ in range(frozen_frames):
            line.say(0, node_ms=10)
            age_ms = line.age_ms()
            assert age_ms is not None
            assert age_ms >= 50


@given(st.integers(0, 2**32), st.floats(0.99, 1.01), st.integers(0, 0xFFFFFFFF))
def test_jitter_and_drift_within_their_bounds_never_make_a_node_stale(
    seed: int, pace: float, first_ms: int
) -> None:
    """Frames up to 8 ms late, now and then two lost in a row: never 50 ms old when the next one comes."""
    chance = random.Random(seed)
    arrivals = Arrivals(silent_ns=SILENT_NS)
    proven_at = None
    for i in range(200):
        if proven_at is not None and i % 17 in {5, 6}:
            continue
        now_ns = round(T0 + i * 10 * MS + chance.uniform(0, 8) * MS)
        node_ms = (first_ms + int(i * 10 * pace)) & 0xFFFFFFFF
        age_ns = arrivals.age_ns(now_ns)
        assert proven_at is None or (age_ns is not None and age_ns < SILENT_NS)
        admission = arrivals.admit(Stamp(i & 0xFFFF, node_ms, now_ns))
        if admission is NEW and proven_at is None:
            proven_at = i
        assert proven_at is None or admission is NEW
    assert proven_at is not None
    assert proven_at < 50


stamps = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 120 * MS))


@given(st.lists(stamps, max_size=60))
def test_what_is_new_follows_the_new_one_before_or_a_silence(said: list[tuple[int, int, int]]) -> None:
    arrivals = Arrivals(silent_ns=SILENT_NS)
    now_ns = T0
    new: list[tuple[Stamp, int | None]] = []
    for seq, node_ms, passed_ns in said:
        now_ns += passed_ns
        before_ns = arrivals.age_ns(now_ns)
        stamp = Stamp(seq, node_ms, now_ns)
        if arrivals.admit(stamp) is NEW:
            new.append((stamp, before_ns))
        age_ns = arrivals.age_ns(now_ns)
        assert age_ns is None or age_ns >= 0
    for (earlier, _), (later, age_ns) in pairwise(new):
        assert later.follows(earlier) or (age_ns is not None and age_ns >= SILENT_NS)
