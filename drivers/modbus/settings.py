"""Settings of a Modbus input in the plan (PROTOCOL 8). Imported only when a plan is checked."""

from ipaddress import ip_address
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

RTU_UNITS = range(1, 248)
"""MODBUS over Serial Line 2.2; 0 is a broadcast, which nobody answers, and 248 to 255 are reserved."""
BIT_TABLES = frozenset({"coil", "discrete"})
WIDE_TYPES = frozenset({"int32", "uint32", "float32"})


class InputSettings(BaseModel):
    """One or two registers read as a quantity, or one or two bits read as a contact."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    port: str = Field(
        default="",
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="Path of the serial port (RTU); or else `host`.",
        json_schema_extra={"format": "a path of 1 to 255 characters"},
    )
    baud: Literal[9600, 19200, 38400, 57600, 115200] = Field(
        default=19200, description="Line speed, bits per second; all entries on one port share it."
    )
    parity: Literal["none", "even", "odd"] = Field(
        default="none", description="Of each byte on the line; all entries on one port share it."
    )
    host: str = Field(
        default="",
        description="Address of the sensor or gateway (TCP). A name would have to be waited for.",
        json_schema_extra={"format": "an IPv4 or IPv6 address, and only where `port` is not given"},
    )
    tcp_port: int = Field(default=502, ge=1, le=65535, description="Port at `host`.")
    unit: int = Field(
        ge=0,
        le=255,
        description="Device id of the sensor on the line or behind `host`.",
        json_schema_extra={"format": "a whole number from 1 to 247 (0 to 255 at a `host`)"},
    )
    table: Literal["holding", "input", "coil", "discrete"] = Field(
        default="holding",
        description="Registers, or with coil and discrete bits: a contact, 1 = closed (safe).",
    )
    # Not `register`: that is a method of every pydantic model.
    register_number: int = Field(
        alias="register",
        ge=0,
        le=65535,
        description="Number of the register or bit, counted from 0; of the first where there are two.",
        json_schema_extra={"format": "a whole number from 0 to 65535, the last one where two are read 65534"},
    )
    type: Literal["int16", "uint16", "int32", "uint32", "float32"] = Field(
        default="uint16",
        description="What the registers hold; 32 bits are two registers.",
        json_schema_extra={"format": "one of int16, uint16, int32, uint32, float32; left out for bits"},
    )
    word_order: Literal["big", "little"] = Field(
        default="big", description="Of two registers: big has the high one first."
    )
    channels: Literal[1, 2] = Field(
        default=1,
        description="Contacts of the device: with 2 the bit after the first is the second one.",
        json_schema_extra={"format": "1, or 2 where bits are read"},
    )
    scale: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="What one count of the register is worth, in the unit of `quantity`.",
        json_schema_extra={"format": "a number over 0, at most 1000000"},
    )
    offset: float = Field(
        default=0.0,
        ge=-1e9,
        le=1e9,
        allow_inf_nan=False,
        description="Added after scaling, in the unit of `quantity`.",
        json_schema_extra={"format": "a number from -1000000000 to 1000000000"},
    )
    quantity: str = Field(
        default="",
        pattern=r"^([a-z][a-z0-9_]{0,63})?$",
        description="What is measured, its unit at the end: range_m. Left out for a contact.",
        json_schema_extra={
            "format": "a name of small letters, digits and _ ending in its unit; none for bits"
        },
    )
    poll_ms: int = Field(default=50, ge=10, le=5000, description="Asked so often, milliseconds.")
    timeout_ms: int = Field(
        default=50, ge=5, le=1000, description="An answer later than this is none, milliseconds."
    )
    late_ms: int = Field(
        default=1000,
        ge=50,
        le=60_000,
        description="For a unit on a serial line that ignores function 8: after this no late answer "
        "comes any more, milliseconds; the longest of a port's entries counts.",
        json_schema_extra={"format": "a whole number from 50 to 60000, not under timeout_ms"},
    )
    stale_ms: int = Field(
        default=200,
        ge=20,
        le=20_000,
        description="Silence after which nothing is known, milliseconds.",
        json_schema_extra={"format": "a whole number from 20 to 20000, not under poll_ms + timeout_ms"},
    )

    @field_validator("host")
    @classmethod
    def _numeric(cls, host: str) -> str:
        if host and "%" not in host:
            ip_address(host)
        elif host:
            raise ValueError("a scope is not part of the address")
        return host

    @model_validator(mode="before")
    @classmethod
    def _is_somewhere(cls, settings: dict[str, object]) -> dict[str, object]:
        if "port" not in settings and not settings.get("host"):
            raise _misfit("port", "", missing=True)
        return settings

    @model_validator(mode="after")
    def _fit_together(self) -> "InputSettings":
        """What one key alone cannot show; the first that does not fit is named."""
        bits = self.table in BIT_TABLES
        if not self.port and not self.host:
            raise _misfit("port", self.port)
        if not bits and not self.quantity:
            raise _misfit("quantity", "", missing="quantity" not in self.model_fields_set)
        two = self.channels == 2 or self.type in WIDE_TYPES
        wrong = {
            "host": bool(self.port and self.host),
            "unit": bool(self.port) and self.unit not in RTU_UNITS,
            "type": bits and self.type != "uint16",
            "channels": not bits and self.channels == 2,
            "quantity": bits and bool(self.quantity),
            "register": two and self.register_number == 65535,
            "late_ms": self.late_ms < self.timeout_ms,
            "stale_ms": self.stale_ms < self.poll_ms + self.timeout_ms,
        }
        for key, is_wrong in wrong.items():
            if is_wrong:
                raise _misfit(key, self.model_dump(by_alias=True)[key])
        return self

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A contact has no `quantity`: that is how the two are told apart once the settings are data."""
        plain: dict[str, Any] = handler(self)
        if not self.quantity:
            del plain["quantity"]
        return plain


def _misfit(key: str, value: object, *, missing: bool = False) -> ValidationError:
    """As if the key's own field had refused it."""
    kind = "missing" if missing else PydanticCustomError("misfit", "does not fit the others")
    error = InitErrorDetails(type=kind, loc=(key,), input=value)
    return ValidationError.from_exception_data("InputSettings", [error])
