"""Settings of contacts and relays on modem lines (PROTOCOL 4). Imported only when a plan is checked."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Path of the serial port; a udev link (/dev/serial/by-id/...) survives replugging.",
        json_schema_extra={"format": "a path of 1 to 255 characters"},
    ),
]
# A line test leaves the last reading standing for its pulse, 20 ms of settling and two ticks of 10 ms. With
# the longest pulse that is 90 ms, so that no setting here makes a sound test look like silence.
StaleMs = Annotated[
    int,
    Field(
        ge=100,
        le=1000,
        description="Time without an answer after which nothing is known any more, milliseconds.",
    ),
]


class InputSettings(BaseModel):
    """A normally-closed two-channel contact: DTR to CTS and DTR to DSR."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    port: Port
    test_period_s: int = Field(
        default=10,
        ge=1,
        le=3600,
        description="How often the supply is switched off for the line test, seconds.",
    )
    test_pulse_ms: int = Field(
        default=8,
        ge=5,
        le=50,
        description="How long it is off, milliseconds; the first tick after it ends it. Longer than the port"
        " takes to tell of a change: a UART no time, a USB adapter up to 16.",
    )
    stale_ms: StaleMs = 100


class OutputSettings(BaseModel):
    """A relay driven by RTS, high = energised."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    port: Port
    readback: Literal["dcd", "ri", "none"] = Field(
        default="none",
        description="Line that a normally-open mirror contact of the relay connects to DTR; none: what the"
        " port says of its own RTS, which is less.",
    )
    stale_ms: StaleMs = 100
