"""Settings of a Modbus RTU sensor in the plan (PROTOCOL 8). Imported only when a plan is checked."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class InputSettings(BaseModel):
    """One holding register read as a quantity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    port: str = Field(
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Path of the serial port.",
        json_schema_extra={"format": "a path of 1 to 255 characters"},
    )
    baud: Literal[9600, 19200, 38400, 57600, 115200] = Field(
        default=19200, description="Line speed, bits per second; all entries on one port share it."
    )
    unit: int = Field(ge=1, le=247, description="Address of the sensor on the line.")
    # Not `register`: that is a method of every pydantic model.
    register_number: int = Field(
        alias="register", ge=0, le=65535, description="Number of the register, counted from 0."
    )
    scale: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="What one count of the register is worth, in the unit of `quantity`.",
        json_schema_extra={"format": "a number over 0, at most 1000000"},
    )
    quantity: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
        description="What is measured, its unit at the end: range_m.",
        json_schema_extra={"format": "a name of small letters, digits and _, its unit at the end"},
    )
    stale_ms: int = Field(
        default=200, ge=20, le=5000, description="Silence after which nothing is known, milliseconds."
    )
