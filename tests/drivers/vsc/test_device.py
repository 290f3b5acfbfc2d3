"""The wireless e-stop on a real pseudo-terminal: the rules of all drivers, and what it believes when."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.core.readings import Quality
from drivers.serial_line import READ_BYTES, LineError, SerialLine
from drivers.vsc import device
from drivers.vsc.codec import LONGEST, PATIENCE_NS
from tests.drivers.hosts import MS
from tests.drivers.rules import InputRig, InputRules
from tests.drivers.vsc import frames
from tests.drivers.vsc.rig import VscRig

OURS = bytes.fromhex("10 01 21 01 00 33 b9")


class TestAsInput(InputRules):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[InputRig]:
        rig = VscRig(tmp_path)
        yield rig
        rig.release()


# ------------------------------------------------------------------------------------------ what it believes


@pytest.mark.parametrize("status", [1, 4, 0x80, 0x100, 0x80000000, 0xFFFFFFFF])
def test_whatever_asks_for_a_stop_is_open_and_named(rig: VscRig, status: int) -> None:
    rig.start()
    rig.say(status)
    reading = rig.reading()
    assert (reading.value, reading.second, reading.quality) == (False, None, Quality.GOOD)
    assert reading.detail == f"e-stop status 0x{status:08x}"


@pytest.mark.parametrize("mode", [0x04, 0x06, 0x09, 0x0A, 0x0B])
def test_every_published_mode_is_believed(rig: VscRig, mode: int) -> None:
    rig.start()
    rig.say(mode=mode)
    assert rig.reading().quality is Quality.GOOD


def test_a_controller_that_searches_for_its_remote_cannot_say_that_nobody_stops(rig: VscRig) -> None:
    rig.start()
    rig.say(1, mode=0x01)
    assert (rig.reading().value, rig.reading().quality) == (False, Quality.GOOD)
    rig.say(0, mode=0x01)
    assert rig.reading().quality is Quality.FAULT
    assert rig.reading().detail == "no stop, it says, yet it has no remote"


def test_an_unknown_mode_is_named_and_its_silence_too(rig: VscRig) -> None:
    rig.start()
    rig.say(mode=0x0C)
    assert rig.reading().detail == "mode 0x0c is none that is published"
    rig.host.pass_ms(250)
    assert rig.reading().detail == "mode 0x0c is none that is published, then no heartbeat"


def test_each_input_has_its_own_bound(rig: VscRig) -> None:
    rig.start()
    rig.host.pass_ms(399)
    assert rig.reading().quality is Quality.STALE
    assert rig.reading("patient").quality is Quality.GOOD
    rig.host.pass_ms(1)
    assert rig.reading("patient").quality is Quality.STALE


def test_another_stop_beside_the_first_is_told(rig: VscRig) -> None:
    rig.start()
    rig.say(4)
    before = rig.host.changes
    rig.say(5)
    rig.say(5)
    assert rig.host.changes == before + 1
    assert rig.reading().detail == "e-stop status 0x00000005"


def test_a_word_that_only_the_stricter_input_waited_for_is_told(rig: VscRig) -> None:
    rig.start()
    rig.host.pass_ms(300)
    before = rig.host.changes
    rig.say()
    assert rig.host.changes == before + 1


def test_other_messages_are_skipped_and_counted_and_refresh_nothing(rig: VscRig) -> None:
    rig.start()
    rig.host.pass_ms(249)
    rig.turn()
    for kind in (0x10, 0x12, 0x21, 0x22, 0x30, 0xFF):
        rig.deliver(frames.frame(kind, bytes(6)))
    assert rig.device.counters["frames_skipped"] == 6
    assert rig.host.bad == []
    rig.host.pass_ms(1)
    assert rig.reading().quality is Quality.STALE


@pytest.mark.parametrize("length", [0, 5, 7])
def test_a_heartbeat_of_another_length_is_none(rig: VscRig, length: int) -> None:
    rig.start()
    rig.host.pass_ms(249)
    rig.turn()
    rig.deliver(frames.frame(0x20, bytes(length)))
    assert rig.device.counters["frames_malformed"] == 1
    assert rig.host.bad == [(rig.device.name, f"type 0x20 with {length} bytes is no heartbeat")]
    rig.host.pass_ms(1)
    assert rig.reading().quality is Quality.STALE


def test_a_wrong_check_sum_refreshes_nothing_and_is_reported(rig: VscRig) -> None:
    rig.start()
    rig.host.pass_ms(249)
    rig.turn()
    rig.deliver(frames.heartbeat(0, spoil=0x0100))
    assert rig.device.counters["frames_bad_check_sum"] == 1
    assert rig.host.bad == [(rig.device.name, "wrong check sum")]
    rig.host.pass_ms(1)
    assert rig.reading().quality is Quality.STALE


def test_one_byte_at_a_time(rig: VscRig) -> None:
    rig.start()
    rig.turn()
    for byte in frames.heartbeat(4):
        assert rig.reading().value is True
        rig.deliver(bytes([byte]))
    assert rig.reading().value is False


def test_stops_within_one_read_are_all_told(rig: VscRig) -> None:
    rig.start()
    seen: list[bool | float | None] = []
    rig.host.on_changed = lambda: seen.append(rig.reading().value)
    rig.turn()
    rig.deliver(b"".join(frames.heartbeat(status) for status in (4, 0, 0, 1, 0)))
    assert seen == [False, True, False, True]


def test_a_stop_behind_a_false_start_is_heard_in_time(rig: VscRig) -> None:
    rig.start()
    rig.turn()
    rig.deliver(b"\x10\x01\x20\xf8" + frames.heartbeat(4))
    assert rig.reading().value is True
    rig.host.tick(rig.device, PATIENCE_NS / MS)
    assert (rig.reading().value, rig.reading().quality) == (False, Quality.GOOD)


# ------------------------------------------------------------------------------------------------- its age


def test_what_waited_in_a_buffer_is_as_old_as_it_can_be(rig: VscRig) -> None:
    """The agent is frozen for half a second while the controller goes on, then dies: no news at all."""
    rig.start()
    rig.host.tick(rig.device, 100)
    rig.arrive(frames.heartbeat(0) * 10)
    rig.host.pass_ms(500)
    seen: list[Quality] = []
    rig.host.on_changed = lambda: seen.append(rig.reading().quality)
    rig.device.tick(rig.host.time_ns)
    rig.host.turn_until(lambda: rig.end.unread() == 0)
    assert rig.reading().quality is Quality.STALE
    assert Quality.GOOD not in seen
    rig.host.tick(rig.device, 20)
    rig.say()
    assert rig.reading().quality is Quality.GOOD


def test_a_press_that_waited_in_a_buffer_is_told_all_the_same(rig: VscRig) -> None:
    rig.start()
    rig.host.tick(rig.device, 100)
    rig.arrive(frames.heartbeat(4) + frames.heartbeat(0))
    rig.host.pass_ms(500)
    seen: list[bool | float | None] = []
    rig.host.on_changed = lambda: seen.append(rig.reading().value)
    rig.host.turn_until(lambda: rig.end.unread() == 0)
    assert seen[0] is False


def test_a_buffer_that_takes_several_reads_stays_as_old(rig: VscRig) -> None:
    rig.start()
    rig.host.tick(rig.device, 100)
    rig.arrive(frames.heartbeat(0) * (2 * READ_BYTES // 12))
    rig.host.pass_ms(500)
    while rig.end.unread():
        rig.host.turn()
        rig.turn()
    assert rig.reading().quality is Quality.STALE


# ------------------------------------------------------------------------------------------------ its port


def test_our_heartbeat_goes_out_every_50_ms(rig: VscRig) -> None:
    rig.start()
    before = len(rig.heard(len(OURS)))
    rig.host.tick(rig.device, 1_000)
    assert rig.heard(before + 20 * len(OURS)) == OURS * (before // len(OURS) + 20)


def test_a_tick_that_comes_early_delays_no_heartbeat(rig: VscRig) -> None:
    rig.start()
    before = len(rig.heard(len(OURS)))
    rig.host.tick(rig.device, 10 * 49.6, every_ms=9.92)
    assert len(rig.heard(before + 10 * len(OURS))) == before + 10 * len(OURS)


def test_heartbeats_that_a_stalled_line_does_not_take_are_thrown_away(rig: VscRig) -> None:
    rig.start()
    rig.heard(len(OURS))
    rig.end.hold(stopped=True)
    rig.host.tick(rig.device, 500)
    assert rig.device.counters["writes_dropped"] == 10
    rig.end.hold(stopped=False)
    rig.host.tick(rig.device, 50)
    assert rig.heard(2 * len(OURS)) == OURS * 2


def test_attempts_to_reopen_are_spaced_out(rig: VscRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.start()
    rig.unplug()
    began_ns, tried = rig.host.time_ns, []

    def refuse(path: str, baud: int) -> SerialLine:
        tried.append((rig.host.time_ns - began_ns) // MS)
        raise LineError(path, f"not at {baud}")

    with monkeypatch.context() as patch:
        patch.setattr(device, "SerialLine", refuse)
        rig.host.tick(rig.device, 8_000)
    assert tried == [100, 300, 700, 1_500, 3_100, 5_100, 7_100]
    assert rig.reading().detail == "port away: not at 115200"


def test_only_a_heartbeat_makes_the_waits_short_again(rig: VscRig) -> None:
    rig.start()
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 100)
    assert rig.device.counters["reopens"] == 1
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 190)
    assert rig.device.counters["reopens"] == 1
    rig.host.tick(rig.device, 10)
    assert rig.device.counters["reopens"] == 2
    rig.say()
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 100)
    assert rig.device.counters["reopens"] == 3


def test_a_line_lost_while_sending_is_told(rig: VscRig) -> None:
    rig.start()
    before = rig.host.changes
    rig.end.unplug()
    rig.far = None
    rig.host.tick(rig.device, 50)
    assert rig.host.changes == before + 1
    assert rig.reading().quality is Quality.STALE


def test_half_a_frame_from_before_the_loss_is_not_joined_to_the_next(rig: VscRig) -> None:
    rig.start()
    whole = frames.heartbeat(0)
    rig.deliver(whole[:6])
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 100)
    rig.deliver(whole[6:])
    assert rig.reading().quality is Quality.STALE
    assert rig.host.bad == []


def test_what_waited_at_another_port_makes_nothing_old_at_this_one(rig: VscRig) -> None:
    rig.start()
    rig.arrive(frames.heartbeat(0) * (2 * READ_BYTES // 12))
    rig.host.turn()
    assert rig.end.unread() > 0
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 500)
    rig.say()
    assert rig.reading().quality is Quality.GOOD


def test_the_end_of_a_frame_that_began_before_the_port_was_open_is_no_fault(rig: VscRig) -> None:
    rig.device.open()
    rig.deliver(b"\x55" * LONGEST)
    assert rig.host.bad == []
    rig.deliver(b"\x55")
    assert rig.host.bad == [(rig.device.name, "1 bytes of no frame")]
    assert rig.device.counters["bytes_dropped"] == LONGEST + 1


def test_close_within_the_call_that_tells_ends_the_burst(rig: VscRig) -> None:
    rig.start()
    rig.host.on_changed = rig.device.close
    rig.turn()
    rig.arrive(frames.heartbeat(4) + frames.heartbeat(0))
    rig.host.turn_until(lambda: not rig.host.watched)
    assert rig.reading().value is False
    assert rig.device.counters["frames_good"] == 2


def test_a_closed_port_is_free_for_others(rig: VscRig) -> None:
    rig.start()
    with pytest.raises(LineError):
        SerialLine(str(rig.link), 115200)
    rig.device.close()
    SerialLine(str(rig.link), 115200).close()


def test_it_has_no_output(rig: VscRig) -> None:
    with pytest.raises(KeyError):
        rig.device.order("wireless", True, rig.host.time_ns)
    with pytest.raises(KeyError):
        rig.device.readback("wireless", rig.host.time_ns)
