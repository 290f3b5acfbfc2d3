"""A plan simulated as `warden run --simulate` does it: the devices of one module, the person at the panel."""

from pathlib import Path
from typing import cast

from agent.core.readings import Quality, Reading
from agent.devices import wanted
from agent.simulate import Controls, panel_path, simulated
from drivers.registry import build_devices
from drivers.sim.device import Sim
from tests.config.plans import Folder
from tests.drivers.hosts import MS, FakeHost

STALE_MS = 1000
"""The settings' own."""


class PanelRig:
    """`reflex`'s simulated devices: the contact `estop` and the relay `relay_a`, both on one panel.

    A word of the panel is its file written once. Nobody beats here, so between two words the panel is silent.
    """

    input_name = "estop"
    output_name = "relay_a"
    stale_ns = STALE_MS * MS

    def __init__(self, folder: Path) -> None:
        self._plan = simulated(Folder(folder).load(offline=True))
        self.path = panel_path(self._plan)
        self.host = FakeHost()
        inputs, outputs = wanted(self._plan, "reflex")
        (device,), _, _ = build_devices(inputs, outputs, self.host)
        self.device = cast("Sim", device)
        self.controls = Controls(self._plan)
        self._orders_seen = self._energised_before = 0

    def word(self, *acts: tuple[str, str]) -> None:
        """What a person does, and the panel's word about it; the device has heard it."""
        self.controls.beat()
        for word, name in acts:
            assert self.controls.do(word, name) == ""
        self.tick()

    def tick(self) -> None:
        self.device.tick(self.host.time_ns)

    def reading(self) -> Reading:
        return self.device.reading(self.input_name, self.host.time_ns)

    def readback(self) -> bool | None:
        return self.device.readback(self.output_name, self.host.time_ns)

    # What the rules ask for -------------------------------------------------------------------------------

    def start(self) -> None:
        self.device.open()
        self.tick()
        self.word()
        assert self.reading().quality is Quality.GOOD

    def unplug(self) -> None:
        self.path.unlink(missing_ok=True)
        self.tick()

    def replug(self) -> None:
        """A new panel: its file is there, and nothing proves yet that anybody writes it."""
        self.controls = Controls(self._plan)
        self._energised_before = self.device.counters["orders_energised"]

    def show(self, *, closed: bool) -> None:
        self.word(("heal", "estop"), *([] if closed else [("press", "estop")]))

    def break_down(self) -> None:
        self.word(("break", "estop"))

    def babble(self) -> None:
        new = self.path.with_suffix(".bad")
        new.write_bytes(b"\x11\x22\x33")
        new.replace(self.path)
        self.tick()

    def speak(self, *, energised: bool) -> None:
        """Its relay is so, whatever it was told."""
        force = "weld_a" if energised else "cut_a"
        told_so = self.device._coils["relay_a"] is energised
        self.word(("heal", "relay_a"), *([] if told_so else [(force, "relay_a")]))

    def await_order(self, *, energise: bool) -> None:
        assert self.device.counters["orders"] > self._orders_seen
        assert self.device._coils["relay_a"] is energise
        self._orders_seen = self.device.counters["orders"]

    def energised_orders(self) -> int:
        return self.device.counters["orders_energised"] - self._energised_before

    def release(self) -> None:
        """End of the test."""
        self.device.close()
