"""Settings of simulated devices in the plan. Imported only when a plan is checked."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from drivers.sim.state import ACTS

Word = Literal[
    "press", "release", "cut_a", "cut_b", "weld_a", "weld_b", "silence", "break", "vary", "jam", "heal"
]


class ScriptLine(BaseModel):
    """One act of a script, so long after the device was opened."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    at_s: float = Field(ge=0, le=86_400, allow_inf_nan=False)
    do: Word
    value: float = Field(default=0.0, allow_inf_nan=False)


class Settings(BaseModel):
    """One simulated input or output."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    panel: str | None = Field(
        default=None,
        description="Path of the panel's file; `warden run --simulate` sets it.",
        json_schema_extra={"format": "a path, or nothing"},
    )
    script: Annotated[list[ScriptLine], Field(max_length=1000)] = Field(
        default_factory=list,
        description=f"What happens by itself: at_s (seconds after the start), do ({', '.join(ACTS)}), value.",
        json_schema_extra={"format": "a list of tables {at_s, do, value}, at most 1000"},
    )
    stale_ms: int = Field(
        default=1000,
        ge=20,
        le=10_000,
        description="Silence of the panel after which nothing is known any more, milliseconds; without a"
        " panel, time without a tick.",
    )


class InputSettings(Settings):
    """A two-channel contact, or a quantity where `quantity` is given."""

    quantity: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
        description="What is measured, its unit at the end: range_m. Without it: a contact.",
        json_schema_extra={"format": "a name of small letters, digits and _, its unit at the end"},
    )
    value: float = Field(
        default=0.0,
        allow_inf_nan=False,
        description="What a quantity reads at the start, in its unit.",
        json_schema_extra={"format": "a number"},
    )


class OutputSettings(Settings):
    """A relay that does what it is told, unless it is jammed."""

    relay: int = Field(default=0, ge=0, le=63, description="Which relay: one takes one output.")
