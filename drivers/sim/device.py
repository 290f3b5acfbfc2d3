"""The simulated device: contacts, quantities and relays that a script and a person's panel act on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from agent.core.readings import Reading
from drivers.base import Host
from drivers.registry import Wanted
from drivers.sim import panel
from drivers.sim.state import SimState, act

NS_PER_S = 1_000_000_000


class Sim:
    """Every simulated entry of one module's plan that shares a panel."""

    def __init__(self, path: str, inputs: Sequence[Wanted], outputs: Sequence[Wanted], host: Host) -> None:
        self.name = f"sim {path}".rstrip()
        self.counters = {"acts": 0, "panel_read": 0, "panel_bad": 0}
        self._host = host
        self._panel = Path(path) if _panel(inputs, outputs) else None
        self._stamp = (0, 0)
        self._opened_ns: int | None = None
        self._closed = False
        self._states = {wanted.name: SimState(value=_number(wanted)) for wanted in (*inputs, *outputs)}
        self._quantities = {wanted.name for wanted in inputs if wanted.settings.get("quantity")}
        self._inputs = {wanted.name for wanted in inputs}
        self._relays = {wanted.name: False for wanted in outputs}
        self._script = sorted(
            (float(line["at_s"]), wanted.name, str(line["do"]), float(line["value"]))
            for wanted in (*inputs, *outputs)
            for line in cast("Sequence[Mapping[str, Any]]", wanted.settings.get("script", ()))
        )

    def open(self) -> None:
        if not self._closed and self._opened_ns is None:
            self._opened_ns = self._host.now_ns()

    def tick(self, now_ns: int) -> None:
        if self._closed or self._opened_ns is None:
            return
        before = dict(self._states)
        self._play(now_ns)
        self._look()
        if self._states != before:
            self._host.changed()

    def reading(self, input_name: str, now_ns: int) -> Reading:
        if input_name not in self._inputs:
            raise KeyError(input_name)
        state = self._states[input_name]
        taken_ns = now_ns if self._opened_ns is not None else 0
        if self._opened_ns is None or self._closed:
            state = replace(state, silent=True)
        if input_name in self._quantities:
            return Reading(state.value, taken_ns, state.quality, detail="simulated")
        first, second = state.contacts
        return Reading(first, taken_ns, state.quality, second, "simulated")

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        known = self._relays[output_name]
        if not self._closed and not self._states[output_name].jammed and energise != known:
            self._relays[output_name] = energise

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        closed = self._relays[output_name]
        return None if self._closed or self._states[output_name].silent else closed

    def close(self) -> None:
        """A jammed relay stays where it is, as a real one would."""
        if self._closed:
            return
        for name, state in self._states.items():
            if name in self._relays and not state.jammed:
                self._relays[name] = False
        self._closed = True

    def _play(self, now_ns: int) -> None:
        """What the script has come to by now."""
        elapsed_s = (now_ns - (self._opened_ns or now_ns)) / NS_PER_S
        while self._script and self._script[0][0] <= elapsed_s:
            _, name, word, value = self._script.pop(0)
            self._states[name] = act(self._states[name], word, value)
            self.counters["acts"] += 1

    def _look(self) -> None:
        """The panel's file, when it was replaced. A file that cannot be used changes nothing and is told."""
        if self._panel is None:
            return
        found = panel.stamp(self._panel)
        if found in (self._stamp, (0, 0)):
            return
        self._stamp = found
        try:
            told = panel.read(self._panel)
        except (OSError, ValueError) as error:
            self.counters["panel_bad"] += 1
            self._host.bad_input(self.name, f"panel: {error}")
            return
        self.counters["panel_read"] += 1
        self._states.update({name: state for name, state in told.items() if name in self._states})


def _panel(inputs: Sequence[Wanted], outputs: Sequence[Wanted]) -> bool:
    return any(wanted.settings.get("panel") for wanted in (*inputs, *outputs))


def _number(wanted: Wanted) -> float:
    return float(cast("float", wanted.settings.get("value", 0.0)))
