"""Settings of the wireless e-stop in the plan (PROTOCOL 4). Imported only when a plan is checked."""

from pydantic import BaseModel, ConfigDict, Field


class InputSettings(BaseModel):
    """The stop of one controller: its own inputs and its paired remote together. 115200 baud, 8N1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    port: str = Field(
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Path of the serial port; a udev link (/dev/serial/by-id/...) survives replugging.",
        json_schema_extra={"format": "a path of 1 to 255 characters"},
    )
    # A heartbeat comes every 50 ms; the module may see it a tick of 10 ms late.
    stale_ms: int = Field(
        default=250,
        ge=70,
        le=1000,
        description="Silence after which nothing is known any more, milliseconds.",
    )
