"""The devices of one channel in its loop: descriptors watched, readings sampled, outputs ordered."""

import time
from collections.abc import Callable, Mapping

from agent.core.envelope import Scalar
from agent.core.plan import DeviceSpec, Plan
from agent.core.readings import Reading
from agent.shell import Shell
from drivers import registry
from drivers.base import Device


class Devices:
    """Builds and holds the devices a channel needs: `reflex` all inputs, each channel its own outputs."""

    def __init__(
        self,
        shell: Shell,
        changed: Callable[[], None],
        telemetry: Callable[[str], tuple[Scalar, int] | None] = lambda _: None,
    ) -> None:
        """`telemetry`: what the robot last told under a key, for inputs that are telemetry."""
        self._shell = shell
        self._changed = changed
        self._telemetry = telemetry
        inputs, outputs = wanted(shell.plan, shell.name)
        self._all, self._by_input, self.by_output = registry.build_devices(inputs, outputs, self)

    # drivers.base.Host

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        """As `drivers.base.Host`."""
        self._shell.loop.add_reader(fd, on_readable)

    def unwatch(self, fd: int) -> None:
        """As `drivers.base.Host`."""
        self._shell.loop.remove_reader(fd)

    def now_ns(self) -> int:
        """As `drivers.base.Host`."""
        return time.monotonic_ns()

    def changed(self) -> None:
        """As `drivers.base.Host`."""
        self._changed()

    def bad_input(self, source: str, reason: str) -> None:
        """As `drivers.base.Host`."""
        self._shell.bad_input(source, reason)

    def telemetry(self, key: str) -> tuple[Scalar, int] | None:
        """As `drivers.base.TelemetryHost`."""
        return self._telemetry(key)

    # the channel's side

    @property
    def names(self) -> tuple[str, ...]:
        """Of the devices, as sources of bad input."""
        return tuple(device.name for device in self._all)

    @property
    def counters(self) -> dict[str, Mapping[str, int]]:
        """What each device counted, for `warden status`."""
        return {device.name: dict(device.counters) for device in self._all}

    def open(self) -> None:
        """Opens what is there; the rest is retried from `tick`."""
        for device in self._all:
            device.open()

    def tick(self, now_ns: int) -> None:
        """Once per tick."""
        for device in self._all:
            device.tick(now_ns)

    def readings(self, now_ns: int) -> dict[str, Reading]:
        """Every input now."""
        return {name: device.reading(name, now_ns) for name, device in self._by_input.items()}

    def close(self) -> None:
        """De-energises and lets go; idempotent."""
        for device in self._all:
            device.close()


def wanted(plan: Plan, channel: str) -> tuple[dict[str, DeviceSpec], dict[str, DeviceSpec]]:
    """The inputs and outputs a channel's process opens. Only `reflex` touches sensors."""
    inputs = {name: spec.device for name, spec in plan.inputs.items()} if channel == "reflex" else {}
    outputs = {name: spec.device for name, spec in plan.outputs.items() if spec.channel == channel}
    return inputs, outputs


__all__ = ["Device", "Devices", "wanted"]
