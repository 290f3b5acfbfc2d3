"""Two real nodes whose plugs were swapped: PROTOCOL 4's frames do not say from which node they are."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agent.core.readings import Quality, Reading
from drivers.registry import Wanted, check_settings
from drivers.serial_node.codec import NodeFrame
from drivers.serial_node.device import SerialNode, build
from hil.node_control import NodeProcess
from tests.drivers.hosts import DEADLINE_S, FakeHost
from tests.drivers.sysfs import Sysfs, number_of

SERIAL = {"a": "A5069RR4", "b": "A5069XYZ"}
TURN_MS = 5


class LiveHost(FakeHost):
    """The module's side with the machine's own clock: the nodes are processes with theirs."""

    def now_ns(self) -> int:
        return time.monotonic_ns()


class Cabinet:
    """Nodes `a` (estop, bumper) and `b` (nothing but its relay) on two ports, and a device on each port."""

    def __init__(self, folder: Path, nodes: Mapping[str, NodeProcess], *, with_numbers: bool) -> None:
        self.host = LiveHost()
        self.nodes = nodes
        self.ports = {name: folder / f"port_{name}" for name in nodes}
        self.sysfs = Sysfs(folder / "sys")
        self.plug({"a": "a", "b": "b"})
        self.devices = {name: self._device(name, with_numbers=with_numbers) for name in nodes}

    def plug(self, nodes: Mapping[str, str]) -> None:
        """Which node is at which port. The lines hang up and come back, as plugs that are pulled do."""
        for name, node in nodes.items():
            self.nodes[node].control.unplug()
            self.ports[name].unlink(missing_ok=True)
        for name, node in nodes.items():
            self.nodes[node].control.plug()
            self.ports[name].symlink_to(self.nodes[node].link)
            self.sysfs.adapter(number_of(self.ports[name].stat().st_rdev), f"1-{node}", SERIAL[node])

    def turn_until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not true():
            assert time.monotonic() < end, "the condition did not come true"
            self.host.turn(TURN_MS)
            for device in self.devices.values():
                device.tick(self.host.now_ns())

    def reading(self, name: str) -> Reading:
        return self.devices["a"].reading(name, self.host.now_ns())

    def quality(self, name: str) -> Quality:
        return self.reading(name).quality

    def frame(self, name: str) -> NodeFrame | None:
        """What came in last at a port; None before anything has."""
        return self.devices[name]._frame

    def is_safe(self, name: str) -> bool:
        reading = self.reading(name)
        return reading.quality is Quality.GOOD and reading.value is True and reading.second is True

    def _device(self, name: str, *, with_numbers: bool) -> SerialNode:
        number = {"usb_serial": SERIAL[name]} if with_numbers else {}
        port = {"port": str(self.ports[name]), **number}
        inputs = {"estop": 0, "bumper": 1} if name == "a" else {}
        return build(
            str(self.ports[name]),
            [
                Wanted(key, check_settings("serial_node", "input", {**port, "bit": inputs[key]}))
                for key in inputs
            ],
            [Wanted(f"relay_{name}", check_settings("serial_node", "output", port))],
            self.host,
            self.sysfs.root,
        )


@pytest.fixture
def cabinet(run_dir: Path, request: pytest.FixtureRequest) -> Iterator[Cabinet]:
    """`request.param`: whether the plan gives the serial numbers."""
    folders = {name: run_dir / name for name in "ab"}
    for folder in folders.values():
        folder.mkdir()
    with (
        NodeProcess(folders["a"], "estop,bumper") as node_a,
        NodeProcess(folders["b"], "spare") as node_b,
    ):
        made = Cabinet(run_dir, {"a": node_a, "b": node_b}, with_numbers=request.param)
        for device in made.devices.values():
            device.open()
        made.turn_until(lambda: made.is_safe("estop") and made.is_safe("bumper"))
        yield made
        for device in made.devices.values():
            device.close()


@pytest.mark.parametrize("cabinet", [True], indirect=True, ids=["numbers"])
def test_with_their_numbers_both_are_refused_and_no_relay_is_energised(cabinet: Cabinet) -> None:
    cabinet.plug({"a": "b", "b": "a"})
    heard = _heard(cabinet)
    cabinet.turn_until(lambda: all(_strangers(cabinet, name) >= 3 for name in "ab"))
    for name in ("estop", "bumper"):
        reading = cabinet.reading(name)
        assert (reading.value, reading.second, reading.quality) == (None, None, Quality.FAULT)
        assert reading.detail == "another device: usb_serial must be 'A5069RR4', is 'A5069XYZ'"
    for name in "ab":
        device = cabinet.devices[name]
        device.order(f"relay_{name}", True, cabinet.host.now_ns())
        assert device.readback(f"relay_{name}", cabinet.host.now_ns()) is None
    before = {name: _strangers(cabinet, name) for name in "ab"}
    cabinet.turn_until(lambda: all(_strangers(cabinet, name) > before[name] for name in "ab"))
    assert not any(node.control.state().relay for node in cabinet.nodes.values())
    assert _heard(cabinet) == heard, "not a byte went to the wrong one"
    cabinet.plug({"a": "a", "b": "b"})
    cabinet.turn_until(lambda: cabinet.is_safe("estop") and cabinet.is_safe("bumper"))


@pytest.mark.parametrize("cabinet", [False], indirect=True, ids=["no numbers"])
def test_without_numbers_only_an_input_that_the_other_node_has_not_opens(cabinet: Cabinet) -> None:
    """The limit that README and SAFETY name: why two nodes need `usb_serial`, or names by id."""
    cabinet.plug({"a": "b", "b": "a"})
    cabinet.turn_until(lambda: cabinet.reading("bumper").value is False)
    cabinet.nodes["a"].control.press("estop")
    # Once the press has come in at the other port, this one has had its time to show it.
    cabinet.turn_until(lambda: (frame := cabinet.frame("b")) is not None and not frame.channel_a & 1)
    read: list[Reading] = []

    def is_good() -> bool:
        read.append(cabinet.reading("estop"))  # one look: between two a busy machine lets it go stale
        return read[-1].quality is Quality.GOOD

    cabinet.turn_until(is_good)
    assert read[-1].value is True


def _heard(cabinet: Cabinet) -> dict[str, int]:
    """Bytes that each node has had from whoever is at its line."""
    return {name: node.control.state().counters["bytes_heard"] for name, node in cabinet.nodes.items()}


def _strangers(cabinet: Cabinet, name: str) -> int:
    return cabinet.devices[name].counters["strangers"]
