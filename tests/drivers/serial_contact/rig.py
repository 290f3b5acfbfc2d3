"""A port with contacts and a relay in the test's hands, and its module (`host`)."""

from agent.core.readings import Quality, Reading
from drivers.registry import Wanted
from drivers.serial_contact.device import build
from drivers.serial_contact.lines import NONE, Line
from tests.drivers.hosts import MS, FakeHost
from tests.drivers.serial_contact.world import PATH, World

TICK_MS = 10


class ContactRig:
    """The device with one input and one output. Between two words of a rule the port is silent."""

    input_name = "estop"
    output_name = "relay_a"
    stale_ns = 100 * MS

    def __init__(self, *, readback: str = "dcd", test_period_s: int = 10, test_pulse_ms: int = 8) -> None:
        self.host = FakeHost()
        self.world = World(self.host)
        estop = {
            "port": PATH,
            "test_period_s": test_period_s,
            "test_pulse_ms": test_pulse_ms,
            "stale_ms": 100,
        }
        relay = {"port": PATH, "readback": readback, "stale_ms": 100}
        self.device = build(
            PATH, [Wanted("estop", estop)], [Wanted("relay_a", relay)], self.host, open_port=self.world.open
        )
        self.world.silent = True
        self._orders_seen = 0

    def tick(self, ms: float, *, every_ms: float = TICK_MS) -> None:
        self.host.tick(self.device, ms, every_ms=every_ms)

    def reading(self, name: str = "estop") -> Reading:
        return self.device.reading(name, self.host.time_ns)

    def readback(self) -> bool | None:
        return self.device.readback("relay_a", self.host.time_ns)

    def run(self) -> None:
        """Open, and go on answering from then on."""
        self.world.silent = False
        self.device.open()
        self.until_good()

    def until_good(self) -> None:
        """Tick until the lines are believed: a line test may be under way or due."""
        for _ in range(200):
            if self.reading().quality is Quality.GOOD:
                return
            self.tick(TICK_MS)
        raise AssertionError(f"not believed: {self.reading()}")

    def until_pulse(self) -> None:
        """Tick until the line test has just switched the supply off."""
        while Line.DTR in self.world.plug.driven:
            self.tick(TICK_MS)

    def press(self, *, pressed: bool = True) -> None:
        self.world.a = self.world.b = not pressed

    # What the rules ask for -------------------------------------------------------------------------------

    def start(self) -> None:
        self.run()
        self.world.silent = True

    def unplug(self) -> None:
        self.world.unplug()
        self.host.turn_until(lambda: not self.host.watched)

    def replug(self) -> None:
        self.world.plugged = self.world.silent = True
        self._orders_seen = 0

    def show(self, *, closed: bool) -> None:
        self.press(pressed=not closed)
        self._word()

    def break_down(self) -> None:
        self.world.stuck = Line.CTS
        self.world.silent = False
        while self.reading().quality is not Quality.FAULT:
            self.tick(TICK_MS)
        self.world.silent = True
        self.world.stuck = NONE

    def babble(self) -> None:
        before = self.device.counters["bytes_dropped"]
        self.world.plug.far.send(b"\x11\x22\x33")
        self.host.turn_until(lambda: self.device.counters["bytes_dropped"] == before + 3)

    def speak(self, *, energised: bool) -> None:
        self.world.mirror = energised
        self._word()

    def await_order(self, *, energise: bool) -> None:
        orders = self.world.plug.driven_since_plugged(Line.RTS)
        assert len(orders) > self._orders_seen
        assert orders[-1] is energise
        self._orders_seen = len(orders)

    def energised_orders(self) -> int:
        return self.world.plug.driven_since_plugged(Line.RTS).count(True)

    def release(self) -> None:
        """End of the test."""
        self.device.close()

    def _word(self) -> None:
        """One answer; as many as a line test takes where one is under way or due."""
        self.world.silent = False
        self.device.tick(self.host.time_ns)
        self.until_good()
        self.world.silent = True
