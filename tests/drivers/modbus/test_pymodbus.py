"""Against pymodbus's own servers on the real clock: an honest other end that nobody here wrote."""

import asyncio
import os
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from agent.core.plan import DeviceSpec
from agent.core.readings import Quality
from drivers.base import Device
from drivers.registry import build_devices, check_settings
from tests.waiting import wait_until

Line: TypeAlias = Callable[[], AbstractAsyncContextManager[dict[str, object]]]

INPUTS: Mapping[str, Mapping[str, object]] = {
    "uint16": {"register": 0},
    "int16": {"register": 1, "type": "int16"},
    "uint32": {"register": 2, "type": "uint32"},
    "int32": {"register": 4, "type": "int32", "table": "input"},
    "float32": {"register": 6, "type": "float32", "table": "input", "scale": 2.0, "offset": 1.0},
    "swapped": {"register": 8, "type": "int32", "word_order": "little"},
}
EXPECTED = {
    "uint16": 65534,
    "int16": -2,
    "uint32": 4294967294,
    "int32": -70000,
    "float32": 4.0,
    "swapped": 65536,
}
CONTACTS: Mapping[str, Mapping[str, object]] = {
    "estop": {"table": "discrete", "register": 1, "channels": 2},
    "bumper": {"table": "coil", "register": 9},
}


class LoopHost:
    """The module's side on a real loop and the real clock, ticking its device while it waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.bad: list[str] = []

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        self._loop.add_reader(fd, on_readable)

    def unwatch(self, fd: int) -> None:
        self._loop.remove_reader(fd)

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def changed(self) -> None:
        """The test looks by itself."""

    def bad_input(self, source: str, reason: str) -> None:
        self.bad.append(reason)

    async def until(self, device: Device, condition: Callable[[], bool]) -> None:
        def true_after_tick() -> bool:
            device.tick(self.now_ns())
            return condition()

        await wait_until(true_after_tick)


def units() -> SimDevice:
    """Unit 3: the registers and bits that the inputs above read."""
    coils = [SimData(0, values=[False] * 9 + [True], datatype=DataType.BITS)]
    discrete = [SimData(0, values=[False, True, False], datatype=DataType.BITS)]
    holding = [
        SimData(0, values=[65534, 65534], datatype=DataType.UINT16),
        SimData(2, values=4294967294, datatype=DataType.UINT32),
        SimData(8, values=[0, 1], datatype=DataType.UINT16),
    ]
    inputs = [
        SimData(4, values=-70000, datatype=DataType.INT32),
        SimData(6, values=1.5, datatype=DataType.FLOAT32),
    ]
    return SimDevice(3, simdata=(coils, discrete, holding, inputs))


@asynccontextmanager
async def over_tcp() -> AsyncIterator[dict[str, object]]:
    server = ModbusTcpServer(units(), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        yield {"host": "127.0.0.1", "tcp_port": listener_port(server)}
    finally:
        await end(server)


@asynccontextmanager
async def over_rtu() -> AsyncIterator[dict[str, object]]:
    with cable() as (ours, theirs):
        server = ModbusSerialServer(units(), port=str(theirs), baudrate=19200)
        await server.serve_forever(background=True)
        try:
            yield {"port": str(ours)}
        finally:
            await end(server)


def listener_port(server: ModbusTcpServer) -> int:
    listener = server.transport
    assert isinstance(listener, asyncio.Server)
    return int(listener.sockets[0].getsockname()[1])


async def end(server: ModbusTcpServer | ModbusSerialServer) -> None:
    await server.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def cable() -> Iterator[tuple[Path, Path]]:
    """Two serial ports that are one line."""
    loop = asyncio.get_running_loop()
    ends = [os.openpty() for _ in range(2)]
    for (master, slave), (other, _) in zip(ends, reversed(ends), strict=True):
        tty.setraw(slave)
        loop.add_reader(master, _pass_on, master, other)
    try:
        yield Path(os.ttyname(ends[0][1])), Path(os.ttyname(ends[1][1]))
    finally:
        for master, slave in ends:
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)


def _pass_on(source: int, target: int) -> None:
    os.write(target, os.read(source, 4096))


def build(host: LoopHost, place: Mapping[str, object], **inputs: Mapping[str, object]) -> Device:
    specs = {
        name: DeviceSpec("modbus", check_settings("modbus", "input", {**place, "unit": 3, **settings}))
        for name, settings in inputs.items()
    }
    (device,), _, _ = build_devices(specs, {}, host)
    return device


def qualities(device: Device, host: LoopHost, *names: str) -> set[Quality]:
    return {device.reading(name, host.now_ns()).quality for name in names}


@pytest.mark.parametrize("line", [over_tcp, over_rtu])
async def test_every_type_of_number_and_contact(line: Line) -> None:
    host = LoopHost(asyncio.get_running_loop())
    quantities = {name: {"quantity": "any_unit", "stale_ms": 5000, **rest} for name, rest in INPUTS.items()}
    contacts = {name: {"stale_ms": 5000, **rest} for name, rest in CONTACTS.items()}
    async with line() as place:
        device = build(host, place, **quantities, **contacts)
        device.open()
        names = (*quantities, *contacts)
        await host.until(device, lambda: qualities(device, host, *names) == {Quality.GOOD})
        readings = {name: device.reading(name, host.now_ns()) for name in names}
        device.close()
    assert {name: readings[name].value for name in quantities} == EXPECTED
    assert (readings["estop"].value, readings["estop"].second) == (True, False)
    assert (readings["bumper"].value, readings["bumper"].second) == (True, None)
    assert host.bad == []


@pytest.mark.parametrize("line", [over_tcp, over_rtu])
async def test_a_register_that_is_not_there_is_a_fault(line: Line) -> None:
    host = LoopHost(asyncio.get_running_loop())
    async with line() as place:
        device = build(host, place, range={"register": 500, "quantity": "range_m"})
        device.open()
        await host.until(device, lambda: qualities(device, host, "range") == {Quality.FAULT})
        detail = device.reading("range", host.now_ns()).detail
        device.close()
    assert detail == f"unit 3 register 500: exception {ExcCodes.ILLEGAL_ADDRESS} (illegal data address)"


async def test_a_server_that_ends_and_comes_back() -> None:
    host = LoopHost(asyncio.get_running_loop())
    async with over_tcp() as place:
        device = build(host, place, range={"register": 0, "quantity": "range_m"})
        device.open()
        await host.until(device, lambda: qualities(device, host, "range") == {Quality.GOOD})
    await host.until(device, lambda: qualities(device, host, "range") == {Quality.STALE})
    server = ModbusTcpServer(units(), address=("127.0.0.1", int(str(place["tcp_port"]))))
    await server.serve_forever(background=True)
    await host.until(device, lambda: qualities(device, host, "range") == {Quality.GOOD})
    device.close()
    await end(server)


async def test_a_unit_that_knows_probes_is_read_after_one() -> None:
    host = LoopHost(asyncio.get_running_loop())
    async with over_rtu() as place:
        device = build(host, place, range={"register": 0, "quantity": "range_m"})
        device.open()
        await host.until(device, lambda: device.counters["answers_good"] > 3)
        device.close()
    assert device.counters["probes_answered"] >= 1
    assert device.counters["answers_wrong_echo"] == 0
