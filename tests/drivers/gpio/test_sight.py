"""What is believed of edges and looks: every opening is seen, and closed is never said on a doubt."""

from collections import deque
from dataclasses import dataclass, field

import pytest
from gpiod import EdgeEvent, _ext
from hypothesis import given
from hypothesis import strategies as st

from drivers.gpio.device import COUNTERS
from drivers.gpio.lines import EDGES_MOST
from drivers.gpio.sight import MS, QUIET_NS, Sight

T0 = 1_000 * MS


def edge(*, closed: bool, seq: int, at_ns: int = T0 + MS, line: int = 4) -> EdgeEvent:
    kind = _ext.EDGE_EVENT_TYPE_RISING if closed else _ext.EDGE_EVENT_TYPE_FALLING
    return EdgeEvent(kind, at_ns, line, seq, seq)


def sight(*levels: bool, offsets: tuple[int, ...] = (4,)) -> Sight:
    """Looked at once, at T0."""
    made = Sight(offsets, dict.fromkeys(COUNTERS, 0))
    made.begin()
    made.look(levels, T0)
    return made


def seen(of: Sight, *events: EdgeEvent, now_ns: int = T0 + 2 * MS) -> list[tuple[bool, ...] | None]:
    """The levels at each moment at which somebody must look."""
    return [of.levels for _ in of.take(events, now_ns)]


def test_an_edge_is_a_change() -> None:
    one = sight(True)
    assert seen(one, edge(closed=False, seq=1)) == [(False,)]
    assert seen(one, edge(closed=True, seq=2)) == [(True,)]
    assert one.taken_ns == T0 + MS


def test_an_opening_and_closing_in_one_read_is_seen_in_between() -> None:
    assert seen(sight(True), edge(closed=False, seq=1), edge(closed=True, seq=2)) == [(False,), (True,)]


def test_an_opening_too_short_for_the_kernel_is_seen_too() -> None:
    """It looks which edge it was after the edge: an edge to closed on a closed line."""
    assert seen(sight(True), edge(closed=True, seq=1)) == [(False,), (True,)]


def test_an_edge_to_open_on_an_open_line_is_no_news() -> None:
    assert seen(sight(False), edge(closed=False, seq=1)) == []


def test_two_lines_that_change_together_are_seen_together() -> None:
    pair = sight(True, True, offsets=(4, 5))
    opened = edge(closed=False, seq=1), edge(closed=False, seq=1, line=5)
    closed = edge(closed=True, seq=2), edge(closed=True, seq=2, line=5)
    assert seen(pair, *opened, *closed) == [(False, False), (True, True)]


def test_a_look_that_came_before_the_edge_changes_nothing_twice() -> None:
    one = sight(True)
    one.look([False], T0 + 5 * MS)
    assert one._counters["looks_ahead"] == 1
    assert seen(one, edge(closed=False, seq=1, at_ns=T0 + 4 * MS), now_ns=T0 + 6 * MS) == []


def test_an_edge_that_is_older_than_the_look_never_closes() -> None:
    one = sight(True)
    one.look([False], T0 + 5 * MS)
    assert seen(one, edge(closed=True, seq=1, at_ns=T0 + 4 * MS), now_ns=T0 + 6 * MS) == []
    assert one.levels == (False,)


def test_an_edge_that_is_older_than_the_look_may_open() -> None:
    one = sight(True)
    one.look([True], T0 + 5 * MS)
    late = edge(closed=False, seq=1, at_ns=T0 + 3 * MS), edge(closed=True, seq=2, at_ns=T0 + 4 * MS)
    assert seen(one, *late, now_ns=T0 + 6 * MS) == [(False,)]
    one.look([True], T0 + 10 * MS)
    assert one.levels == (True,)


def test_an_edge_whose_end_the_look_saw_is_no_opening() -> None:
    one = sight(False)
    one.look([True], T0 + 5 * MS)
    ends = edge(closed=True, seq=1, at_ns=T0 + 4 * MS), edge(closed=True, seq=2, at_ns=T0 + 4 * MS)
    assert seen(one, ends[0], now_ns=T0 + 6 * MS) == []
    assert seen(one, ends[1], now_ns=T0 + 6 * MS) == [(False,)], "but a second one is"


def test_a_gap_is_counted_and_was_open() -> None:
    one = sight(True)
    assert seen(one, edge(closed=True, seq=5)) == [(False,), (True,)]
    assert one._counters["edges_lost"] == 4
    assert one.troubles() == ["line 4: edges lost before number 5"]
    assert one.troubles() == []


def test_a_gap_before_the_last_look_was_open_until_the_next() -> None:
    one = sight(True)
    one.look([True], T0 + 5 * MS)
    assert seen(one, edge(closed=True, seq=3, at_ns=T0 + 4 * MS), now_ns=T0 + 6 * MS) == [(False,)]


@pytest.mark.parametrize("before", [0x7FFFFFFF, 0xFFFFFFFF])
def test_the_numbers_come_round(before: int) -> None:
    one = sight(True)
    one._seqs = [before]
    after = (before + 1) & 0xFFFFFFFF
    seen(one, edge(closed=False, seq=after - ((after & 0x80000000) << 1)))
    assert one._counters["edges_lost"] == 0


def test_a_number_that_goes_back_is_one_loss_and_not_four_thousand_million() -> None:
    one = sight(True)
    seen(one, edge(closed=False, seq=1), edge(closed=True, seq=2), edge(closed=False, seq=2))
    assert one._counters["edges_lost"] == 1


def test_a_new_request_counts_from_one_again() -> None:
    one = sight(True)
    seen(one, edge(closed=False, seq=1), edge(closed=True, seq=2))
    one.lose()
    one.begin()
    one.look([True], T0 + 5 * MS)
    seen(one, edge(closed=False, seq=1, at_ns=T0 + 6 * MS), now_ns=T0 + 7 * MS)
    assert one._counters["edges_lost"] == 0


def test_an_edge_of_another_line_is_counted_and_nothing_else() -> None:
    one = sight(True)
    assert seen(one, edge(closed=False, seq=1, line=9)) == []
    assert (one.levels, one._counters["edges_foreign"]) == ((True,), 1)
    assert one.troubles() == ["an edge of line 9, which nobody asked for"]


def test_edges_before_the_first_look_say_nothing() -> None:
    fresh = Sight((4,), dict.fromkeys(COUNTERS, 0))
    fresh.begin()
    assert seen(fresh, edge(closed=True, seq=1)) == []
    assert fresh.levels is None
    assert fresh.age_ns(T0) is None


def test_edges_make_nothing_young() -> None:
    one = sight(True)
    seen(one, edge(closed=False, seq=1, at_ns=T0 + 50 * MS), now_ns=T0 + 50 * MS)
    assert one.age_ns(T0 + 60 * MS) == 60 * MS
    assert one.taken_ns == T0 + 50 * MS


def test_an_edge_of_the_future_is_of_now() -> None:
    one = sight(True)
    seen(one, edge(closed=False, seq=1, at_ns=T0 + 500 * MS), now_ns=T0 + 2 * MS)
    assert one.taken_ns == T0 + 2 * MS


def chatter(of: Sight, edges: int, *, now_ns: int, first: int = 1) -> list[tuple[bool, ...] | None]:
    events = [edge(closed=bool(n % 2), seq=first + n, at_ns=now_ns) for n in range(edges)]
    return seen(of, *events, now_ns=now_ns)


def test_a_full_queue_is_a_fault_told_once() -> None:
    one = sight(True)
    assert chatter(one, EDGES_MOST, now_ns=T0 + MS) == [(True,)]
    assert (one.noisy, one.crowded, one._counters["storms"]) == (True, True, 1)
    assert one.troubles() == ["64 edges or more between two ticks"]


def test_one_edge_less_is_none() -> None:
    one = sight(True)
    assert len(chatter(one, EDGES_MOST - 1, now_ns=T0 + MS)) == EDGES_MOST - 1
    assert not one.noisy


def test_edges_add_up_between_two_ticks_and_not_over_them() -> None:
    one = sight(True)
    chatter(one, 40, now_ns=T0 + MS)
    one.turn_over()
    chatter(one, 40, now_ns=T0 + 11 * MS, first=41)
    assert not one.noisy
    chatter(one, 24, now_ns=T0 + 12 * MS, first=81)
    assert one.noisy


def test_a_storm_that_goes_on_is_one_storm_and_ends_with_quiet_and_a_look() -> None:
    one = sight(True)
    for tick in range(30):
        now_ns = T0 + tick * 10 * MS
        one.turn_over()
        one.look([True], now_ns)
        chatter(one, EDGES_MOST, now_ns=now_ns + MS, first=1 + tick * EDGES_MOST)
        assert one.noisy
    assert one._counters["storms"] == 1
    ended_ns = T0 + 291 * MS
    one.turn_over()
    one.look([True], ended_ns + QUIET_NS - 1)
    assert one.noisy
    one.look([True], ended_ns + QUIET_NS)
    assert not one.noisy


# ------------------------------------------------------------------------------------- beside a simple model


@dataclass
class World:
    """One real line, and the kernel's queue that drops its oldest.

    `opened`: since closed was last said with nothing queued; `shown`: and whether somebody saw it open since.
    """

    closed: bool = True
    now_ns: int = T0
    seq: int = 0
    queue: deque[EdgeEvent] = field(default_factory=lambda: deque(maxlen=EDGES_MOST))
    line: Sight = field(default_factory=lambda: sight(True))
    opened: bool = False
    shown: bool = False

    def flip(self, *, late: bool) -> None:
        """The level changes; `late`: twice, before the kernel has looked which edge it was."""
        self.now_ns += MS // 100
        self.opened = True
        self.closed = self.closed if late else not self.closed
        for _ in range(2 if late else 1):
            self.seq += 1
            self.queue.append(edge(closed=self.closed, seq=self.seq, at_ns=self.now_ns))

    def notice(self) -> None:
        self.shown = self.shown or self.line.noisy or self.line.levels != (True,)

    def read(self) -> None:
        self.now_ns += MS // 100
        events = [self.queue.popleft() for _ in range(len(self.queue))]
        for _ in self.line.take(events, self.now_ns):
            self.notice()
        if self.line.levels == (True,):
            assert self.closed, "closed was said of an open line"
            assert self.shown or not self.opened, "an opening was missed"
            self.opened = self.shown = False

    def look(self) -> None:
        self.now_ns += MS // 100
        self.line.turn_over()
        self.line.look([self.closed], self.now_ns)
        assert self.line.levels == (self.closed,)
        self.notice()


STEPS = st.one_of(
    st.tuples(st.just("flip"), st.booleans()),
    st.tuples(st.just("read"), st.just(False)),
    st.tuples(st.just("look"), st.just(False)),
    st.tuples(st.just("storm"), st.booleans()),
)


@given(st.lists(STEPS, max_size=60))
def test_every_opening_is_seen_by_the_end_of_the_next_read(steps: list[tuple[str, bool]]) -> None:
    world = World()
    for step, late in steps:
        if step == "flip":
            world.flip(late=late)
        elif step == "storm":
            for _ in range(70):
                world.flip(late=late)
        elif step == "read":
            world.read()
        else:
            world.look()
    world.read()
    world.look()
    world.read()
    assert world.line.levels == (world.closed,)
