"""The line test: the contacts' supply is switched off for a moment, and no contact may still read closed.

Pure: time is an argument. An input that a short holds closed, or that is stuck, reads closed for ever; a
press would not be seen. While the supply (DTR) is off, every line must read open; one that does not is
`stuck` until a later test finds it open. Once the supply is back, what the lines show is the truth again.

    LIT ──period over, something closed──▶ DARK ──pulse over──▶ SETTLING ──all back, or time up──▶ LIT

The port begins DARK, so every opening is a test. Until LIT again, nothing is to be read off the lines, and
the last reading stands. A press meanwhile is seen at the end, at most the pulse, `SETTLE_NS` and two ticks
after the pulse began: pulse and settling each end with the first tick that finds them over.
"""

from enum import Enum, auto
from typing import Final

from drivers.serial_contact.lines import NONE, Line

SETTLE_NS: Final = 20_000_000
"""For the lines to come back: a UART needs microseconds; USB adapters tell of a change up to 16 ms later."""
RETEST_NS: Final = 1_000_000_000
"""While something is stuck it is tested this often, so that a repair is soon seen."""


class Phase(Enum):
    """Where a test is."""

    LIT = auto()
    DARK = auto()
    SETTLING = auto()


class LineTest:
    """The test of one port's lines."""

    def __init__(self, lines: Line, *, period_ns: int | None, pulse_ns: int) -> None:
        """`lines`: those that DTR feeds; without any it stays low. `period_ns`: None: only when opened."""
        self._lines = lines
        self._period_ns = period_ns
        self._pulse_ns = pulse_ns
        self._phase = Phase.DARK
        self._since_ns = 0
        self._before = lines
        self.stuck = NONE
        """Lines that read high with the supply off, as of the latest test."""

    @property
    def supply(self) -> bool:
        """How DTR is to be driven."""
        return self._phase is not Phase.DARK and self._lines != NONE

    def begin(self, now_ns: int) -> None:
        """A port was opened, its supply is off."""
        self._before = self._lines
        self._go(Phase.DARK, now_ns)

    def postpone(self, now_ns: int) -> None:
        """The supply was not as it should be until now: pulse or settling begin anew."""
        self._go(Phase.SETTLING if self._phase is Phase.LIT else self._phase, now_ns)

    def step(self, high: Line, now_ns: int) -> bool:
        """Whether what the lines show, with the supply as it was asked for, is the contacts' state."""
        match self._phase:
            case Phase.LIT:
                self._before = high & self._lines
                if self._is_due(now_ns):
                    self._go(Phase.DARK, now_ns)
                return True
            case Phase.DARK:
                if now_ns - self._since_ns >= self._pulse_ns:
                    self.stuck = high & self._lines
                    self._go(Phase.SETTLING, now_ns)
                return False
            case Phase.SETTLING:
                if high & self._before != self._before and now_ns - self._since_ns < SETTLE_NS:
                    return False
                self._go(Phase.LIT, now_ns)
                return True

    def _is_due(self, now_ns: int) -> bool:
        """With everything open there is nothing that could be stuck."""
        if self._period_ns is None or self._before == NONE:
            return False
        period_ns = min(self._period_ns, RETEST_NS) if self.stuck else self._period_ns
        return now_ns - self._since_ns >= period_ns

    def _go(self, phase: Phase, now_ns: int) -> None:
        self._phase = phase
        self._since_ns = now_ns
