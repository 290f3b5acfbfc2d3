"""The devices of one channel: which ones it opens, and what it does with them in its loop."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from agent.core.plan import DeviceSpec, Plan
from agent.core.readings import Quality, Reading
from agent.devices import Devices, wanted
from agent.shell import Shell
from drivers import registry
from drivers.base import Host
from tests.core.factories import CLOSED, NOW_NS, contact_spec, output_spec, small_plan
from tests.waiting import wait_until


def node(role: str, **settings: object) -> DeviceSpec:
    """As a checked plan has it."""
    return DeviceSpec("serial_node", registry.check_settings("serial_node", role, settings))


def plan_in(run_dir: Path) -> Plan:
    return small_plan(
        run_dir=str(run_dir),
        inputs={"estop": contact_spec(device=node("input", port="/nowhere/a", bit=0))},
        outputs={"relay_a": output_spec("reflex"), "relay_b": output_spec("remote")},
    )


def test_only_reflex_touches_sensors_and_each_channel_its_own_outputs(run_dir: Path) -> None:
    plan = plan_in(run_dir)
    assert [set(names) for names in wanted(plan, "reflex")] == [{"estop"}, {"relay_a"}]
    assert [set(names) for names in wanted(plan, "remote")] == [set(), {"relay_b"}]
    assert [set(names) for names in wanted(plan, "recorder")] == [set(), set()]


class Thing:
    """A device that notes what is done with it."""

    name = "thing /dev/thing"
    counters: Mapping[str, int] = MappingProxyType({"frames": 3})

    def __init__(self, host: Host) -> None:
        self.host = host
        self.done: list[object] = []

    def open(self) -> None:
        self.done.append("open")

    def tick(self, now_ns: int) -> None:
        self.done.append(now_ns)

    def reading(self, input_name: str, now_ns: int) -> Reading:
        return CLOSED

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        self.done.append((output_name, energise))

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        return None

    def close(self) -> None:
        self.done.append("close")


class Channel:
    """What a module has of its devices."""

    def __init__(self, run_dir: Path) -> None:
        self.shell = Shell(plan_in(run_dir), "reflex", asyncio.get_running_loop())
        self.changes = 0
        self.devices = Devices(self.shell, self._changed)

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def one(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Channel:
    def build(inputs: Mapping[str, object], outputs: Mapping[str, object], host: Host) -> Any:  # noqa: ANN401
        thing = Thing(host)
        return [thing], dict.fromkeys(inputs, thing), dict.fromkeys(outputs, thing)

    monkeypatch.setattr(registry, "build_devices", build)
    return Channel(run_dir)


def thing_of(channel: Channel) -> Thing:
    (thing,) = channel.devices._all
    assert isinstance(thing, Thing)
    return thing


async def test_they_are_opened_ticked_read_and_closed_together(one: Channel) -> None:
    one.devices.open()
    one.devices.tick(NOW_NS)
    one.devices.close()
    assert thing_of(one).done == ["open", NOW_NS, "close"]
    assert one.devices.readings(NOW_NS) == {"estop": CLOSED}
    assert one.devices.by_output.keys() == {"relay_a"}
    assert one.devices.names == ("thing /dev/thing",)
    assert one.devices.counters == {"thing /dev/thing": {"frames": 3}}


async def test_a_descriptor_is_watched_until_it_is_not(one: Channel) -> None:
    read, write = os.pipe()
    heard: list[bytes] = []
    one.devices.watch(read, lambda: heard.append(os.read(read, 10)))
    os.write(write, b"x")
    await wait_until(lambda: heard == [b"x"])
    one.devices.unwatch(read)
    os.write(write, b"y")
    for _ in range(3):
        await asyncio.sleep(0)
    assert heard == [b"x"]
    os.close(read)
    os.close(write)


async def test_a_change_is_the_modules_at_once_and_bad_input_is_counted_by_name(one: Channel) -> None:
    host = thing_of(one).host
    host.changed()
    assert one.changes == 1
    host.bad_input("thing /dev/thing", "a frame torn")
    counts: Any = one.shell.meter.snapshot()["bad_input_total"]
    assert counts == [[["thing /dev/thing"], 1]]
    first = host.now_ns()
    assert host.now_ns() >= first > 0


async def test_what_the_robot_tells_is_asked_for_by_key(run_dir: Path) -> None:
    shell = Shell(small_plan(run_dir=str(run_dir)), "remote", asyncio.get_running_loop())
    told = {"speed_mps": (0.5, NOW_NS)}
    assert Devices(shell, lambda: None, told.get).telemetry("speed_mps") == (0.5, NOW_NS)
    assert Devices(shell, lambda: None).telemetry("speed_mps") is None


async def test_a_port_that_is_away_is_known_to_be_unknown(run_dir: Path) -> None:
    """With the real driver: nothing raises, and what is not known is not good."""
    plan = small_plan(
        run_dir=str(run_dir),
        inputs={"estop": contact_spec(device=node("input", port="/nowhere/a", bit=0))},
        outputs={"relay_a": replace(output_spec(), device=node("output", port="/nowhere/b"))},
    )
    shell = Shell(plan, "reflex", asyncio.get_running_loop())
    devices = Devices(shell, lambda: None)
    devices.open()
    now_ns = devices.now_ns()
    devices.tick(now_ns)
    assert devices.readings(now_ns)["estop"].quality is not Quality.GOOD
    relay = devices.by_output["relay_a"]
    relay.order("relay_a", True, now_ns)
    assert relay.readback("relay_a", now_ns) is None
    devices.close()
    devices.close()
