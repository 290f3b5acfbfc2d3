"""Settings of an input that the robot tells over its link (PROTOCOL 2). For the check of a plan only."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer


class InputSettings(BaseModel):
    """One key of the robot's telemetry, read as a quantity or as a contact."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: str = Field(
        pattern=r"^[A-Za-z0-9_.:-]{1,64}$",
        description="Key of the beat's `telemetry`.",
        json_schema_extra={"format": "1 to 64 letters, digits and _.:-"},
    )
    quantity: str = Field(
        default="",
        pattern=r"^([a-z][a-z0-9_]{0,63})?$",
        description="What is measured, its unit at the end: battery_pct. None for a contact: true = safe.",
        json_schema_extra={"format": "a name of small letters, digits and _, its unit at the end"},
    )
    stale_ms: int = Field(
        default=200, ge=20, le=60_000, description="Silence after which nothing is known, milliseconds."
    )

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A contact has no `quantity`: that is how the two are told apart once the settings are data."""
        plain: dict[str, Any] = handler(self)
        if not self.quantity:
            del plain["quantity"]
        return plain
