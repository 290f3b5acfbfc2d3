"""The host's own figures (psutil)."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import psutil

from agent.clock import clock_synchronised
from agent.monitor.tables import Table

SAMPLE_EVERY_NS: Final = 1_000_000_000
"""However often it is asked: reading /proc costs more than the figures change."""
MAX_SENSORS: Final = 32

_CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class Host:
    """One sample a second at most.

    `folders`: label -> folder whose file system is watched; one that does not exist has no series.
    `now_ns`: CLOCK_MONOTONIC.
    """

    def __init__(self, folders: Mapping[str, Path], now_ns: Callable[[], int]) -> None:
        self._folders = dict(folders)
        self._now_ns = now_ns
        self._taken_ns: int | None = None
        self._table: Table = {}

    def sample(self) -> Table:
        """The host's rows of the table of metrics, at most one second old."""
        now_ns = self._now_ns()
        if self._taken_ns is None or now_ns - self._taken_ns >= SAMPLE_EVERY_NS:
            self._taken_ns = now_ns
            self._table = {name: dict(series) for name, series in self._read()}
        return self._table

    def _read(self) -> Iterator[tuple[str, dict[tuple[str, ...], float]]]:
        yield "host_cpu_seconds_total", _cpu_seconds()
        for name, load in zip(("host_load1", "host_load5", "host_load15"), psutil.getloadavg(), strict=True):
            yield name, {(): load}
        yield "host_memory_bytes", _memory_bytes()
        yield from _disks(self._folders)
        yield "host_temperature_celsius", _temperatures()
        yield "host_boot_timestamp_seconds", {(): psutil.boot_time()}
        yield "clock_synchronised", {(): float(clock_synchronised())}


def _cpu_seconds() -> dict[tuple[str, ...], float]:
    """Guest time is left out: the kernel counts it in `user` and `nice` as well."""
    times = psutil.cpu_times()._asdict()
    return {(mode,): times[mode] for mode in _CPU_MODES if mode in times}


def _memory_bytes() -> dict[tuple[str, ...], float]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    kinds = {
        "size": memory.total,
        "available": memory.available,
        "swap_size": swap.total,
        "swap_free": swap.free,
    }
    return {(kind,): value for kind, value in kinds.items()}


def _disks(folders: Mapping[str, Path]) -> Iterator[tuple[str, dict[tuple[str, ...], float]]]:
    usages = {name: psutil.disk_usage(str(folder)) for name, folder in folders.items() if folder.is_dir()}
    yield "host_disk_size_bytes", {(name,): usage.total for name, usage in usages.items()}
    yield "host_disk_free_bytes", {(name,): usage.free for name, usage in usages.items()}


def _temperatures() -> dict[tuple[str, ...], float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # psutil warns of each sensor that refuses to be read
        chips = psutil.sensors_temperatures()
    readings = [
        (f"{chip}_{sensor.label or index}", sensor.current)
        for chip, sensors in chips.items()
        for index, sensor in enumerate(sensors)
    ]
    return {(name,): celsius for name, celsius in readings[:MAX_SENSORS] if math.isfinite(celsius)}
