"""Settings of the safety node in the plan (PROTOCOL 4 and 8). Imported only when a plan is checked."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from drivers.usb import SERIAL_MOST

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
# A node's frame is 22 bytes on the wire every 10 ms: 22 kbaud. Anything slower could not keep up.
Baud = Annotated[
    Literal[38400, 57600, 115200, 230400, 460800, 921600],
    Field(description="Line speed, bits per second, 8N1; all entries on one port share it."),
]
UsbSerial = Annotated[
    str,
    Field(
        max_length=SERIAL_MOST,
        pattern=r"^[ -~]*$",
        description="Serial number of the USB adapter or microcontroller behind the port, as sysfs tells it:"
        " another node at the port is refused. Empty: not looked at. All entries on one port share it.",
        json_schema_extra={"format": f"a text of at most {SERIAL_MOST} characters"},
    ),
]
StaleMs = Annotated[
    int,
    Field(ge=20, le=1000, description="Silence after which nothing is known any more, milliseconds."),
]


class OutputSettings(BaseModel):
    """The node's relay."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    port: Port
    baud: Baud = 115200
    usb_serial: UsbSerial = ""
    stale_ms: StaleMs = 50


class InputSettings(OutputSettings):
    """One two-channel contact of the node."""

    bit: int = Field(ge=0, le=15, description="Which contact: bit of `channel_a` and `channel_b`.")
