"""The ordered responses, and what each means for the permit (DESIGN, "Run permit")."""

import pytest

from agent.core.responses import PERMIT_RULES, Deadline, PermitRule, Response, by_label

RENEWED, RUN_OUT, WITHDRAWN = Deadline.RENEWED, Deadline.RUN_OUT, Deadline.WITHDRAWN

DESIGN_TABLE = {
    Response.NONE: PermitRule(RENEWED, RENEWED, restricted=False),
    Response.WARN: PermitRule(RENEWED, RENEWED, restricted=False),
    Response.RESTRICT: PermitRule(RENEWED, RENEWED, restricted=True),
    Response.HOLD: PermitRule(WITHDRAWN, RENEWED, restricted=False),
    Response.SAFE_MODE: PermitRule(WITHDRAWN, RUN_OUT, restricted=False),
    Response.EMERGENCY_STOP: PermitRule(WITHDRAWN, WITHDRAWN, restricted=False),
    Response.SUSPEND: PermitRule(WITHDRAWN, WITHDRAWN, restricted=False),
    Response.RETIRE: PermitRule(WITHDRAWN, WITHDRAWN, restricted=False),
}


def test_the_numbers_are_those_of_the_permit() -> None:
    words = "none warn restrict hold safe_mode emergency_stop suspend retire".split()
    assert {r.label: int(r) for r in Response} == {word: number for number, word in enumerate(words)}


def test_every_response_has_the_rule_of_the_design() -> None:
    assert PERMIT_RULES == DESIGN_TABLE


@pytest.mark.parametrize("response", Response)
def test_a_response_stops_exactly_when_its_rule_withdraws_motion(response: Response) -> None:
    assert response.stops == (PERMIT_RULES[response].motion is WITHDRAWN)
    assert response.stops == (response >= Response.HOLD)


@pytest.mark.parametrize("response", Response)
def test_motion_never_runs_out_slowly(response: Response) -> None:
    assert PERMIT_RULES[response].motion is not RUN_OUT


def test_the_worse_the_response_the_less_power_stays() -> None:
    order = [RENEWED, RUN_OUT, WITHDRAWN]
    powers = [order.index(PERMIT_RULES[response].power) for response in sorted(Response)]
    assert powers == sorted(powers)


@pytest.mark.parametrize("response", Response)
def test_a_label_finds_its_response(response: Response) -> None:
    assert by_label(response.label) is response


@pytest.mark.parametrize("word", ["", "HOLD", "sto", "emergency-stop", "3"])
def test_any_other_word_is_an_error(word: str) -> None:
    with pytest.raises(KeyError):
        by_label(word)
