"""Since when bytes can have been waiting that are read now. Pure: time is an argument.

The controller's frames carry neither number nor time: nothing tells one from another of half a second ago.
Yet a process that is frozen and goes on finds exactly those in its buffer, "no stop" among them. So a frame
is taken to be as old as it can be. It came after its port was last seen empty, and after the tick before the
last: since that one, the loop has asked for readable ports at least once and has read what there was.
"""


class Turns:
    """What one port's bytes can have waited. The owner reports its ticks and its reads."""

    def __init__(self, now_ns: int) -> None:
        """`now_ns`: when the port was opened, which discards what waits."""
        self._before_last_ns = self._last_ns = self._empty_ns = now_ns
        self._has_more = False

    def tick(self, now_ns: int) -> None:
        """The loop turns."""
        if not self._has_more:
            self._before_last_ns, self._last_ns = self._last_ns, now_ns

    def read(self, now_ns: int, *, has_more: bool) -> int:
        """The port was read; yields since when it can have waited. `has_more`: some may be left in it."""
        oldest_ns = max(self._empty_ns, self._before_last_ns)
        self._has_more = has_more
        if not has_more:
            self._empty_ns = now_ns
        return oldest_ns
