"""The one error of the monitoring module."""

from agent.errors import WardenError


class MonitorError(WardenError):
    """The endpoint cannot be served as it was set up.

    `subject`: the file or address. `reason`: what is wrong with it, for people.
    """

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"{subject}: {reason}")
        self.subject = subject
        self.reason = reason
