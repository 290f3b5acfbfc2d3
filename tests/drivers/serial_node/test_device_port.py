"""The safety node's port: unplugged, lost at every moment, in use, closed."""

from pathlib import Path

import pytest

from agent.core.readings import Quality
from drivers.serial_line import LineError, SerialLine
from drivers.serial_node import device
from tests.drivers.hosts import MS
from tests.drivers.serial_node.rig import CLOSED, NodeRig


def attempts_ms(rig: NodeRig, monkeypatch: pytest.MonkeyPatch, during_ms: int) -> list[int]:
    """When the device tried to open its port while time passed, from now."""
    began_ns = rig.host.time_ns
    tried: list[int] = []

    def refuse(path: str, baud: int) -> SerialLine:
        tried.append((rig.host.time_ns - began_ns) // MS)
        raise LineError(path, f"not at {baud}")

    with monkeypatch.context() as patch:
        patch.setattr(device, "SerialLine", refuse)
        rig.host.tick(rig.device, during_ms)
    return tried


def test_attempts_to_reopen_are_spaced_out(rig: NodeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.start()
    rig.unplug()
    assert attempts_ms(rig, monkeypatch, 8_000) == [100, 300, 700, 1_500, 3_100, 5_100, 7_100]
    assert rig.reading().detail == "port away: not at 115200"


def test_only_a_new_frame_makes_the_waits_short_again(rig: NodeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.start()
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 100)
    assert rig.device.counters["reopens"] == 1
    rig.unplug()
    assert attempts_ms(rig, monkeypatch, 600) == [200, 600]
    rig.replug()
    rig.host.tick(rig.device, 800)
    assert rig.device.counters["reopens"] == 2
    rig.talk(1)
    rig.unplug()
    assert attempts_ms(rig, monkeypatch, 300) == [100, 300]


def test_a_line_lost_while_ordering_is_told_at_the_next_tick(rig: NodeRig) -> None:
    """The module is acting when it orders: telling it then would turn its loop inside itself."""
    rig.start()
    before = rig.host.changes
    rig.end.unplug()
    rig.far = None
    rig.device.order("relay_a", True, rig.host.time_ns)
    assert rig.reading().quality is Quality.STALE
    assert rig.host.changes == before
    rig.host.tick(rig.device, 20)
    assert rig.host.changes == before + 1


def test_a_line_that_hung_up_says_so(rig: NodeRig) -> None:
    rig.start()
    rig.unplug()
    assert rig.reading().detail == "port away: hung up"


def test_a_line_lost_while_sending_is_told(rig: NodeRig) -> None:
    rig.start()
    before = rig.host.changes
    rig.end.unplug()
    rig.far = None
    rig.host.tick(rig.device, 20)
    assert rig.host.changes == before + 1
    assert rig.reading().quality is Quality.STALE


def test_half_a_frame_from_before_the_loss_is_not_joined_to_the_next(rig: NodeRig) -> None:
    rig.start()
    rig.feed(rig.frame()[:10])
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 100)
    rig.say()
    assert rig.device.counters["frames_good"] == 2
    assert rig.device.counters["bytes_dropped"] == 10


def test_close_within_the_call_that_tells_ends_the_burst(rig: NodeRig) -> None:
    rig.start()
    rig.host.on_changed = rig.device.close
    rig.a = 0
    first = rig.frame()
    rig.a = CLOSED
    rig.end.write(first + rig.frame())
    rig.host.turn_until(lambda: not rig.host.watched)
    assert rig.reading().value is False
    assert rig.device.counters["frames_good"] == 2


def test_a_closed_port_is_free_for_others(rig: NodeRig) -> None:
    rig.start()
    with pytest.raises(LineError):
        SerialLine(str(rig.link), 115200)
    rig.device.close()
    SerialLine(str(rig.link), 115200).close()


def test_close_of_a_lost_line_is_quiet(rig: NodeRig) -> None:
    rig.start()
    rig.end.unplug()
    rig.far = None
    rig.device.close()
    assert not rig.host.watched
    assert rig.reading().quality is Quality.STALE


def test_a_port_in_use_is_away_until_it_is_free(rig: NodeRig) -> None:
    other = SerialLine(str(rig.link), 115200)
    rig.device.open()
    rig.host.tick(rig.device, 1_000)
    assert rig.reading().detail == "port away: Resource temporarily unavailable"
    other.close()
    rig.host.tick(rig.device, 2_000)
    rig.talk(3)
    assert rig.reading().quality is Quality.GOOD


def test_what_is_no_terminal_is_away(tmp_path: Path, rig: NodeRig) -> None:
    rig.link.unlink()
    rig.link.write_text("not a port")
    rig.device.open()
    assert rig.reading().detail.startswith("port away: ")
    rig.link.unlink()
    rig.link.symlink_to(tmp_path / "none")
