"""What is known of one or two lines, from edges and from looks at their level. Pure: time is an argument.

Active is closed (safe) throughout, and every doubt is decided towards open:

* An edge tells that the level changed; which way, the kernel looks up a moment later. So an edge that ends at
  closed, on a line that was closed, is an opening too short to be seen: it was open in between.
* A gap in a line's numbers means that edges were lost (the kernel's queue drops its oldest). It is counted;
  a line that was closed on both sides of it was open in between, by the rule before this one.
* A look is newer than an edge that is stamped before it, even where the edge is delivered after it: such an
  edge may still open, and never closes. The next look, 10 ms on, closes.
* Edges make nothing young: each speaks of one line, and none comes from a line that is dead. Only a look at
  all lines does.

A line with too many edges is broken (`noisy`): a wire that hardly touches, or interference.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from gpiod import EdgeEvent

from drivers.gpio.lines import EDGES_MOST

MS: Final = 1_000_000
QUIET_NS: Final = 100 * MS
"""So long a noisy line must stay below the bound before a look makes it good again."""
SEQ_MASK: Final = 0xFFFF_FFFF
"""The kernel counts in 32 bits, and gpiod hands the upper half of them on as negative numbers."""
SEQ_HALF: Final = 1 << 31


class Sight:
    """The lines of one request, in the order of `offsets`.

    `levels`: None until they were first looked at. `taken_ns`: the newest edge or look.
    """

    def __init__(self, offsets: Sequence[int], counters: dict[str, int], *, has_edges: bool = True) -> None:
        """`counters`: `edges`, `edges_lost`, `edges_foreign`, `looks_ahead` and `storms` are counted here.

        `has_edges`: False for an output, whose changes are our own.
        """
        self.levels: tuple[bool, ...] | None = None
        self.taken_ns = 0
        self.noisy = False
        self._index = {offset: place for place, offset in enumerate(offsets)}
        self._counters = counters
        self._has_edges = has_edges
        self._seqs = [0] * len(offsets)
        self._looked_ns: int | None = None
        self._ahead: set[int] = set()
        self._quiet_from_ns = 0
        self._edges = 0
        self._troubles: list[str] = []

    def begin(self) -> None:
        """A new request: the kernel counts from 1 again."""
        self._seqs = [0] * len(self._seqs)
        self._edges = 0

    def lose(self) -> None:
        """The request is gone: nothing is of now until the next look."""
        self._looked_ns = None

    def age_ns(self, now_ns: int) -> int | None:
        """Since the last look; None when there was none in this request."""
        return None if self._looked_ns is None else now_ns - self._looked_ns

    def troubles(self) -> list[str]:
        """What was wrong with the edges since the last call, for people."""
        said, self._troubles = self._troubles, []
        return said

    # Looks ------------------------------------------------------------------------------------------------

    def turn_over(self) -> None:
        """One tick has passed: edges are counted anew."""
        self._edges = 0

    @property
    def crowded(self) -> bool:
        """True when this tick has had its share of edges: the rest can wait for the next."""
        return self._edges >= EDGES_MOST

    def look(self, levels: Sequence[bool], now_ns: int) -> None:
        """What the lines read at `now_ns`."""
        seen = tuple(levels)
        before = self.levels if self._looked_ns is not None else None
        if self._has_edges and before is not None and seen != before:
            self._counters["looks_ahead"] += 1
        self._ahead = {place for place, level in enumerate(seen) if level and before and not before[place]}
        self.levels = seen
        self._looked_ns = now_ns
        self.taken_ns = max(self.taken_ns, now_ns)
        if now_ns >= self._quiet_from_ns:
            self.noisy = False

    # Edges ------------------------------------------------------------------------------------------------

    def take(self, events: Sequence[EdgeEvent], now_ns: int) -> Iterator[None]:
        """Take edges in order. Yields whenever somebody must look before the next one covers what is there.

        Two lines that change together are seen together; a line that changes twice is seen in between. The
        edges of a noisy line are not worth that, since it is a fault whatever they say.
        """
        self._count(len(events), now_ns)
        untold: set[int] = set()
        for event in events:
            place = self._index.get(event.line_offset)
            if place is None:
                self._counters["edges_foreign"] += 1
                self._troubles.append(f"an edge of line {event.line_offset}, which nobody asked for")
                continue
            for level in self._through(place, event):
                if place in untold and not self.noisy:
                    yield
                    untold.clear()
                self._set(place, level)
                untold.add(place)
            self.taken_ns = max(self.taken_ns, min(event.timestamp_ns, now_ns))
        if untold or self.noisy:
            yield

    def _count(self, edges: int, now_ns: int) -> None:
        self._counters["edges"] += edges
        self._edges += edges
        if not self.crowded:
            return
        if not self.noisy:
            self._counters["storms"] += 1
            self._troubles.append(f"{self._edges} edges or more between two ticks")
        self.noisy = True
        self._quiet_from_ns = now_ns + QUIET_NS

    def _through(self, place: int, event: EdgeEvent) -> tuple[bool, ...]:
        """The levels that the line went through, the last one first seen now."""
        self._number(place, event)
        if self.levels is None or self._looked_ns is None:
            return ()  # the first look decides
        was_closed = self.levels[place]
        if event.event_type is EdgeEvent.Type.FALLING_EDGE:
            return (False,) if was_closed else ()
        if event.timestamp_ns >= self._looked_ns:
            return (False, True) if was_closed else (True,)
        if place in self._ahead:  # the very edge whose end the look saw
            self._ahead.discard(place)
            return ()
        return (False,) if was_closed else ()

    def _number(self, place: int, event: EdgeEvent) -> None:
        """Count the edges of the line that are missing before this one."""
        seq = event.line_seqno & SEQ_MASK
        lost = (seq - self._seqs[place] - 1) & SEQ_MASK
        self._seqs[place] = seq
        if lost:
            # A number that went back says that something is wrong, and not how many are missing.
            self._counters["edges_lost"] += lost if lost < SEQ_HALF else 1
            self._troubles.append(f"line {event.line_offset}: edges lost before number {seq}")

    def _set(self, place: int, level: bool) -> None:
        levels = list(self.levels or ())
        levels[place] = level
        self.levels = tuple(levels)
