"""The host's figures, from this host."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from agent.metrics import BY_NAME
from agent.monitor.host import MAX_SENSORS, SAMPLE_EVERY_NS, Host


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def test_a_sample_fills_every_host_row_of_the_table(tmp_path: Path) -> None:
    table = Host({"state": tmp_path, "missing": tmp_path / "no"}, time.monotonic_ns).sample()
    assert set(table) == {name for name in BY_NAME if name.startswith("host_")} | {"clock_synchronised"}
    for name, series in table.items():
        assert all(len(labels) == len(BY_NAME[name].labels) for labels in series)
    assert set(table["host_disk_free_bytes"]) == set(table["host_disk_size_bytes"]) == {("state",)}
    assert 0 < table["host_boot_timestamp_seconds"][()] <= time.time()  # type: ignore[operator]
    assert {("user",), ("system",), ("idle",)} <= set(table["host_cpu_seconds_total"])
    assert set(table["host_memory_bytes"]) == {("size",), ("available",), ("swap_size",), ("swap_free",)}
    assert ("guest",) not in table["host_cpu_seconds_total"]  # counted in `user` already


def test_it_is_sampled_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: Iterator[float] = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(psutil, "getloadavg", lambda: (next(loads), 0.0, 0.0))
    clock = Clock()
    host = Host({}, clock)
    seen = []
    for passed_ns in (0, SAMPLE_EVERY_NS - 1, 1, SAMPLE_EVERY_NS):
        clock.now_ns += passed_ns
        seen.append(host.sample()["host_load1"][()])
    assert seen == [1.0, 1.0, 2.0, 3.0]


def test_temperatures_are_named_finite_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    core = [SimpleNamespace(label=f"Core {i}", current=40.0 + i) for i in range(100)]
    broken = [SimpleNamespace(label="", current=float("nan")), SimpleNamespace(label="", current=51.5)]
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"acpi": broken, "coretemp": core})
    readings = Host({}, time.monotonic_ns).sample()["host_temperature_celsius"]
    assert readings[("acpi_1",)] == 51.5
    assert ("acpi_0",) not in readings
    assert readings[("coretemp_Core 3",)] == 43.0
    assert len(readings) == MAX_SENSORS - 1
