"""Modbus lines that misbehave, serial and TCP: what is believed of them, and what it costs."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.core.readings import Quality
from drivers.serial_line import READ_BYTES
from tests.drivers.hosts import MS
from tests.drivers.modbus import frames
from tests.drivers.modbus.rig import RANGE, Asked, ModbusRig, NetworkEnd, SerialEnd

BOTH: Mapping[str, Mapping[str, object]] = {
    "range": RANGE,
    "load": {"unit": 3, "register": 13, "quantity": "load_kg", "offset": -10.0},
}


@pytest.fixture(params=["serial", "tcp"])
def network(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "tcp")


@pytest.fixture
def rig(tmp_path: Path, network: bool) -> Iterator[ModbusRig]:
    rig = ModbusRig(tmp_path, network=network, inputs=BOTH)
    rig.units.words = {12: 2000, 13: 75}
    yield rig
    rig.release()


@pytest.fixture
def serial(tmp_path: Path) -> Iterator[ModbusRig]:
    rig = ModbusRig(tmp_path, network=False, inputs=BOTH)
    rig.units.words = {12: 2000, 13: 75}
    yield rig
    rig.release()


def begin(rig: ModbusRig) -> None:
    """Open, and talk until both are known."""
    rig.device.open()
    rig.serve_read()
    rig.serve_read()
    assert [rig.reading(name).quality for name in ("range", "load")] == [Quality.GOOD] * 2


def word(value: int) -> bytes:
    return frames.registers(3, [value])


def register(asked: Asked) -> int:
    return int.from_bytes(asked.pdu[1:3], "big")


def reasons(rig: ModbusRig) -> list[str]:
    assert {source for source, _ in rig.host.bad} <= {rig.device.name}
    return [reason for _, reason in rig.host.bad]


def test_values_are_scaled_and_as_old_as_their_answer(rig: ModbusRig) -> None:
    begin(rig)
    first, second = rig.reading("range"), rig.reading("load")
    assert (first.value, second.value) == (2.0, 65.0)
    assert max(first.taken_ns, second.taken_ns) == rig.host.time_ns
    assert first.second is None
    assert rig.host.bad == []


def test_a_new_number_is_told_and_the_same_is_not(rig: ModbusRig) -> None:
    begin(rig)
    before = rig.host.changes
    rig.serve_for(300)
    assert rig.host.changes == before
    rig.units.words[12] = 1999
    rig.serve_for(100)
    assert rig.host.changes == before + 1
    assert rig.reading("range").value == 1.999


def test_each_is_asked_once_a_period_with_one_question_out_at_a_time(rig: ModbusRig) -> None:
    begin(rig)
    asked = [register(each) for each in rig.serve_for(1_000)]
    assert sorted({asked.count(12), asked.count(13)}) in ([20], [19, 20])
    assert asked[:4] in ([12, 13, 12, 13], [13, 12, 13, 12])


def test_outputs_are_not_its_business(rig: ModbusRig) -> None:
    with pytest.raises(KeyError):
        rig.device.order("range", True, rig.host.time_ns)
    with pytest.raises(KeyError):
        rig.device.readback("range", rig.host.time_ns)


# ----------------------------------------------------------------------------------------------- late answers


def test_a_late_answer_is_never_the_next_one_s(rig: ModbusRig) -> None:
    """Answers always come when the next question is already out, for two seconds."""
    begin(rig)
    held: list[bytes] = []
    end_ns = rig.host.time_ns + 2_000 * MS
    while rig.host.time_ns < end_ns:
        asked = rig.question()
        right = rig.units.answer(asked)
        assert right is not None
        held.append(rig.far.frame(asked, right))
        if len(held) > 1:
            rig.say(held.pop(0))
        rig.time_out_if_out()
        for name, value in (("range", 2.0), ("load", 65.0)):
            assert rig.reading(name).value == value
    assert rig.reading("range").quality is Quality.STALE
    rig.serve_for(1_500)
    assert rig.reading("range").quality is Quality.GOOD


def test_one_lost_question_costs_less_than_the_bound(rig: ModbusRig) -> None:
    begin(rig)
    rig.read_question()
    for _ in range(40):
        rig.serve_tick()
        assert rig.reading("range").quality is Quality.GOOD
        assert rig.reading("load").quality is Quality.GOOD
    assert rig.device.counters["answers_missing"] == 1
    assert reasons(rig) == []


def test_an_answer_that_waited_unread_past_its_time_is_late(rig: ModbusRig) -> None:
    """The module was frozen meanwhile: nobody knows how old the value is."""
    begin(rig)
    asked = rig.read_question()
    rig.units.words = {12: 1, 13: 1}
    before = rig.device.counters["answers_good"]
    rig.far.say(rig.far.frame(asked, word(1)))
    rig.host.pass_ms(50)
    rig.host.turn_until(lambda: rig.device.counters["answers_missing"] == 1)
    assert rig.device.counters["answers_good"] == before
    assert (rig.reading("range").value, rig.reading("load").value) == (2.0, 65.0)


def test_an_answer_is_in_time_until_just_before(rig: ModbusRig) -> None:
    begin(rig)
    asked = rig.read_question()
    rig.host.time_ns += 50 * MS - 1
    rig.reply(asked)
    assert rig.device.counters["answers_missing"] == 0


# ---------------------------------------------------------------------------------------------- wrong answers


@pytest.mark.parametrize(
    ("pdu", "counter", "reason"),
    [
        (frames.registers(4, [7]), "answers_wrong_function", "function 4, 3 was asked for"),
        (frames.registers(3, [7, 7]), "answers_wrong_length", "4 bytes of data, 2 were asked for"),
        (b"\x03\0", "answers_wrong_length", "0 bytes of data, 2 were asked for"),
        (frames.refusal(3, 0), "answers_wrong_function", "a refusal without a reason"),
    ],
)
def test_a_wrong_answer_is_counted_and_refreshes_nothing(
    rig: ModbusRig, pdu: bytes, counter: str, reason: str
) -> None:
    begin(rig)
    before = rig.reading("range"), rig.reading("load")
    rig.reply(rig.read_question(), pdu)
    assert rig.device.counters[counter] == 1
    assert reasons(rig) == [reason]
    after = rig.reading("range"), rig.reading("load")
    assert [reading.value for reading in after] == [2.0, 65.0]
    assert min(reading.taken_ns for reading in after) == min(reading.taken_ns for reading in before)
    rig.host.pass_ms(200)
    assert reason in {rig.reading("range").detail, rig.reading("load").detail}
    rig.serve_for(300)
    assert rig.reading("range").quality is Quality.GOOD


def test_another_unit_s_answer_is_nobody_s(rig: ModbusRig) -> None:
    begin(rig)
    asked = rig.read_question()
    rig.say(rig.far.frame(asked._replace(unit=4), word(7)))
    assert rig.device.counters["answers_wrong_unit"] == 1
    assert reasons(rig) == ["unit 4 speaks, unit 3 was asked"]
    assert (rig.reading("range").value, rig.reading("load").value) == (2.0, 65.0)


def test_a_refusal_is_a_fault_of_that_register_alone(rig: ModbusRig) -> None:
    begin(rig)
    asked = rig.read_question()
    refused, other = ("range", "load") if register(asked) == 12 else ("load", "range")
    before = rig.host.changes
    rig.reply(asked, frames.refusal(3, 2))
    assert rig.reading(refused).quality is Quality.FAULT
    assert rig.reading(other).quality is Quality.GOOD
    assert rig.host.changes == before + 1
    assert rig.device.counters["answers_refused"] == 1
    assert reasons(rig) == [f"unit 3 register {register(asked)}: exception 2 (illegal data address)"]
    rig.serve_for(100)
    assert rig.reading(refused).quality is Quality.GOOD


def test_a_busy_unit_goes_stale_and_is_asked_on(rig: ModbusRig) -> None:
    begin(rig)
    rig.units.refusals = {3: 6}
    rig.serve_for(300)
    assert rig.reading("range").quality is Quality.STALE
    rig.units.refusals = {}
    rig.serve_for(100)
    assert rig.reading("range").quality is Quality.GOOD


def test_a_wrong_crc_is_counted_apart(serial: ModbusRig) -> None:
    begin(serial)
    asked = serial.read_question()
    serial.say(serial.far.frame(asked, word(7))[:-1] + b"\0")
    assert serial.device.counters["answers_wrong_crc"] == 1
    assert reasons(serial) == ["wrong CRC"]


def test_half_an_answer_is_none(serial: ModbusRig) -> None:
    begin(serial)
    asked = serial.read_question()
    serial.feed(serial.far.frame(asked, word(7))[:5])
    serial.time_out()
    assert reasons(serial) == ["an answer ended after 5 bytes"]
    serial.serve_for(200)
    assert serial.reading("range").quality is Quality.GOOD


def test_one_byte_at_a_time(rig: ModbusRig) -> None:
    begin(rig)
    rig.units.words = {12: 1000, 13: 20}
    asked = rig.read_question()
    frame = rig.far.frame(asked, rig.units.answer(asked) or b"")
    for byte in frame[:-1]:
        rig.far.say(bytes([byte]))
        rig.host.turn()
        rig.host.pass_ms(2)
    assert {rig.reading("range").value, rig.reading("load").value} == {2.0, 65.0}
    rig.say(frame[-1:])
    assert {rig.reading("range").value, rig.reading("load").value} in ({1.0, 65.0}, {2.0, 10.0})
    assert reasons(rig) == []


# ------------------------------------------------------------------------------------------ floods and noise


def test_noise_between_questions_is_waited_out(serial: ModbusRig) -> None:
    begin(serial)
    serial.say(b"\0")
    assert reasons(serial) == ["bytes that nobody asked for"]
    serial.serve_for(100)
    assert serial.device.counters["probes_answered"] == 1, "the one of the beginning"
    assert serial.reading("range").quality is Quality.GOOD


def test_what_came_before_the_question_is_not_its_answer(serial: ModbusRig) -> None:
    """It waits unread at the very moment when the next question is due."""
    begin(serial)
    serial.host.pass_ms(50)
    serial.far.say(frames.rtu(3, word(7)))
    asked = serial.asked
    serial.device.tick(serial.host.time_ns)
    assert serial.asked == asked
    assert serial.device.counters["answers_unasked"] == 1
    assert serial.question().is_probe


def test_a_flood_on_a_serial_line_costs_no_memory_and_ends_with_the_flood(serial: ModbusRig) -> None:
    begin(serial)
    for _ in range(40):
        serial.feed(b"\3\3\2" * 1000)
        serial.host.tick(serial.device, 10)
    assert serial.reading("range").quality is Quality.STALE
    assert len(serial.host.bad) <= 40
    serial.serve_for(2_000)
    assert serial.reading("range").quality is Quality.GOOD


def test_one_wake_up_takes_a_bounded_bite(serial: ModbusRig) -> None:
    begin(serial)
    serial.far.say(b"\x55" * 4000)
    serial.host.turn()
    assert serial.far.unread() == 4000 - READ_BYTES


def test_a_flood_of_frames_on_a_connection_is_dropped_bite_by_bite(tmp_path: Path) -> None:
    rig = ModbusRig(tmp_path, network=True)
    rig.start()
    rig.far.say(rig.far.babble() * 2000)
    asked = rig.question()
    rig.far.say(rig.far.frame(asked, frames.bits(2, [False, False])))
    before = rig.device.counters["answers_late"]
    rig.host.turn()
    assert rig.device.counters["answers_late"] - before <= READ_BYTES // len(rig.far.babble()) + 1
    rig.host.turn_until(lambda: rig.device.counters["answers_late"] == 2000)
    rig.host.turn_until(lambda: rig.reading().value is False)
    rig.release()


# ----------------------------------------------------------------------------------------------- the callback


def test_close_within_the_call_that_tells_ends_everything(rig: ModbusRig) -> None:
    begin(rig)
    rig.host.on_changed = rig.device.close
    rig.units.words = {12: 1, 13: 1}
    rig.reply(rig.read_question())
    assert not rig.host.watched
    rig.host.tick(rig.device, 3_000)
    assert not rig.host.watched


def test_what_follows_in_the_same_read_is_left_alone_after_close(tmp_path: Path) -> None:
    rig = ModbusRig(tmp_path, network=True)
    rig.start()
    rig.host.on_changed = rig.device.close
    asked = rig.question()
    rig.say(rig.far.frame(asked, frames.bits(2, [False, False])) + rig.far.babble())
    assert rig.reading().value is False
    assert rig.device.counters["answers_late"] == 0
    rig.release()


def test_close_within_the_call_that_tells_of_a_loss(rig: ModbusRig) -> None:
    begin(rig)
    rig.host.on_changed = rig.device.close
    rig.unplug()
    asked = rig.asked
    rig.host.tick(rig.device, 3_000)
    assert rig.asked == asked


def test_the_far_ends_are_what_the_names_say(rig: ModbusRig, network: bool) -> None:
    assert isinstance(rig.far, NetworkEnd if network else SerialEnd)
    place = f"127.0.0.1:{rig.far.port}" if isinstance(rig.far, NetworkEnd) else str(rig.link)
    assert rig.device.name == f"modbus {place}"
