"""One input behind a Modbus line: what to ask for, what the answer is worth, what is known now. Pure."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from agent.core.readings import NEVER_READ, Quality, Reading
from drivers.modbus.codec import (
    COILS,
    DISCRETE_INPUTS,
    HOLDING_REGISTERS,
    INPUT_REGISTERS,
    Answer,
    Read,
)
from drivers.table import Settings

MS: Final = 1_000_000

TABLES: Final = {
    "holding": HOLDING_REGISTERS,
    "input": INPUT_REGISTERS,
    "coil": COILS,
    "discrete": DISCRETE_INPUTS,
}
FORMATS: Final = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f"}
"""Name in the plan -> `struct`; a register holds two bytes, big-endian (clause 4.2)."""

BUSY: Final = frozenset({5, 6, 10, 11})
"""Exceptions that say nothing about the register: acknowledged and still at work, busy, no way through the
gateway, nobody behind it (clause 7). They are silence."""
EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, still at work",
    6: "busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "nobody answers the gateway",
}


@dataclass(frozen=True, slots=True)
class Scaling:
    """From registers to the plan's unit: `value * scale + offset`."""

    kind: str
    little_words: bool
    scale: float
    offset: float

    def number(self, words: Sequence[int]) -> float | None:
        """The quantity; None when the device has none to tell (a float that is no finite number)."""
        ordered = words[::-1] if self.little_words else words
        raw: float
        (raw,) = struct.unpack(f">{FORMATS[self.kind]}", struct.pack(f">{len(words)}H", *ordered))
        value = raw * self.scale + self.offset
        return value if math.isfinite(value) else None


class Point:
    """What is known of one input. Judged when it is asked for, so silence needs no event."""

    def __init__(self, name: str, settings: Settings) -> None:
        """`settings` as `InputSettings` makes them; without `quantity` it is a contact."""
        self.name = name
        self.scaling = _scaling(settings) if "quantity" in settings else None
        self.read = _read(settings)
        self.poll_ns = _ms(settings, "poll_ms")
        self.timeout_ns = _ms(settings, "timeout_ms")
        self._stale_ns = _ms(settings, "stale_ms")
        self._value: bool | float | None = None
        self._second: bool | None = None
        self._taken_ns = 0
        self._of_now = False
        self._fault = ""
        self._silence = "not asked yet"

    def reading(self, now_ns: int) -> Reading:
        """`Device.reading`."""
        quality, detail = self._quality(now_ns)
        if self._value is None:
            return Reading(None, NEVER_READ.taken_ns, quality, detail=detail)
        return Reading(self._value, self._taken_ns, quality, self._second, detail)

    def take(self, answer: Answer, now_ns: int) -> str:
        """Take what the unit said to this point's own `read`; what was wrong with it, "" for a good value."""
        if answer.exception in BUSY:
            self._silence = f"unit {self.read.unit}: {_named(answer.exception)}"
            return self._silence
        trouble = self._refusal(answer.exception) if answer.exception else self._believe(answer.words, now_ns)
        self._fault = trouble
        return trouble

    def miss(self, reason: str) -> None:
        """There was no answer."""
        self._silence = reason

    def lose(self, reason: str) -> None:
        """The line is gone: nothing is of now any more."""
        self._of_now = False
        self._silence = reason

    def _believe(self, words: Sequence[int], now_ns: int) -> str:
        value: bool | float | None
        second = None
        if self.scaling is not None:
            value = self.scaling.number(words)
        else:
            value, second = bool(words[0]), bool(words[1]) if len(words) > 1 else None
        if value is None:
            return f"unit {self.read.unit} has no number in register {self.read.address}"
        self._value, self._second = value, second
        self._taken_ns, self._of_now = now_ns, True
        self._silence = "no answer since"
        return ""

    def _refusal(self, exception: int) -> str:
        return f"unit {self.read.unit} register {self.read.address}: {_named(exception)}"

    def _quality(self, now_ns: int) -> tuple[Quality, str]:
        fresh = self._of_now and now_ns - self._taken_ns < self._stale_ns
        if self._fault:
            # Silence mends nothing: what was last said to be broken stays so.
            return Quality.FAULT, self._fault
        return (Quality.GOOD, "") if fresh else (Quality.STALE, self._silence[:120])


def _scaling(settings: Settings) -> Scaling:
    return Scaling(
        kind=str(settings["type"]),
        little_words=settings["word_order"] == "little",
        scale=cast("float", settings["scale"]),
        offset=cast("float", settings["offset"]),
    )


def _read(settings: Settings) -> Read:
    kind = str(settings["type"])
    count = struct.calcsize(FORMATS[kind]) // 2 if "quantity" in settings else _number(settings, "channels")
    return Read(
        unit=_number(settings, "unit"),
        function=TABLES[str(settings["table"])],
        address=_number(settings, "register"),
        count=count,
    )


def _named(exception: int) -> str:
    words = EXCEPTIONS.get(exception)
    return f"exception {exception}" + (f" ({words})" if words else "")


def _number(settings: Settings, key: str) -> int:
    """A setting that the settings model has made an int."""
    return cast("int", settings[key])


def _ms(settings: Settings, key: str) -> int:
    return _number(settings, key) * MS
