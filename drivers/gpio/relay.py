"""A relay's drive on one line: a level, or a train of pulses that the deciding loop makes itself."""

from typing import Final

from drivers.gpio.hold import Hold
from drivers.gpio.sight import MS

EARLY_NS: Final = 5 * MS
"""A tick may come so much early and still toggle: half of the shortest `toggle_ms`."""


class Relay:
    """One output. `order`, `beat` and `drop` raise LinesError when the line could not be written.

    In mode pulse each toggle is made by a tick, and only when an order to energise was given since the one
    before: neither a process that is frozen nor one that ticks without deciding keeps the train alive. A tick
    that comes late toggles once, it does not catch up. The line may stand still at either level, so what is
    driven must drop out at both (a charge pump, a watchdog relay with an edge-driven input).
    """

    def __init__(self, hold: Hold, mirror: Hold, *, toggle_ns: int, stale_ns: int) -> None:
        """`mirror`: where the read-back is seen, the mirror contact or `hold`; `toggle_ns` 0: a level."""
        self.hold = hold
        self._mirror = mirror
        self._toggle_ns = toggle_ns
        self._stale_ns = stale_ns
        self._energised = False
        self._level: bool | None = False
        self._asked = False
        self._toggled_ns = 0

    def drop(self) -> None:
        """Inactive, whatever was ordered: the last write before the line is given back."""
        self._energised = self._asked = False
        self._level = False  # as the next request will make it
        if self.hold.lines.is_open:
            self.hold.lines.drive(False)

    def order(self, energise: bool, now_ns: int) -> None:
        """Written at once when it changed, or when the last write failed."""
        if energise == self._energised and self._level is not None:
            self._asked = energise
            return
        self._energised = energise
        self._asked = False
        self._drive(energise, now_ns)

    def beat(self, now_ns: int) -> None:
        """One tick: the next toggle, if it is due; and inactive again, if that could not be written."""
        if self._level is None and not self._energised:
            self._drive(False, now_ns)
        elif self._is_due(now_ns):
            self._asked = False
            self._drive(not self._level, now_ns)

    def readback(self, now_ns: int) -> bool | None:
        """What the mirror shows; None while that is not known."""
        sight = self._mirror.sight
        if sight.levels is None or sight.noisy or not self._mirror.is_known(self._stale_ns, now_ns):
            return None
        return sight.levels[0]

    def _is_due(self, now_ns: int) -> bool:
        if not (self._toggle_ns and self._energised and self._asked) or self._level is None:
            return False
        return now_ns - self._toggled_ns >= self._toggle_ns - EARLY_NS

    def _drive(self, level: bool, now_ns: int) -> None:
        self._level = None
        self.hold.lines.drive(level)
        self._level = level
        self._toggled_ns = now_ns
