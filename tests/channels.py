"""One real channel (`agent.channel`) with fakes around it: time, disk, relay and wire are the test's.

`kill` is kill -9: the permit stays as it is, what was not on the disk is gone.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest

from agent import latch
from agent.channel import Channel, Sample
from agent.core.machine import Demand, Outcome
from agent.core.plan import OutputSpec, Plan
from agent.events import EventSink
from agent.metrics import Meter
from agent.outputs import Outputs
from agent.permit import Permit, PermitReader, PermitWriter
from tests.core.factories import NOW_NS, output_spec


class Sink:
    """What was recorded: (kind, body)."""

    connected = True

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def emit(self, kind: str, body: dict[str, object], *, stream: str = "safety") -> None:
        self.events.append((kind, body))


class Counts(Meter):
    """Durations are left out: one end of them is the real clock's, the other the test's."""

    def observe(self, name: str, seconds: float, *labels: str) -> None:
        """Nothing."""


class Relay:
    """An output device that obeys at once, unless the test sets `says`."""

    name = "relay"
    counters: Mapping[str, int] = MappingProxyType({})

    def __init__(self) -> None:
        self.orders: dict[str, bool] = {}
        self.says: Callable[[bool], bool | None] = lambda energised: energised

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        self.orders[output_name] = energise

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        return self.says(self.orders.get(output_name, False))


class Disk:
    """In place of the saving thread: writes when the test says so."""

    works = True

    def __init__(
        self, loop: object, path: Path, *, on_saved: Callable[[int], None], on_failed: Callable[[str], None]
    ) -> None:
        self._path = path
        self._on_saved = on_saved
        self._ticket = 0
        self._pending: bytes | None = None

    def save(self, data: bytes) -> int:
        self._ticket += 1
        self._pending = data
        return self._ticket

    def write(self) -> None:
        """What was handed over is on the disk."""
        if self._pending is not None and self.works:
            latch.save(self._path, self._pending)
            self._pending = None
            self._on_saved(self._ticket)

    def close(self) -> None:
        self.write()


@contextmanager
def disks() -> Iterator[None]:
    """Every channel made inside has a `Disk`; nothing waits for a real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latch, "Saver", Disk)
        patch.setattr(os, "fsync", lambda _: None)
        yield


class Life:
    """One life of a channel, from its start to its end."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        folder: Path,
        *,
        now_ns: int = NOW_NS,
        sample: Callable[[int], Sample] | None = None,
        tell_peer: Callable[[], object] = lambda: None,
        specs: dict[str, OutputSpec] | None = None,
    ) -> None:
        specs = {"relay": output_spec(name)} if specs is None else specs
        self.relay = Relay()
        self.seen = Sample()
        self.sink = Sink()
        self.outcomes: list[Outcome] = []
        self.outputs = Outputs(specs, cast("Any", dict.fromkeys(specs, self.relay)), now_ns)
        self.permit = PermitWriter(folder / f"{name}.permit")
        self.channel = Channel(
            cast("Any", None),
            name,
            plan,
            permit=self.permit,
            outputs=self.outputs,
            latch_path=folder / f"{name}.latch",
            sink=cast("EventSink", self.sink),
            meter=Counts(),
            sample=sample or (lambda _: self.seen),
            tell_peer=tell_peer,
            tell_people=lambda outcome, _: self.outcomes.append(outcome),
            now_ns=now_ns,
        )
        self.disk = cast("Disk", self.channel._saver)
        self._reader = PermitReader(folder / f"{name}.permit")

    def read(self) -> Permit:
        """The permit as a robot reads it."""
        return self._reader.read()

    def turn(self, now_ns: int = NOW_NS, **active: Demand) -> Outcome:
        """One turn in which these causes are true; then the disk writes."""
        self.seen = Sample(active)
        outcome = self.channel.turn(now_ns)
        self.disk.write()
        return outcome

    def kill(self) -> None:
        """Kill -9."""
        self.permit._map.close()
        os.close(self.permit._fd)
        self._reader.close()
