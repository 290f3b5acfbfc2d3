"""The simulated device: script, panel, relays; and what no panel file may do to it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.readings import Quality
from drivers.registry import Wanted, check_settings
from drivers.sim import panel
from drivers.sim.device import Sim
from drivers.sim.state import ACTS, SimState, act, from_json, to_json
from tests.drivers.hosts import FakeHost


def sim(host: FakeHost, path: Path | None = None, *, script: list[Mapping[str, object]] | None = None) -> Sim:
    given = {"panel": str(path)} if path else {}
    contact = check_settings("sim", "input", {**given, "script": script or []})
    quantity = check_settings("sim", "input", {**given, "quantity": "range_m", "value": 2.5})
    relay = check_settings("sim", "output", given)
    inputs = [Wanted("estop", contact), Wanted("range", quantity)]
    return Sim(str(path), inputs, [Wanted("relay", relay)], host)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def test_it_is_stale_until_opened_and_after_closing(host: FakeHost) -> None:
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
    for _ in range(45):
        host.pass_ms(100)
        device.tick(host.time_ns)
        reading = device.reading("estop", host.time_ns)
        seen.append((reading.value, reading.second, reading.quality))
    assert seen[8] == (True, True, Quality.GOOD)
    assert seen[9] == (False, False, Quality.GOOD)
    assert seen[19] == (True, True, Quality.GOOD)
    assert seen[29] == (True, False, Quality.GOOD)
    assert seen[39] == (True, False, Quality.STALE)
    assert host.changes == len(script)


def test_a_relay_follows_its_order_unless_it_is_jammed(host: FakeHost, tmp_path: Path) -> None:
    path = tmp_path / "panel.json"
    device = sim(host, path)
    device.open()
    device.order("relay", True, host.time_ns)
    assert device.readback("relay", host.time_ns) is True
    panel.write(path, {"relay": SimState(jammed=True)})
    device.tick(host.time_ns)
    device.order("relay", False, host.time_ns)
    assert device.readback("relay", host.time_ns) is True
    panel.write(path, {"relay": SimState()})
    device.tick(host.time_ns)
    device.order("relay", False, host.time_ns)
    assert device.readback("relay", host.time_ns) is False


def test_the_panel_is_read_when_it_was_replaced_and_told_at_once(host: FakeHost, tmp_path: Path) -> None:
    path = tmp_path / "panel.json"
    device = sim(host, path)
    device.open()
    panel.write(
        path, {"estop": SimState(pressed=True), "range": SimState(value=0.25), "stranger": SimState()}
    )
    device.tick(host.time_ns)
    assert device.reading("estop", host.time_ns).value is False
    assert device.reading("range", host.time_ns).value == 0.25
    assert host.changes == 1
    device.tick(host.time_ns)
    assert (host.changes, device.counters["panel_read"]) == (1, 1)


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
def test_a_panel_that_cannot_be_used_changes_nothing_and_is_told(
    host: FakeHost, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "panel.json"
    device = sim(host, path)
    device.open()
    panel.write(path, {"estop": SimState(pressed=True)})
    device.tick(host.time_ns)
    new = tmp_path / "bad"
    new.write_bytes(content)
    new.replace(path)
    device.tick(host.time_ns)
    assert device.reading("estop", host.time_ns).value is False
    assert device.counters["panel_bad"] == 1
    assert [source for source, _ in host.bad] == [device.name]


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
