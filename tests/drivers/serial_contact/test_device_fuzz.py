"""Any contacts, any lines, any time: no closed reading that no answer has shown, and no press missed."""

from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from agent.core.readings import Quality
from drivers.serial_contact.line_test import SETTLE_NS
from drivers.serial_contact.lines import NONE, Line
from tests.drivers.hosts import MS
from tests.drivers.serial_contact.rig import TICK_MS, ContactRig
from tests.drivers.serial_contact.world import Scripted

Step: TypeAlias = tuple[str, object]

BOUND_MS = 8 + SETTLE_NS // MS + 2 * TICK_MS
"""After which a press is seen at the latest, with ticks in time."""

lines = st.integers(0, 0x1FF).map(lambda bits: Line(bits & (Line.CTS | Line.DSR | Line.DCD)))
flag = st.booleans()
step: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.sampled_from(["a", "b", "mirror", "silent", "deaf"]), flag),
    st.tuples(st.just("stuck"), lines),
    st.tuples(st.just("lag_ns"), st.integers(0, 30 * MS)),
    st.tuples(st.just("dtr"), flag),
    st.tuples(st.just("rts"), flag),
    st.tuples(st.just("order"), flag),
    st.tuples(st.just("edge"), st.none()),
    st.tuples(st.just("tick"), st.integers(1, 120)),
    st.tuples(st.just("ticks"), st.integers(10, 1_500)),
)


class Witness:
    """Sees every answer that the device gets."""

    def __init__(self, rig: ContactRig) -> None:
        self.rig = rig
        self.closed_ns = {Line.CTS: -1, Line.DSR: -1, Line.DCD: -1}
        """When each line was last shown high with the supply on."""

    def watch(self, port: Scripted) -> None:
        read = port.read

        def seen() -> Line:
            high = read()
            if Line.DTR in high:
                self.closed_ns.update(
                    (line, self.rig.host.time_ns) for line in self.closed_ns if line in high
                )
            return high

        port.read = seen  # type: ignore[method-assign]

    def young(self, line: Line) -> bool:
        seen_ns = self.closed_ns[line]
        return seen_ns >= 0 and self.rig.host.time_ns - seen_ns < self.rig.stale_ns


def act(rig: ContactRig, name: str, value: object) -> None:
    port = rig.world.port
    match name:
        case "dtr" | "rts" if port is not None:
            port.set_by_somebody(Line[name.upper()], high=bool(value))
        case "order":
            rig.device.order("relay_a", bool(value), rig.host.time_ns)
        case "edge" if port is not None:
            rig.device._look(port, rig.host.time_ns)
        case "tick":
            rig.tick(int(str(value)), every_ms=int(str(value)))
        case "ticks":
            rig.tick(int(str(value)))
        case _:
            setattr(rig.world, name, value)


@given(st.lists(step, max_size=40))
def test_no_answers_make_a_closed_reading_that_none_of_them_showed(script: list[Step]) -> None:
    rig = ContactRig(test_period_s=1)
    rig.world.edges_told = False
    rig.world.silent = False
    rig.device.open()
    witness = Witness(rig)
    witness.watch(rig.world.plug)
    for name, value in script:
        act(rig, name, value)
        reading = rig.reading()
        assert len(reading.detail) <= 120
        if reading.quality is Quality.GOOD:
            assert reading.value is not True or witness.young(Line.CTS)
            assert reading.second is not True or witness.young(Line.DSR)
        assert rig.readback() is not True or witness.young(Line.DCD)
        if name in {"tick", "ticks"} and not rig.world.deaf and not rig.world.silent:
            assert (Line.RTS in rig.world.plug.driven) is rig.device._energise
    rig.release()


presses = st.lists(st.tuples(flag, st.integers(BOUND_MS, 2_500)), min_size=1, max_size=12)


@given(presses, st.sampled_from([5, 8, 10]), st.integers(0, 4))
def test_every_press_is_seen_in_time_and_nothing_else_is(
    script: list[tuple[bool, int]], every_ms: int, lag_ms: int
) -> None:
    rig = ContactRig(test_period_s=1)
    rig.world.edges_told = False
    rig.world.lag_ns = lag_ms * MS
    rig.run()
    seen: list[bool | float | None] = [True]
    rig.host.on_changed = lambda: seen.append(rig.reading().value)
    expected = [True]
    for pressed, for_ms in script:
        rig.press(pressed=pressed)
        rig.tick(for_ms // every_ms * every_ms + every_ms, every_ms=every_ms)
        assert (rig.reading().value, rig.reading().second) == (not pressed, not pressed)
        assert rig.reading().quality is Quality.GOOD
        if pressed is expected[-1]:
            expected.append(not pressed)
    assert seen == expected
    assert rig.world.stuck == NONE
    rig.release()
