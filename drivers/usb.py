"""What the kernel says of the USB device behind a character device, from sysfs.

A serial port's name says where something is plugged in, or only in which order the kernel met it. Which thing
it is, the thing itself says: by the serial number in its USB descriptors.
"""

import os
from pathlib import Path
from typing import Final

SYSFS: Final = Path("/sys")
SERIAL_MOST: Final = 126
"""Characters of a USB string descriptor (USB 2.0, 9.6.7: 255 bytes, UTF-16)."""
_SHOWN: Final = 36
"""Characters of a number that words repeat: two of them and what is around them fit a reading's detail."""


def serial_number(device: int, sysfs: Path = SYSFS) -> str | None:
    """The serial number of the USB device behind `device` (an `st_rdev`); raises nothing.

    None when it has none, when it is no USB device, or when sysfs does not know it.
    """
    root = os.path.realpath(sysfs)
    link = f"{root}/dev/char/{os.major(device)}:{os.minor(device)}"
    folder = Path(os.path.realpath(link))
    while folder.is_relative_to(root) and str(folder) != root:
        # A device has this file, its interfaces have not. Further up are hubs, with numbers of their own.
        if (folder / "idVendor").exists():
            return _read(folder / "serial")
        folder = folder.parent
    return None


def number_at(path: str, sysfs: Path = SYSFS) -> str | None:
    """The same of what is at a path now; None also when nothing is there."""
    try:
        return serial_number(Path(path).stat().st_rdev, sysfs)
    except OSError:
        return None


def mismatch(expected: str, found: str | None) -> str:
    """In at most 100 characters: what is wrong with a device that has another number, or none."""
    return f"must be {_shown(expected)}, {'there is none' if found is None else f'is {_shown(found)}'}"


def _read(path: Path) -> str | None:
    try:
        words = path.read_text(encoding="utf-8", errors="replace").strip("\n")
    except OSError:
        return None
    return words[:SERIAL_MOST] or None


def _shown(number: str) -> str:
    return repr(number if len(number) <= _SHOWN else f"{number[: _SHOWN - 1]}…")
