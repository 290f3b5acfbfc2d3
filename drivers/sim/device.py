"""The simulated device: contacts, quantities and relays that a script and a person's panel act on.

The panel is the far end, and is believed as far as any other: from its second word on, until it is silent for
`stale_ms` or its file is gone. Without a panel the script is all there is, and whoever ticks hears it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from agent.core.readings import NEVER_READ, Quality, Reading
from drivers.base import Host
from drivers.registry import Wanted
from drivers.sim import panel
from drivers.sim.state import SimState, act

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
_COUNTERS: Final = ("acts", "panel_read", "panel_bad", "panel_lost", "orders", "orders_energised")


class Sim:
    """Every simulated entry of one module's plan that shares a panel.

    A relay moves with the tick after its order: a read-back is what it does, not what it was told.
    """

    def __init__(self, path: str, inputs: Sequence[Wanted], outputs: Sequence[Wanted], host: Host) -> None:
        self.name = f"sim {path}".rstrip()
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._host = host
        self._states = {wanted.name: SimState(value=_number(wanted)) for wanted in (*inputs, *outputs)}
        self._stale_ns = {wanted.name: _stale_ns(wanted) for wanted in (*inputs, *outputs)}
        self._inputs = {wanted.name for wanted in inputs}
        self._quantities = {wanted.name for wanted in inputs if wanted.settings.get("quantity")}
        self._coils = {wanted.name: False for wanted in outputs}
        self._relays = dict(self._coils)
        self._script = _script((*inputs, *outputs))
        # The far end.
        self._panel = Path(path) if _has_panel((*inputs, *outputs)) else None
        self._stamp = panel.GONE
        self._opened_ns: int | None = None
        self._heard_ns: int | None = None
        self._away = "not opened yet"
        self._closed = False

    def open(self) -> None:
        if self._closed or self._opened_ns is not None:
            return
        self._opened_ns = self._host.now_ns()
        self._away = "no panel"
        for name in self._coils:
            self._drive(name, energise=False)
        if self._panel is None:
            self._hear(self._opened_ns)

    def tick(self, now_ns: int) -> None:
        if self._closed or self._opened_ns is None:
            return
        before = self._visible(now_ns)
        self._play(now_ns)
        self._look(now_ns)
        for name, coil in self._coils.items():
            self._relays[name] = self._states[name].relay(coil=coil, before=self._relays[name])
        if self._visible(now_ns) != before:
            self._host.changed()

    def close(self) -> None:
        """A jammed relay stays where it is, as a real one would."""
        if self._closed:
            return
        for name in self._coils:
            self._drive(name, energise=False)
        self._closed = True
        self._away = "closed"

    # What the far end says ----------------------------------------------------------------------------------

    def reading(self, input_name: str, now_ns: int) -> Reading:
        if input_name not in self._inputs:
            raise KeyError(input_name)
        if self._heard_ns is None:
            return replace(NEVER_READ, detail=self._away)
        state = self._states[input_name]
        quality, detail = self._quality(input_name, state, now_ns)
        if input_name in self._quantities:
            return Reading(state.value, self._heard_ns, quality, detail=detail)
        first, second = state.contacts
        return Reading(first, self._heard_ns, quality, second, detail)

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        closed = self._relays[output_name]
        quality, _ = self._quality(output_name, self._states[output_name], now_ns)
        return closed if quality is Quality.GOOD else None

    def _quality(self, name: str, state: SimState, now_ns: int) -> tuple[Quality, str]:
        if state.faulty:  # silence mends nothing
            return Quality.FAULT, "broken, by script or panel"
        if not self._is_fresh(now_ns, self._stale_ns[name]):
            return Quality.STALE, self._away or "the panel is silent"
        return (Quality.STALE, "silent, by script or panel") if state.silent else (Quality.GOOD, "")

    def _is_fresh(self, now_ns: int, stale_ns: int) -> bool:
        return not self._away and self._heard_ns is not None and now_ns - self._heard_ns < stale_ns

    def _visible(self, now_ns: int) -> tuple[object, ...]:
        """Whatever a reading or a read-back shows, its age apart."""
        fresh = self._is_fresh(now_ns, min(self._stale_ns.values()))
        return fresh, dict(self._states), dict(self._relays)

    def _play(self, now_ns: int) -> None:
        """What the script has come to by now."""
        elapsed_s = (now_ns - (self._opened_ns or now_ns)) / NS_PER_S
        while self._script and self._script[0][0] <= elapsed_s:
            _, name, word, value = self._script.pop(0)
            self._states[name] = act(self._states[name], word, value)
            self.counters["acts"] += 1

    def _look(self, now_ns: int) -> None:
        """The panel's file, when it was replaced."""
        if self._panel is None:
            self._hear(now_ns)
            return
        before, self._stamp = self._stamp, panel.stamp(self._panel)
        if self._stamp == panel.GONE:
            self._lose(before)
        elif before == panel.GONE:
            self._away = "the panel has not spoken yet"  # what lies there may be a dead one's
        elif self._stamp != before:
            self._read(self._panel, now_ns)

    def _read(self, path: Path, now_ns: int) -> None:
        """A word of the panel. One that cannot be used changes nothing, refreshes nothing, and is told."""
        try:
            told = panel.read(path)
        except (OSError, ValueError) as error:
            self.counters["panel_bad"] += 1
            self._host.bad_input(self.name, f"panel: {error}")
            return
        self.counters["panel_read"] += 1
        self._states.update({name: state for name, state in told.items() if name in self._states})
        self._hear(now_ns)

    def _hear(self, now_ns: int) -> None:
        self._heard_ns = now_ns
        self._away = ""

    def _lose(self, before: tuple[int, int]) -> None:
        """The panel is away. What was lost comes back de-energised, as every device does."""
        self._away = "no panel"
        if before == panel.GONE:
            return
        self.counters["panel_lost"] += 1
        for name in self._coils:
            self._drive(name, energise=False)

    # What it is told ----------------------------------------------------------------------------------------

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        if energise != self._coils[output_name] and not self._closed:
            self._drive(output_name, energise=energise)

    def _drive(self, name: str, *, energise: bool) -> None:
        self._coils[name] = energise
        self.counters["orders"] += 1
        self.counters["orders_energised"] += energise


def _has_panel(entries: Sequence[Wanted]) -> bool:
    return any(wanted.settings.get("panel") for wanted in entries)


def _script(entries: Sequence[Wanted]) -> list[tuple[float, str, str, float]]:
    """(seconds after the start, name, word, value) of every line, in the order of their times."""
    return sorted(
        (float(line["at_s"]), wanted.name, str(line["do"]), float(line["value"]))
        for wanted in entries
        for line in cast("Sequence[Mapping[str, Any]]", wanted.settings.get("script", ()))
    )


def _number(wanted: Wanted) -> float:
    return float(cast("float", wanted.settings.get("value", 0.0)))


def _stale_ns(wanted: Wanted) -> int:
    return cast("int", wanted.settings["stale_ms"]) * NS_PER_MS
