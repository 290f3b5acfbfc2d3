"""What an input driver yields: a value, the time it was taken, and whether it may be believed.

A driver never decides; it only says what it saw and when it does not know (DESIGN, "Drivers").
"""

from dataclasses import dataclass
from enum import IntEnum


class Quality(IntEnum):
    """How far a reading may be believed. The worst one of several wins."""

    GOOD = 0
    """The device said so within its time."""
    STALE = 1
    """The device has not spoken for longer than its time: nothing is known now."""
    FAULT = 2
    """The device spoke, and said or showed that it is broken."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One input at one moment.

    `value`: for a contact, True = closed (safe); for a quantity, a finite number in the unit the plan
    names; None when nothing was ever read. `second`: the second channel of a two-channel contact,
    None where there is only one. `taken_ns`: CLOCK_MONOTONIC, nanoseconds, when the device's frame or
    edge was received. `detail`: a few words for people, at most 120 characters, never parsed.
    """

    value: bool | float | None
    taken_ns: int
    quality: Quality
    second: bool | None = None
    detail: str = ""


NEVER_READ = Reading(value=None, taken_ns=0, quality=Quality.STALE, detail="never read")
