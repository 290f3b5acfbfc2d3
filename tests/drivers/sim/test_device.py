"""The simulated device: the rules of all drivers; script, panel, relays; what no panel file may do to it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.readings import NEVER_READ, Quality
from drivers.registry import Wanted, check_settings
from drivers.sim import panel
from drivers.sim.device import Sim
from drivers.sim.state import ACTS, SimState, act, from_json, to_json
from tests.drivers.hosts import FakeHost
from tests.drivers.rules import InputRig, InputRules, OutputRig, OutputRules, Traits
from tests.drivers.sim.rig import PanelRig


class TestAsInput(InputRules):
    """The panel is looked at, at each tick."""

    traits = Traits(descriptor=False)

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[InputRig]:
        rig = PanelRig(tmp_path)
        yield rig
        rig.release()


class TestAsOutput(OutputRules):
    traits = Traits(descriptor=False)

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[OutputRig]:
        rig = PanelRig(tmp_path)
        yield rig
        rig.release()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[PanelRig]:
    rig = PanelRig(tmp_path)
    yield rig
    rig.release()


# --------------------------------------------------------------------------------- the script, and no panel


def sim(host: FakeHost, *, script: list[Mapping[str, object]] | None = None) -> Sim:
    contact = check_settings("sim", "input", {"script": script or [], "stale_ms": 100})
    quantity = check_settings("sim", "input", {"quantity": "range_m", "value": 2.5})
    relay = check_settings("sim", "output", {})
    inputs = [Wanted("estop", contact), Wanted("range", quantity)]
    return Sim("", inputs, [Wanted("relay", relay)], host)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def test_without_a_panel_it_is_there_from_the_opening_on_until_it_is_closed(host: FakeHost) -> None:
    device = sim(host)
    assert device.reading("estop", host.time_ns).quality is Quality.STALE
    device.open()
    reading = device.reading("estop", host.time_ns)
    assert (reading.value, reading.second, reading.quality) == (True, True, Quality.GOOD)
    assert device.reading("range", host.time_ns).value == 2.5
    device.close()
    device.close()
    assert device.reading("estop", host.time_ns).quality is Quality.STALE
    assert device.readback("relay", host.time_ns) is None


def test_without_a_panel_each_tick_is_its_word(host: FakeHost) -> None:
    device = sim(host)
    device.open()
    host.tick(device, 5_000)
    assert host.quality(device, "estop") is Quality.GOOD
    host.pass_ms(100)
    assert host.quality(device, "estop") is Quality.STALE
    assert host.quality(device, "range") is Quality.GOOD, "each has a bound of its own"


def test_a_script_plays_at_its_times_and_tells_each_change_once(host: FakeHost) -> None:
    script: list[Mapping[str, object]] = [
        {"at_s": 1.0, "do": "press"},
        {"at_s": 2.0, "do": "release"},
        {"at_s": 3.0, "do": "cut_b"},
        {"at_s": 4.0, "do": "silence"},
    ]
    device = sim(host, script=script)
    device.open()
    seen = []
    for _ in range(90):
        host.pass_ms(50)
        device.tick(host.time_ns)
        reading = device.reading("estop", host.time_ns)
        seen.append((reading.value, reading.second, reading.quality))
    assert seen[18] == (True, True, Quality.GOOD)
    assert seen[19] == (False, False, Quality.GOOD)
    assert seen[39] == (True, True, Quality.GOOD)
    assert seen[59] == (True, False, Quality.GOOD)
    assert seen[79] == (True, False, Quality.STALE)
    assert host.changes == len(script)


# ------------------------------------------------------------------------------------------------ the relay


def test_a_relay_moves_with_the_tick_after_its_order(rig: PanelRig) -> None:
    rig.start()
    rig.device.order("relay_a", True, rig.host.time_ns)
    assert rig.readback() is False
    rig.tick()
    assert rig.readback() is True
    rig.device.order("relay_a", False, rig.host.time_ns)
    assert rig.readback() is True
    rig.tick()
    assert rig.readback() is False


def test_a_jammed_relay_stays_where_it_is(rig: PanelRig) -> None:
    rig.start()
    rig.device.order("relay_a", True, rig.host.time_ns)
    rig.word(("heal", "relay_a"))
    rig.word(("jam", "relay_a"))
    rig.device.order("relay_a", False, rig.host.time_ns)
    rig.tick()
    assert rig.readback() is True
    rig.word(("heal", "relay_a"))
    assert rig.readback() is False


@pytest.mark.parametrize(("word", "energised"), [("weld_a", True), ("weld_b", True), ("cut_a", False)])
def test_a_relay_can_be_other_than_it_was_told(rig: PanelRig, word: str, energised: bool) -> None:
    rig.start()
    rig.device.order("relay_a", not energised, rig.host.time_ns)
    rig.word((word, "relay_a"))
    assert rig.readback() is energised


@pytest.mark.parametrize("word", ["silence", "break"])
def test_a_relay_that_does_not_answer_is_not_known(rig: PanelRig, word: str) -> None:
    rig.start()
    rig.word((word, "relay_a"))
    assert rig.readback() is None


# ------------------------------------------------------------------------------------------------ the panel


def test_a_file_that_a_dead_panel_left_behind_is_not_believed(rig: PanelRig) -> None:
    rig.device.open()
    rig.host.tick(rig.device, 5_000)
    assert rig.reading() == replace(NEVER_READ, detail="the panel has not spoken yet")
    rig.word()
    assert rig.reading().quality is Quality.GOOD


def test_two_words_within_a_tick_of_the_kernel_s_clock_are_two(rig: PanelRig) -> None:
    """Its files change places, and a coarse time stamp alone would make the third one look like the first."""
    rig.start()
    stamps = set()
    for _ in range(50):
        rig.controls.beat()
        stamps.add(panel.stamp(rig.path))
    assert len(stamps) == 50


def test_the_panel_is_heard_when_it_speaks_and_only_then(rig: PanelRig) -> None:
    rig.start()
    told = rig.device.counters["panel_read"]
    rig.tick()
    assert rig.device.counters["panel_read"] == told
    panel.write(rig.path, {"estop": SimState(pressed=True), "stranger": SimState()})
    rig.tick()
    assert (rig.reading().value, rig.device.counters["panel_read"]) == (False, told + 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"estop":1}',
        b'{"estop":{"pressed":1}}',
        b'{"estop":{"x":true}}',
        b"[" * 9000,
        b'{"range":{"value":1e999}}',
    ],
)
def test_a_panel_that_cannot_be_used_changes_nothing_and_is_told(rig: PanelRig, content: bytes) -> None:
    rig.start()
    rig.show(closed=False)
    new = rig.path.with_suffix(".bad")
    new.write_bytes(content)
    new.replace(rig.path)
    rig.tick()
    assert rig.reading().value is False
    assert rig.device.counters["panel_bad"] == 1
    assert [source for source, _ in rig.host.bad] == [rig.device.name]


def test_a_name_it_was_not_given_is_a_mistake_of_the_program(host: FakeHost) -> None:
    device = sim(host)
    for ask in (
        lambda: device.reading("x", 0),
        lambda: device.order("x", True, 0),
        lambda: device.readback("x", 0),
    ):
        with pytest.raises(KeyError):
            ask()


states = st.builds(
    SimState,
    **{name: st.booleans() for name in SimState.__dataclass_fields__ if name != "value"},
    value=st.floats(allow_nan=False, allow_infinity=False),
)


@given(states)
def test_a_state_survives_its_file(state: SimState) -> None:
    assert from_json(to_json(state)) == state


@given(states, st.sampled_from(sorted(ACTS)), st.floats(allow_nan=False, allow_infinity=False))
def test_heal_undoes_every_act(state: SimState, word: str, value: float) -> None:
    healed = act(act(state, word, value), "heal")
    assert healed.contacts == (True, True)
    assert healed.quality is Quality.GOOD
    assert not healed.jammed


@given(states, st.booleans(), st.booleans())
def test_a_relay_follows_its_coil_unless_something_is_done_to_it(
    state: SimState, coil: bool, before: bool
) -> None:
    is_at = state.relay(coil=coil, before=before)
    if state.jammed:
        assert is_at is before
    elif state.cut_a or state.cut_b:
        assert is_at is False
    else:
        assert is_at is (coil or state.welded_a or state.welded_b)


@given(states)
def test_a_contact_reads_closed_only_when_nothing_opens_it(state: SimState) -> None:
    for closed, cut, welded in zip(
        state.contacts, (state.cut_a, state.cut_b), (state.welded_a, state.welded_b), strict=True
    ):
        assert closed == ((welded or not state.pressed) and not cut)


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_the_two_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(data)
    try:
        panel.read(path)
    except (OSError, ValueError):
        return
