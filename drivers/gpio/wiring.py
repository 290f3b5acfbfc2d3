"""From the plan's entries to the device of one chip: which lines are requested together, and how.

Each contact, each relay and each mirror contact is a request of its own, so that a line somebody else holds
takes nothing along but what it belongs to.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

import gpiod
from gpiod.line import Bias

from drivers.base import DriverError, Host
from drivers.gpio.device import COUNTERS, Contact, GpioChip
from drivers.gpio.hold import Hold
from drivers.gpio.lines import Lines, OpenChip, Wire
from drivers.gpio.relay import Relay
from drivers.gpio.sight import MS, Sight
from drivers.registry import Wanted

NO_LINE: Final = -1


def build(
    path: str,
    inputs: Sequence[Wanted],
    outputs: Sequence[Wanted],
    host: Host,
    open_chip: OpenChip = gpiod.Chip,
) -> GpioChip:
    """The device of one chip; see `registry.build_devices`, which has checked that its entries agree.

    Raises DriverError when one line is given out twice: only two inputs that use a line in the same way may
    share it.
    """
    counters = dict.fromkeys(COUNTERS, 0)
    label = _text([*inputs, *outputs][0], "label")
    holds = _Holds(path, lambda wires: Lines(path, label, wires, open_chip), counters)
    contacts = {
        wanted.name: Contact(holds.of(wanted, _contact(wanted)), _stale_ns(wanted)) for wanted in inputs
    }
    relays = {wanted.name: _relay(holds, wanted) for wanted in outputs}
    return GpioChip(path, holds=holds.all, inputs=contacts, outputs=relays, counters=counters, host=host)


class _Holds:
    """Every request of the device, each once."""

    def __init__(self, path: str, lines: Callable[[Sequence[Wire]], Lines], counters: dict[str, int]) -> None:
        self._path = path
        self._lines = lines
        self._counters = counters
        self._by_wires: dict[tuple[Wire, ...], Hold] = {}
        self._taken: dict[int, str] = {}
        self._mirrored: dict[int, str] = {}

    @property
    def all(self) -> Iterable[Hold]:
        return self._by_wires.values()

    def of(self, wanted: Wanted, wires: tuple[Wire, ...]) -> Hold:
        """The request of these wires, shared with inputs that ask for exactly the same."""
        found = self._by_wires.get(wires)
        if found is not None and not wires[0].output:
            return found
        for wire in wires:
            first = self._taken.setdefault(wire.offset, wanted.name)
            if first != wanted.name:
                raise self._twice(wire, first, wanted.name)
        offsets = [wire.offset for wire in wires]
        sight = Sight(offsets, self._counters, has_edges=not wires[0].output)
        hold = Hold(self._lines(wires), sight)
        self._by_wires[wires] = hold
        return hold

    def mirror_of(self, wanted: Wanted, wire: Wire) -> Hold:
        """The request of a mirror contact, which is one relay's alone; an input may show it too."""
        first = self._mirrored.setdefault(wire.offset, wanted.name)
        if first != wanted.name:
            raise self._twice(wire, first, wanted.name)
        return self.of(wanted, (wire,))

    def _twice(self, wire: Wire, first: str, second: str) -> DriverError:
        reason = f"is given one line in two ways by {first!r} and by {second!r}"
        return DriverError("gpio", f"{self._path} line {wire.offset}", reason)


def _contact(wanted: Wanted) -> tuple[Wire, ...]:
    first = _contact_wire(wanted, "line", "active_low")
    if _number(wanted, "line_b") == NO_LINE:
        return (first,)
    return (first, _contact_wire(wanted, "line_b", "active_low_b"))


def _contact_wire(wanted: Wanted, line: str, polarity: str) -> Wire:
    active_low = _flag(wanted, polarity)
    return Wire(
        offset=_number(wanted, line),
        active_low=active_low,
        bias=_bias(_text(wanted, "bias"), active_low=active_low),
        debounce_us=_number(wanted, "debounce_us"),
    )


def _relay(holds: _Holds, wanted: Wanted) -> Relay:
    hold = holds.of(wanted, (Wire(offset=_number(wanted, "line"), output=True),))
    has_mirror = _number(wanted, "readback_line") != NO_LINE
    toggles = _text(wanted, "mode") == "pulse"
    return Relay(
        hold,
        holds.mirror_of(wanted, _mirror_wire(wanted)) if has_mirror else hold,
        toggle_ns=_number(wanted, "toggle_ms") * MS if toggles else 0,
        stale_ns=_stale_ns(wanted),
    )


def _mirror_wire(wanted: Wanted) -> Wire:
    active_low = _flag(wanted, "readback_active_low")
    return Wire(
        offset=_number(wanted, "readback_line"),
        active_low=active_low,
        bias=_bias(_text(wanted, "readback_bias"), active_low=active_low),
        debounce_us=_number(wanted, "readback_debounce_us"),
    )


def _bias(word: str, *, active_low: bool) -> Bias:
    """What pulls a broken wire to the level that never permits anything."""
    high_is = {"to_open": active_low, "to_energised": not active_low}
    if word in high_is:
        return Bias.PULL_UP if high_is[word] else Bias.PULL_DOWN
    return {"disabled": Bias.DISABLED, "as_is": Bias.AS_IS}[word]


def _number(wanted: Wanted, key: str) -> int:
    """A setting that the settings model has made an int."""
    return cast("int", wanted.settings[key])


def _flag(wanted: Wanted, key: str) -> bool:
    """A setting that the settings model has made a bool."""
    return cast("bool", wanted.settings[key])


def _text(wanted: Wanted, key: str) -> str:
    """A setting that the settings model has made a str."""
    return cast("str", wanted.settings[key])


def _stale_ns(wanted: Wanted) -> int:
    return _number(wanted, "stale_ms") * MS
