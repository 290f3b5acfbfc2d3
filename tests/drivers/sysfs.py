"""A folder laid out as the kernel's sysfs, with USB serial ports in it."""

import os
from pathlib import Path


class Sysfs:
    """`root`: what stands for /sys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._devices = root / "devices" / "pci0000:00" / "0000:00:14.0" / "usb1"
        (root / "dev" / "char").mkdir(parents=True)
        self._usb_device(self._devices, serial="0000:00:14.0")  # a root hub has a number, as real ones do

    def adapter(self, number: str, place: str, serial: str | None, *, acm: bool = False) -> None:
        """The character device `number` ("188:0") is a port of the USB device at `place` ("1-2").

        `serial`: None for a device without one. `acm`: a microcontroller's own port, else a converter's.
        """
        self.unplug(number)
        device = self._devices / place
        self._usb_device(device, serial=serial)
        interface = device / f"{place}:1.0"
        port = interface / "tty" / "ttyACM0" if acm else interface / "ttyUSB0" / "tty" / "ttyUSB0"
        port.mkdir(parents=True, exist_ok=True)
        (interface / "bInterfaceNumber").write_text("00\n")
        (self.root / "dev" / "char" / number).symlink_to(port)

    def terminal(self, number: str) -> None:
        """The character device is no USB device: a UART of the board."""
        self.unplug(number)
        port = self.root / "devices" / "platform" / "serial8250" / "tty" / "ttyS0"
        port.mkdir(parents=True, exist_ok=True)
        (self.root / "dev" / "char" / number).symlink_to(port)

    def unplug(self, number: str) -> None:
        """The kernel knows nothing of it."""
        (self.root / "dev" / "char" / number).unlink(missing_ok=True)

    @staticmethod
    def _usb_device(folder: Path, serial: str | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "idVendor").write_text("0403\n")
        (folder / "idProduct").write_text("6001\n")
        (folder / "serial").unlink(missing_ok=True)
        if serial is not None:
            (folder / "serial").write_text(f"{serial}\n", encoding="utf-8")


def number_of(device: int) -> str:
    """As sysfs names an `st_rdev`."""
    return f"{os.major(device)}:{os.minor(device)}"
