"""What can go wrong while a log is read.

* AuditError     a folder, file or key that cannot be used at all (`path`, `reason`)
* FormatError    bytes that are not what the format says (`reason`); no other error leaves a decoder
"""

from pathlib import Path

from agent.errors import WardenError


class AuditError(WardenError):
    """What was asked for cannot be done. `path`: the folder or file; `reason`: why, in words."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["AuditError"], tuple[Path, str]]:
        """Comes whole out of a worker process; an exception's own way would hand over the message alone."""
        return type(self), (self.path, self.reason)


class FormatError(WardenError):
    """Bytes that are not a header, frame, record, entry or tombstone. `reason`: the rule they break."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
