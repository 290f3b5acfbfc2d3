"""The checked plan travels to the modules as JSON and arrives as it was."""

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.core.causes import CauseRow
from agent.core.machine import State
from agent.core.plan import Envelope, Plan, Remote, Times, from_plain, to_plain
from agent.core.responses import Response
from tests.core.factories import cause, output_spec, small_plan, stopped

REMOTE = Remote(
    host="broker",
    port=8883,
    tls=True,
    protocol="5",
    ca="/ca.crt",
    cert="",
    key="",
    signing_key="/robot.pem",
    root_keys=("/root.jwk",),
    trust="/trust.jwt",
    groups=("hall", "night"),
    link_lost_ns=5,
)
FULL = small_plan(
    link_uids=(1000, 0),
    outputs={"relay_a": output_spec(), "relay_b": output_spec("remote")},
    remote=REMOTE,
    envelope=Envelope(
        area=((0.0, 0.0), (4.0, 0.0), (4.0, 2.5)),
        hours=((510, 1080), (1320, 360)),
        days=(0, 4),
        timezone="Asia/Shanghai",
        max_speed_mps=1.0,
        tasks=("guide", "巡逻"),
    ),
)


def carried(value: object) -> Any:  # noqa: ANN401 - what JSON carries
    return json.loads(json.dumps(to_plain(value), ensure_ascii=False))


@pytest.mark.parametrize(
    "plan", [small_plan(), FULL, replace(FULL, remote=None)], ids=["small", "full", "deaf"]
)
def test_a_plan_arrives_as_it_was(plan: Plan) -> None:
    assert from_plain(Plan, carried(plan)) == plan


def test_what_arrives_has_its_types_again() -> None:
    plan = from_plain(Plan, carried(FULL))
    assert isinstance(plan.rows["starting"], CauseRow)
    assert isinstance(plan.rows["starting"].response, Response)
    assert isinstance(plan.envelope.area[0], tuple)
    assert isinstance(plan.remote, Remote)
    assert plan.outputs["relay_b"].device.settings == {"port": "/dev/ttyUSB0"}


def test_a_state_of_the_machine_is_plain_data_too() -> None:
    state = replace(stopped(cause("estop_pressed")), half=b"")
    plain = to_plain(state)
    assert plain["response"] == 5
    assert plain["causes"][0]["key"] == "estop_pressed"
    assert from_plain(State, {**plain, "half": b""}) == state


def test_what_is_left_out_has_its_default() -> None:
    plain = carried(FULL)
    del plain["envelope"], plain["remote"]
    plan = from_plain(Plan, plain)
    assert plan.envelope == Envelope()
    assert plan.remote is None


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"unknown": 1}, KeyError),
        ({"rows": {"starting": {**carried(FULL)["rows"]["starting"], "response": 9}}}, ValueError),
        ({"rows": {"starting": {"id": "starting"}}}, TypeError),
        ({"envelope": {"area": [[1.0, 2.0, 3.0]]}}, ValueError),
    ],
    ids=["unknown", "response", "missing", "corner"],
)
def test_what_does_not_fit_is_an_error(change: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        from_plain(Plan, {**carried(FULL), **change})


def test_a_missing_field_without_default_is_an_error() -> None:
    plain = carried(FULL.times)
    del plain["ttl_ns"]
    with pytest.raises(TypeError, match="ttl_ns"):
        from_plain(Times, plain)
