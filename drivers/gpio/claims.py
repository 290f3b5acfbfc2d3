"""Which lines of a chip an entry takes, and how; `wiring` asks the kernel for exactly these."""

from collections.abc import Iterator
from typing import TypeAlias

from drivers.claims import Claim, Part
from drivers.table import INPUT, Settings

_NO_LINE = -1
_KEYS = ("", "line_b")
Wire: TypeAlias = tuple[object, ...]


def claims(role: str, settings: Settings) -> tuple[Claim, ...]:
    """Of checked settings: a contact's one or two lines; a relay's own, and that of its mirror contact."""
    if role == INPUT:
        # The two channels are one request: whoever shares one line shares both, polarity and all.
        use = tuple(_contact(settings))
        return tuple(
            Claim(f"line {wire[0]}", Part.INPUT, use, key) for key, wire in zip(_KEYS, use, strict=False)
        )
    drive = Claim(f"line {settings['line']}", Part.DRIVE)
    if settings["readback_line"] == _NO_LINE:
        return (drive,)
    wire = _wire(settings, "readback_line", "readback_active_low", "readback_")
    # An input may show a relay's mirror contact, if it asks for the line as the relay does.
    return drive, Claim(f"line {wire[0]}", Part.MIRROR, (wire,), "readback_line")


def _contact(settings: Settings) -> Iterator[Wire]:
    yield _wire(settings, "line", "active_low")
    if settings["line_b"] != _NO_LINE:
        yield _wire(settings, "line_b", "active_low_b")


def _wire(settings: Settings, line: str, polarity: str, prefix: str = "") -> Wire:
    """(offset, active low, bias, debounce) as the kernel is asked for it."""
    debounce_us = settings[f"{prefix}debounce_us"]
    return settings[line], settings[polarity], settings[f"{prefix}bias"], debounce_us
