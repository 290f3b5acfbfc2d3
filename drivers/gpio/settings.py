"""Settings of a GPIO line in the plan (PROTOCOL 8). Imported only when a plan is checked."""

from pydantic import BaseModel, ConfigDict, Field


class InputSettings(BaseModel):
    """One line, high = closed (safe)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    chip: str = Field(
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Path of the GPIO chip.",
        json_schema_extra={"format": "a path of 1 to 255 characters"},
    )
    line: int = Field(ge=0, le=1023, description="Offset of the line on its chip.")


class OutputSettings(InputSettings):
    """One line, high = energised: a controller that dies or is reset leaves it low."""
