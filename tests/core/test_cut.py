"""What is cut on before the turn, the turn always stops for, and at least as hard."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.cut import Cut, cuts_of, worst_cut
from agent.core.evaluate import evaluate, remember
from agent.core.machine import Inputs, State, step
from agent.core.plan import Plan
from agent.core.readings import Quality, Reading
from agent.core.responses import Response
from tests.core.factories import NOW_NS, condition, contact_spec, quantity_spec, row, rows, seen, small_plan

E, H, S, W = Response.EMERGENCY_STOP, Response.HOLD, Response.SAFE_MODE, Response.WARN


def plan_of(**answers: Response) -> Plan:
    """One contact per answer, and a row for it."""
    return replace(
        small_plan(),
        inputs={name: contact_spec() for name in answers} | {"range": quantity_spec()},
        conditions=tuple(condition(f"{name}_open", input=name, test="open") for name in answers),
        rows=rows(*(row(f"{name}_open", response=response) for name, response in answers.items())),
    )


def test_only_contacts_that_stop_at_once_are_cut_on_and_the_worst_comes_first() -> None:
    plan = plan_of(door=H, button=E, lamp=W, edge=S)
    assert cuts_of(plan) == (Cut("button", E), Cut("edge", S), Cut("door", H))


@pytest.mark.parametrize(
    "changed",
    [
        condition("button_open", input="button", test="closed"),
        condition("button_open", input="button", test="stale"),
        condition("button_open", input="button", test="open", for_ns=1),
        condition("button_open", input="range", test="below"),
    ],
)
def test_whatever_needs_time_or_another_look_is_left_to_the_turn(changed: object) -> None:
    plan = plan_of(button=E)
    assert cuts_of(replace(plan, conditions=(changed,))) == ()  # type: ignore[arg-type]


contacts = st.builds(
    Reading,
    value=st.sampled_from([True, False, None]),
    taken_ns=st.just(NOW_NS),
    quality=st.sampled_from(Quality),
    second=st.sampled_from([True, False, None]),
)
answers = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(Response), min_size=1)


@given(answers, st.data())
def test_the_turn_never_decides_for_less(answered: dict[str, Response], data: st.DataObject) -> None:
    plan = plan_of(**answered)
    readings = {name: data.draw(contacts) for name in answered}
    readings["range"] = Reading(1.0, NOW_NS, Quality.GOOD)
    demanded = worst_cut(cuts_of(plan), readings)
    memory = remember(plan, frozenset(), NOW_NS)
    _, verdict = evaluate(plan, memory, seen(NOW_NS, readings=readings), NOW_NS)
    before = State(epoch=1, half=bytes(8))
    after, _ = step(plan.rows, before, Inputs(verdict.active, bytes(8), 1), NOW_NS)
    if demanded is not None:
        assert demanded.stops
        assert after.response >= demanded
