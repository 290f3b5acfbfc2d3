"""What ends a witness, and what it finds wrong in a line.

* ConsoleError
    * WitnessStateError    its folder cannot be used
    * EntryError           a line that is no entry of this format; never reaches a person by itself
"""

from pathlib import Path

from console.errors import ConsoleError


class WitnessStateError(ConsoleError):
    """The folder, or one file of it, cannot be used. `path`; `reason`: in words."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class EntryError(ConsoleError):
    """A line that is no entry. `reason`: which rule it breaks, never in the line's own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
