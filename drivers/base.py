"""What a driver is to the rest of the program: the two sides of the contract, and its errors.

    WardenError
    +-- DriverError     a device that cannot be built as the plan asks
    +-- SettingsError   a setting in the plan that the driver refuses

A driver never decides. It says what it saw and when it does not know (`Quality`), and carries out orders.
Whatever the world does to a device while it runs (unplugged, garbage, silence) is a reading, never an error.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from agent.core.readings import Reading
from agent.errors import WardenError


class DriverError(WardenError):
    """A device cannot be built as the plan asks; raised before anything is opened.

    `driver`: the kind. `port`: path of the device, "" where none is known. `reason`: what follows the kind.
    """

    def __init__(self, driver: str, port: str, reason: str) -> None:
        super().__init__(f"driver {driver!r} {reason}" + (f" ({port})" if port else ""))
        self.driver = driver
        self.port = port
        self.reason = reason


class SettingsError(WardenError):
    """A setting that the driver refuses: unknown, missing, of the wrong type or out of range.

    `kind`: the driver. `key`: the setting, "driver" when the kind itself is refused. `bound`: what it must
    be, and what it is, in one line.
    """

    def __init__(self, kind: str, key: str, bound: str) -> None:
        super().__init__(f"driver {kind!r}: {key}: {bound}")
        self.kind = kind
        self.key = key
        self.bound = bound


class Host(Protocol):
    """What the module gives a device. Everything happens on the module's one thread."""

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever `fd` is readable or hung up (level-triggered) until `unwatch`."""

    def unwatch(self, fd: int) -> None:
        """End `watch`; called before the descriptor is closed."""

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC, nanoseconds."""

    def changed(self) -> None:
        """A reading changed: the module samples, steps and acts inside this very call.

        It may call `order` and `close` of the device that is calling. A device therefore calls it with its
        state whole, looks at that state again afterwards, and never calls it from within `order`.
        """

    def bad_input(self, source: str, reason: str) -> None:
        """Something unusable came from `source` (a device's name); the module bounds how much it records."""


@runtime_checkable
class TelemetryHost(Host, Protocol):
    """A host that is connected with the robot's own software (PROTOCOL 2)."""

    def telemetry(self, key: str) -> tuple[bool | float | str, int] | None:
        """What the robot last told under `key`, and when it was received (CLOCK_MONOTONIC, nanoseconds).

        None when it has not told it since it connected, or is not connected.
        """


class Device(Protocol):
    """One physical thing (e.g. one serial port), serving several inputs and outputs of the plan.

    A name that the plan did not give this device is a mistake of the program's and raises KeyError.
    """

    @property
    def name(self) -> str:
        """Kind and path, for records and messages."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened since the start, by name; only ever grows."""

    def open(self) -> None:
        """First open. Never raises for a device that is away: the quality says so and `tick` tries again."""

    def tick(self, now_ns: int) -> None:
        """Called every 10 ms: periodic frames, reopening with a bounded back-off."""

    def reading(self, input_name: str, now_ns: int) -> Reading:
        """What is known of the input at `now_ns`; its age is judged here, so silence needs no event."""

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        """Energise or de-energise; written at once when it changed. Never blocks, whatever the world does."""

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        """True: seen energised. False: seen de-energised. None: not known."""

    def close(self) -> None:
        """De-energise, then let go. Idempotent; nothing is opened or energised afterwards."""
