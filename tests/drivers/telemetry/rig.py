"""A robot in the test's hands: what it tells, as the module's robot link would hold it."""

from collections.abc import Mapping

from agent.core.plan import DeviceSpec
from agent.core.readings import Reading
from drivers.registry import build_devices, check_settings
from drivers.telemetry.device import Telemetry
from tests.drivers.hosts import MS, FakeHost

Scalar = bool | float | str


class LinkedHost(FakeHost):
    """A module with a robot link. `told`: empty while no robot is connected."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, tuple[Scalar, int]] = {}

    def telemetry(self, key: str) -> tuple[Scalar, int] | None:
        return self.told.get(key)


class RobotRig:
    """The device, its module (`host`) and the robot, which beats whenever the script says."""

    input_name = "estop"

    def __init__(self, inputs: Mapping[str, Mapping[str, object]]) -> None:
        self.host = LinkedHost()
        specs = {
            name: DeviceSpec("robot_link", check_settings("robot_link", "input", settings))
            for name, settings in inputs.items()
        }
        (device,), _, _ = build_devices(specs, {}, self.host)
        assert isinstance(device, Telemetry)
        self.device = device
        self.stale_ns = 200 * MS

    def tell(self, **told: Scalar) -> None:
        """One beat; the module ticks after it."""
        self.host.told.update({key: (value, self.host.time_ns) for key, value in told.items()})
        self.device.tick(self.host.time_ns)

    def reading(self, name: str = "estop") -> Reading:
        return self.device.reading(name, self.host.time_ns)

    # What the rules ask for -------------------------------------------------------------------------------

    def start(self) -> None:
        self.device.open()
        self.show(closed=True)

    def unplug(self) -> None:
        self.host.told = {}
        self.device.tick(self.host.time_ns)

    def replug(self) -> None:
        """A robot that is connected and has told nothing is as none."""

    def show(self, *, closed: bool) -> None:
        self.tell(estop_ok=closed)

    def break_down(self) -> None:
        self.tell(estop_ok="broken")

    def babble(self) -> None:
        """What the link refuses never gets here: it is the link that reports it."""
        self.host.bad_input("robot_link", "telemetry 'estop_ok' must be a number, text or boolean")
