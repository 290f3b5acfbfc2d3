"""Settings of GPIO lines in the plan (PROTOCOL 8). Imported only when a plan is checked.

No setting can make a broken wire look safe: the bias is named by the side it pulls to, and there is no name
for the other side.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

LINE_MOST = 1023
NONE = -1
"""No second line: TOML has no word for nothing."""

Chip = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Path of the GPIO chip; a udev link stays good where the kernel numbers chips anew.",
        json_schema_extra={"format": "a path of 1 to 255 characters"},
    ),
]
Label = Annotated[
    str,
    Field(
        max_length=31,
        pattern=r"^[ -~]*$",
        description="What the chip calls itself (gpiodetect), so that another one at its path is refused; "
        "empty: not looked at. All entries of one chip share it.",
        json_schema_extra={"format": "a text of at most 31 characters"},
    ),
]
Line = Annotated[int, Field(ge=0, le=LINE_MOST, description="Offset of the line on its chip.")]
StaleMs = Annotated[
    int,
    Field(
        ge=30,
        le=1000,
        description="A level that could not be read for so long is not known any more, milliseconds.",
    ),
]


def _is(words: str) -> JsonDict:
    """How the value is described where its JSON schema has no range."""
    return {"format": words}


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class InputSettings(_Settings):
    """A normally closed contact on one or two lines; active = closed (safe)."""

    chip: Chip
    label: Label = ""
    line: Line
    line_b: int = Field(
        default=NONE,
        ge=NONE,
        le=LINE_MOST,
        description="The second channel's line; -1: none, and a short to the closed level is never seen.",
        json_schema_extra=_is(f"another line than `line`, up to {LINE_MOST}, or {NONE}"),
    )
    active_low: bool = Field(
        default=False,
        description="The contact switches to ground: low = closed. False: to the supply, high = closed.",
        json_schema_extra=_is("true or false"),
    )
    active_low_b: bool = Field(
        default=False,
        description="The same for `line_b`. One of each makes a short between the channels a discrepancy.",
        json_schema_extra=_is("true or false"),
    )
    bias: Literal["to_open", "disabled", "as_is"] = Field(
        default="to_open",
        description="Resistor in the chip: it pulls to open; it is off, since the board has one; or "
        "it is as the board's own description sets it. A chip that has none ignores this.",
    )
    debounce_us: int = Field(
        default=0,
        ge=0,
        le=20_000,
        description="The kernel tells a change once it has lasted so long, microseconds. The stop waits as "
        "long, and for the kernel's own tick and work queue where the chip cannot do it. `debounce_ms` of "
        "the input delays the closing alone.",
    )
    stale_ms: StaleMs = 100

    @field_validator("line_b")
    @classmethod
    def _another(cls, value: int, info: ValidationInfo) -> int:
        return _other_line(value, info)


class OutputSettings(_Settings):
    """A relay drive on one line; active (high) = energised: a controller that is reset leaves it low."""

    chip: Chip
    label: Label = ""
    line: Line
    mode: Literal["level", "pulse"] = Field(
        default="level",
        description="level: high while energised. pulse: toggles while energised, for an external watchdog "
        "relay that drops out when the line stands still at either level.",
    )
    toggle_ms: int = Field(
        default=10,
        ge=10,
        le=500,
        description="In mode pulse, time from one toggle to the next, milliseconds; "
        "rounded up to the channel's own turns (10 ms in reflex, 20 ms in remote).",
    )
    readback_line: int = Field(
        default=NONE,
        ge=NONE,
        le=LINE_MOST,
        validate_default=True,
        description="Line of the relay's mirror contact; -1: the level of `line` itself is read back, which "
        "proves the drive and not the relay. Mode pulse needs one: a level that toggles proves nothing.",
        json_schema_extra=_is(f"another line than `line`, up to {LINE_MOST}, or {NONE} in mode level"),
    )
    readback_active_low: bool = Field(
        default=False,
        description="The mirror contact is low while the relay is energised. False: high.",
        json_schema_extra=_is("true or false"),
    )
    readback_bias: Literal["to_energised", "disabled", "as_is"] = Field(
        default="to_energised",
        description="As `bias` of an input. A mirror contact's broken wire must not read as de-energised.",
    )
    readback_debounce_us: int = Field(
        default=5_000,
        ge=0,
        le=50_000,
        description="As `debounce_us` of an input. A mirror contact that bounces looks like a relay that "
        "opened by itself.",
    )
    stale_ms: StaleMs = 100

    @field_validator("readback_line")
    @classmethod
    def _mirror(cls, value: int, info: ValidationInfo) -> int:
        if value == NONE and info.data.get("mode") == "pulse":
            raise ValueError("mode pulse needs a mirror contact")
        return _other_line(value, info)


def _other_line(value: int, info: ValidationInfo) -> int:
    if value == info.data.get("line"):
        raise ValueError("is `line` itself")
    return value
