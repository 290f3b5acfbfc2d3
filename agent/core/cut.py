"""The shortest way from an open contact to a stop: what needs no memory, no time and no second look.

A contact that the plan answers with a stop at once (`is = "open"`, no `for_ms`) is cut on before the turn is
taken, so that the robot's permit is void while the rest is still being worked out. The turn that follows
decides everything; a test holds that it never decides for less (tests/core/test_cut.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.causes import row_of
from agent.core.plan import Plan
from agent.core.readings import Quality, Reading
from agent.core.responses import Response


@dataclass(frozen=True, slots=True)
class Cut:
    """One contact and the response that its opening demands at once."""

    input: str
    response: Response


def cuts_of(plan: Plan) -> tuple[Cut, ...]:
    """The cuts of a plan, the worst first."""
    found = [
        Cut(condition.input, row_of(plan.rows, condition.cause).response)
        for condition in plan.conditions
        if condition.test == "open" and not condition.for_ns and plan.inputs[condition.input].contact
    ]
    stops = [cut for cut in found if cut.response.stops]
    return tuple(sorted(stops, key=lambda cut: cut.response, reverse=True))


def worst_cut(cuts: tuple[Cut, ...], readings: Mapping[str, Reading]) -> Response | None:
    """The worst response that these readings demand at once, None if none does."""
    for cut in cuts:
        reading = readings[cut.input]
        known = reading.quality is Quality.GOOD and isinstance(reading.value, bool)
        if known and (reading.value is False or reading.second is False):
            return cut.response
    return None
