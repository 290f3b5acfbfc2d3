"""The chip's device with a board behind it, as the rules of all drivers want it, and for its own tests.

A board's levels can be read whenever somebody asks, so "the far end speaks" means here that reading succeeds:
`glance` is one tick at which it does.
"""

from collections.abc import Mapping
from typing import Final

from agent.core.readings import Quality, Reading
from drivers.gpio.lines import EDGES_MOST
from drivers.gpio.wiring import build
from drivers.registry import Wanted, check_settings
from tests.drivers.gpio.board import Board
from tests.drivers.hosts import MS, FakeHost

STALE_MS: Final = 100
Settings = Mapping[str, object]


class ChipRig:
    """Some inputs and outputs on one board. Nothing is open yet; nothing can be read but in a `glance`."""

    stale_ns = STALE_MS * MS
    board_type = Board

    def __init__(
        self, inputs: Mapping[str, Settings] | None = None, outputs: Mapping[str, Settings] | None = None
    ) -> None:
        self.host = FakeHost()
        self.board = self.board_type(self.host.now_ns)
        self.board.readable = False
        self.device = build(
            self.board.path,
            [self._wanted("input", name, settings) for name, settings in (inputs or {}).items()],
            [self._wanted("output", name, settings) for name, settings in (outputs or {}).items()],
            self.host,
            self.board.open_chip,
        )

    def _wanted(self, role: str, name: str, settings: Settings) -> Wanted:
        return Wanted(name, check_settings("gpio", role, {"chip": self.board.path, **settings}))

    def glance(self, ms: int = 0) -> None:
        """A tick at which the levels can be read, `ms` from now."""
        self.host.pass_ms(ms)
        self.board.readable = True
        self.device.tick(self.host.time_ns)
        self.board.readable = False

    def ticks(self, count: int) -> None:
        """So many ticks of 10 ms at which the levels can be read."""
        for _ in range(count):
            self.glance(10)

    def wake(self) -> None:
        """What is queued now is taken, each ready descriptor once."""
        self.host.turn(0)

    def reading(self, name: str = "estop") -> Reading:
        return self.device.reading(name, self.host.time_ns)

    def readback(self, name: str = "relay_a") -> bool | None:
        return self.device.readback(name, self.host.time_ns)

    def order(self, energise: bool, name: str = "relay_a") -> None:
        self.device.order(name, energise, self.host.time_ns)

    # What the rules ask for -------------------------------------------------------------------------------

    def start(self) -> None:
        self.device.open()
        self.glance()

    def unplug(self) -> None:
        self.board.unplug()
        self.host.turn_until(lambda: not self.host.watched)

    def replug(self) -> None:
        self.board.plug()

    def release(self) -> None:
        """End of the test."""
        self.device.close()


class ContactRig(ChipRig):
    """One contact, `estop`, on line 4, or on 4 and 5."""

    input_name = "estop"

    def __init__(self, **settings: object) -> None:
        super().__init__({"estop": {"line": 4, **settings}})
        polarity = {4: "active_low", 5: "active_low_b"}
        self.lines = {4: settings.get("active_low", False)}
        if "line_b" in settings:
            self.lines[5] = settings.get(polarity[5], False)
        self.put(closed=True)

    def start(self) -> None:
        super().start()
        assert self.reading().quality is Quality.GOOD

    def put(self, *, closed: bool, line: int | None = None) -> None:
        """The contact, or one channel of it, is worked; nobody has looked yet."""
        for offset in self.lines if line is None else (line,):
            self.board.drive(offset, closed != self.lines[offset])

    def show(self, *, closed: bool) -> None:
        self.put(closed=closed)
        self.wake()
        self.glance()

    def break_down(self) -> None:
        """A wire that hardly touches: more edges than the queue holds."""
        for number in range(EDGES_MOST):
            self.put(closed=bool(number % 2))
        self.wake()

    def babble(self) -> None:
        """An edge of a line that is not ours."""
        self.board.stray(4, 17)
        self.wake()


class RelayRig(ChipRig):
    """One relay, `relay_a`, driven by line 20; its mirror contact, where it has one, is on 21."""

    output_name = "relay_a"
    drive_line = 20

    def __init__(self, **settings: object) -> None:
        super().__init__(outputs={"relay_a": {"line": self.drive_line, **settings}})
        self.seen_line = 21 if "readback_line" in settings else self.drive_line
        self.seen_low = settings.get("readback_active_low", False)
        self.shows(energised=False)
        self._orders_seen = 0

    @property
    def orders(self) -> list[bool]:
        return self.board.orders(self.drive_line)

    def shows(self, *, energised: bool) -> None:
        """The mirror contact, or the line's own level, is so from now on; nobody has looked yet."""
        self.board.drive(self.seen_line, energised != self.seen_low)

    def speak(self, *, energised: bool) -> None:
        self.shows(energised=energised)
        self.wake()
        self.glance()

    def replug(self) -> None:
        super().replug()
        self._orders_seen = 0

    def await_order(self, *, energise: bool) -> None:
        assert self.orders[self._orders_seen :]
        assert self.orders[-1] is energise
        self._orders_seen = len(self.orders)

    def energised_orders(self) -> int:
        return sum(self.orders)
