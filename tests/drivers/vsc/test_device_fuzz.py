"""The wireless e-stop on a scripted line: any bytes at any time, and a line that takes too little."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.serial_line import SerialLine
from drivers.vsc import device
from drivers.vsc.codec import LONGEST
from tests.drivers.hosts import MS, FakeHost
from tests.drivers.vsc import frames


class ScriptedLine:
    """A line whose far end says what a test hands it."""

    def __init__(self, path: str, baud: int) -> None:
        self.data = b""
        self.room = 7
        self.discarded = 0

    def fileno(self) -> int:
        return 0

    def read(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def write(self, data: bytes) -> int:
        return min(len(data), self.room)

    def discard_output(self) -> None:
        self.discarded += 1

    def close(self) -> None:
        pass


def scripted(host: FakeHost) -> tuple[device.Vsc, ScriptedLine]:
    """A controller, open, and its line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "SerialLine", ScriptedLine)
        wireless = device.Vsc("port", inputs={"wireless": 250 * MS}, host=host)
        wireless.open()
    return wireless, cast("ScriptedLine", wireless._line)


@pytest.mark.parametrize("room", [0, 6])
def test_a_heartbeat_that_is_not_taken_whole_is_thrown_away(room: int) -> None:
    host = FakeHost()
    wireless, line = scripted(host)
    host.tick(wireless, 10)
    assert (wireless.counters["writes_dropped"], line.discarded) == (0, 0)
    line.room = room
    host.tick(wireless, 50)
    assert (wireless.counters["writes_dropped"], line.discarded) == (1, 1)


chunk = st.one_of(
    st.binary(max_size=60),
    st.builds(frames.heartbeat, st.sampled_from([0, 1, 4]), mode=st.integers(0, 16)),
    st.builds(frames.heartbeat, st.just(0), spoil=st.integers(0, 0xFFFF)),
    st.builds(frames.frame, st.integers(0, 255), st.binary(max_size=30)),
    st.builds(lambda whole, at: whole[:at], st.just(frames.heartbeat(0)), st.integers(1, 11)),
)


@given(st.lists(st.tuples(chunk, st.integers(0, 120)), max_size=12))
def test_no_bytes_make_a_closed_reading_that_no_frame_carried(script: list[tuple[bytes, int]]) -> None:
    host, stream = FakeHost(), b""
    wireless, line = scripted(host)
    for data, pause_ms in script:
        host.tick(wireless, pause_ms)
        line.data = data
        stream += data
        wireless._on_readable(cast("SerialLine", line))
        reading = wireless.reading("wireless", host.time_ns)
        carried = [whole for whole in frames.every_frame(stream) if whole[2:4] == b"\x20\x06"]
        if reading.value is True:
            assert any(whole[6:10] == bytes(4) for whole in carried)
        assert len(wireless._parser._kept) < LONGEST
        assert len(reading.detail) <= 120
