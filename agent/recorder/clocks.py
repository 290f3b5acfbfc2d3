"""The recorder's view of the wall clock: its state beside each record, and its steps (LOG, "Clocks").

Order in the log is by numbers, never by wall time; what the clock did is said so that a reader can tell.
"""

import time
from collections.abc import Callable

from agent.clock import clock_synchronised

STEP_NS = 250_000_000
"""Wall time off by more than this against CLOCK_BOOTTIME is a step (LOG)."""
STATE_EVERY_NS = 1_000_000_000
"""The kernel is asked for the clock's state at most this often."""


def _boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class WallClock:
    """Watches CLOCK_REALTIME against CLOCK_BOOTTIME."""

    def __init__(
        self,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        boottime_ns: Callable[[], int] = _boottime_ns,
        synchronised: Callable[[], bool] = clock_synchronised,
    ) -> None:
        """All three are for tests."""
        self._wall_ns = wall_ns
        self._boottime_ns = boottime_ns
        self._synchronised = synchronised
        self._offset_ns = wall_ns() - boottime_ns()
        self._state = "x"
        self._state_due_ns = 0

    def state(self) -> str:
        """`s` synchronised, `u` not (README of `agent/logformat`, "Record")."""
        now_ns = self._boottime_ns()
        if now_ns >= self._state_due_ns:
            self._state = "s" if self._synchronised() else "u"
            self._state_due_ns = now_ns + STATE_EVERY_NS
        return self._state

    def step(self) -> tuple[int, int] | None:
        """(expected, found) wall time in ns where the clock has stepped since the last look, else None.

        A clock that is slewed drifts by far less between two looks, and never adds up to a step.
        """
        boottime_ns = self._boottime_ns()
        wall_ns = self._wall_ns()
        before_ns, self._offset_ns = self._offset_ns, wall_ns - boottime_ns
        if abs(self._offset_ns - before_ns) <= STEP_NS:
            return None
        return boottime_ns + before_ns, wall_ns
