"""Which node is behind the port: another one than the plan's, or one that cannot say, is never believed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.readings import Quality
from tests.drivers.serial_node.rig import NodeRig
from tests.drivers.sysfs import Sysfs, number_of

OURS = "A5069RR4"
OTHER = "A5069XYZ"


class UsbRig(NodeRig):
    """A node behind a USB adapter; the plan gives its serial number."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, usb_serial=OURS)
        self.sysfs = Sysfs(folder / "sys")
        self.plugged_in(OURS)

    @property
    def number(self) -> str:
        return number_of(self.link.stat().st_rdev)

    def plugged_in(self, serial: str | None) -> None:
        """What is at the port has this number."""
        self.sysfs.adapter(self.number, "1-2", serial)

    def swap(self, serial: str | None) -> None:
        """Another one is plugged in at the port; the device has looked at it."""
        self.unplug()
        self.replug()
        self.plugged_in(serial)
        self.host.tick(self.device, 3_000)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[UsbRig]:
    rig = UsbRig(tmp_path)
    yield rig
    rig.release()


def test_the_right_one_is_spoken_with(rig: UsbRig) -> None:
    rig.start()
    assert (rig.reading().value, rig.reading().quality) == (True, Quality.GOOD)
    assert rig.device.counters["strangers"] == 0
    assert rig.host.bad == []


@pytest.mark.parametrize(
    ("serial", "words"),
    [
        (OTHER, f"usb_serial must be '{OURS}', is '{OTHER}'"),
        (None, f"usb_serial must be '{OURS}', there is none"),
        (OURS.lower(), f"usb_serial must be '{OURS}', is '{OURS.lower()}'"),
    ],
)
def test_another_one_at_the_start_is_a_fault_and_hears_nothing(
    rig: UsbRig, serial: str | None, words: str
) -> None:
    rig.plugged_in(serial)
    rig.device.open()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.end.write(rig.frame())
    rig.host.tick(rig.device, 10_000)
    for name in ("estop", "bumper"):
        reading = rig.reading(name)
        assert (reading.value, reading.second, reading.quality) == (None, None, Quality.FAULT)
        assert reading.detail == f"another device: {words}"
    assert rig.device.readback("relay_a", rig.host.time_ns) is None
    assert rig.host.bad == [(f"serial_node {rig.link}", f"another device: {words}")], "said once"
    assert rig.host.changes == 1
    assert not rig.host.watched
    assert rig.end.listen(wait_ms=1) == b""
    assert 4 < rig.device.counters["strangers"] < 10, "tried again, ever less often"


def test_another_one_after_a_replug_is_a_fault_and_its_relay_is_not_energised(rig: UsbRig) -> None:
    rig.start()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.await_order(energise=True)
    before = rig.host.changes
    rig.swap(OTHER)
    assert (rig.reading().value, rig.reading().quality) == (None, Quality.FAULT)
    assert rig.host.changes == before + 2, "that the port was lost, and that a stranger is there"
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.host.tick(rig.device, 3_000)
    assert rig.end.listen(wait_ms=1) == b""


def test_the_right_one_back_again_is_believed_by_its_words_and_comes_back_de_energised(rig: UsbRig) -> None:
    rig.start()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.swap(OTHER)
    rig.plugged_in(OURS)
    rig.host.tick(rig.device, 3_000)
    assert rig.reading().quality is Quality.STALE
    rig.talk(3)
    assert (rig.reading().value, rig.reading().quality) == (True, Quality.GOOD)
    assert rig.energised_orders() == 0


def test_a_stranger_that_is_unplugged_is_a_port_that_is_away(rig: UsbRig) -> None:
    rig.plugged_in(OTHER)
    rig.device.open()
    rig.host.tick(rig.device, 100)
    rig.end.unplug()
    rig.far = None
    rig.host.tick(rig.device, 3_000)
    assert rig.reading().quality is Quality.STALE
    assert rig.reading().detail == "port away: No such file or directory"


def test_without_a_number_in_the_plan_nobody_looks(tmp_path: Path) -> None:
    rig = NodeRig(tmp_path)
    rig.start()
    assert not (tmp_path / "sys").exists()
    rig.release()
