"""What the two channels tell each other: all of it arrives, and nothing else is taken for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.channel import Sample
from agent.core.causes import Clear
from agent.core.commands import Code
from agent.core.machine import Demand
from agent.core.peer import PeerView
from agent.core.responses import Response
from agent.peer_link import MAX_CAUSES, channel_state, read_causes, read_state
from tests.channel_lives import run
from tests.channels import Life, disks
from tests.core.factories import NOW_NS, small_plan

GOOD: dict[str, object] = {
    "type": "state",
    "own": 5,
    "response": 6,
    "stops": ["estop_pressed", "input_fault:estop"],
    "epoch": 2**32 - 1,
    "half": "00112233445566ff",
    "still": True,
    "blockers": ["cause_active"],
    "causes": [{"id": "estop_pressed"}],
}


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with disks():
        one = run(Life("reflex", small_plan(), tmp_path))
        yield one
        one.channel.close()


def over_the_wire(life: Life, *, still: bool = False) -> dict[str, object]:
    message = channel_state(life.channel, still=still, now_ns=NOW_NS)
    return dict(json.loads(json.dumps(message)))


def test_what_a_channel_is_arrives_whole(life: Life) -> None:
    life.turn(NOW_NS, guardian_hold=Demand(), peer_stop=Demand(Response.SUSPEND), clock_jump=Demand())
    message = over_the_wire(life, still=True)
    assert read_state(message, NOW_NS + 1) == PeerView(
        connected=True,
        heard_ns=NOW_NS + 1,
        own=Response.HOLD,
        response=Response.SUSPEND,
        causes=("guardian_hold",),
        epoch=life.read().epoch,
        half=life.channel.state.half,
        still=True,
        blockers=(Code.CAUSE_ACTIVE,),
    )
    assert [cause["id"] for cause in read_causes(message)] == ["guardian_hold", "peer_stop", "clock_jump"]


def test_a_channel_that_runs_names_no_stop(life: Life) -> None:
    peer = read_state(over_the_wire(life), NOW_NS)
    assert (peer.own, peer.response, peer.causes, peer.blockers) == (Response.NONE, Response.NONE, (), ())
    assert not peer.still


def test_a_reset_that_is_still_to_be_made_is_told(life: Life) -> None:
    key = "estop_pressed"
    life.turn(NOW_NS, estop_pressed=Demand(clear=Clear.RESET_AND_RESUME))
    life.seen = Sample(unreset=frozenset({key}))
    life.channel.turn(NOW_NS)
    assert read_state(over_the_wire(life), NOW_NS).blockers == (Code.RESET_NEEDED,)


def test_the_longest_state_that_is_read() -> None:
    peer = read_state({**GOOD, "stops": ["x"] * MAX_CAUSES}, 0)
    assert len(peer.causes) == MAX_CAUSES


WRONG: dict[str, dict[str, object]] = {
    "own too large": {"own": 8},
    "own negative": {"own": -1},
    "own a boolean": {"own": True},
    "own a text": {"own": "5"},
    "own a float": {"own": 5.0},
    "response unknown": {"response": 99},
    "response null": {"response": None},
    "stops a text": {"stops": "estop_pressed"},
    "stops of numbers": {"stops": [1]},
    "stops too many": {"stops": ["x"] * (MAX_CAUSES + 1)},
    "epoch too large": {"epoch": 2**32},
    "epoch a boolean": {"epoch": False},
    "half too short": {"half": "00112233445566"},
    "half too long": {"half": "00112233445566ff00"},
    "half no hexadecimal": {"half": "zz112233445566ff"},
    "half empty": {"half": ""},
    "half a number": {"half": 5},
    "blockers unknown": {"blockers": ["because"]},
    "blockers an object": {"blockers": {}},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_state_with_one_field_wrong_is_none(change: dict[str, object]) -> None:
    assert read_state(GOOD, 0).epoch == 2**32 - 1
    with pytest.raises(ValueError, match=r"."):
        read_state({**GOOD, **change}, 0)


@pytest.mark.parametrize("field", ["own", "response", "stops", "epoch", "half", "still", "blockers"])
def test_a_state_without_one_field_names_it(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} is missing$"):
        read_state({key: value for key, value in GOOD.items() if key != field}, 0)


@pytest.mark.parametrize("still", [False, None, 1, "true", [True]])
def test_only_true_is_standstill(still: object) -> None:
    assert not read_state({**GOOD, "still": still}, 0).still


@pytest.mark.parametrize("causes", [None, "x", 7, {"id": "x"}])
def test_causes_that_are_no_list_are_none(causes: object) -> None:
    assert read_causes({"causes": causes}) == []
    assert read_causes({}) == []


def test_of_the_causes_only_objects_and_only_so_many_are_kept() -> None:
    assert read_causes({"causes": [{"id": "a"}, 1, None, "b", {"id": "c"}]}) == [{"id": "a"}, {"id": "c"}]
    assert len(read_causes({"causes": [{}] * (2 * MAX_CAUSES)})) == MAX_CAUSES


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_whatever_the_other_says_is_a_state_or_refused(said: dict[str, object]) -> None:
    """The other module may be hostile: nothing it says is a fault of ours."""
    message = {**GOOD, **said}
    try:
        peer = read_state(message, 0)
    except ValueError:
        return
    assert len(peer.half) == 8
    assert peer.own in Response
    assert 0 <= peer.epoch < 2**32
    assert all(isinstance(cause, dict) for cause in read_causes(message))
