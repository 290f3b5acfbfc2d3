"""The ordered responses and what each one means for the run permit.

Choosing between demands is `max`: a response further down takes precedence (DESIGN, "State machine";
terms: ISO 13850, IEC 60204-1 stop categories, IEC 61800-5-2).
"""

from dataclasses import dataclass
from enum import Enum, IntEnum


class Response(IntEnum):
    """What a cause demands; the number is the permit's `response` byte (PROTOCOL 1)."""

    NONE = 0
    WARN = 1
    RESTRICT = 2
    """SLS: safely limited speed."""
    HOLD = 3
    """SS2, stop category 2: controlled stop, power kept (暂停)."""
    SAFE_MODE = 4
    """SS1-t, stop category 1: controlled stop, then power removed (安全模式)."""
    EMERGENCY_STOP = 5
    """STO, stop category 0: power removed at once (急停)."""
    SUSPEND = 6
    """Out of use until the department has re-evaluated the robot (暂停使用, clause 5.7(a))."""
    RETIRE = 7
    """Out of use for good (终止使用)."""

    @property
    def label(self) -> str:
        """The word used in plans, messages and metrics: `safe_mode`."""
        return self.name.lower()

    @property
    def stops(self) -> bool:
        """True when the robot may not move (generate, transmit) under this response."""
        return self >= Response.HOLD


class Deadline(Enum):
    """How one of the permit's two deadlines is kept under a response."""

    RENEWED = "renewed"
    """Pushed ahead at every turn of the loop."""
    RUN_OUT = "run_out"
    """Fixed at the moment of the trip plus ss1, and not renewed."""
    WITHDRAWN = "withdrawn"
    """Zero."""


@dataclass(frozen=True, slots=True)
class PermitRule:
    """One row of DESIGN's permit table."""

    motion: Deadline
    power: Deadline
    restricted: bool
    """True: speed is limited to the plan's `restricted_speed_permille`."""


_RUN = PermitRule(Deadline.RENEWED, Deadline.RENEWED, restricted=False)
_OFF = PermitRule(Deadline.WITHDRAWN, Deadline.WITHDRAWN, restricted=False)

PERMIT_RULES: dict[Response, PermitRule] = {
    Response.NONE: _RUN,
    Response.WARN: _RUN,
    Response.RESTRICT: PermitRule(Deadline.RENEWED, Deadline.RENEWED, restricted=True),
    Response.HOLD: PermitRule(Deadline.WITHDRAWN, Deadline.RENEWED, restricted=False),
    Response.SAFE_MODE: PermitRule(Deadline.WITHDRAWN, Deadline.RUN_OUT, restricted=False),
    Response.EMERGENCY_STOP: _OFF,
    Response.SUSPEND: _OFF,
    Response.RETIRE: _OFF,
}


def by_label(label: str) -> Response:
    """The response a plan or a message names; raises KeyError for any other word."""
    return _BY_LABEL[label]


_BY_LABEL = {response.label: response for response in Response}
