"""A vehicle safety controller in the test's hands: the far end of a real pseudo-terminal."""

from pathlib import Path

from agent.core.readings import Quality, Reading
from drivers.registry import Wanted
from drivers.vsc.device import build
from tests.drivers.hosts import MS, FakeHost
from tests.drivers.serial_node.rig import FarEnd
from tests.drivers.vsc import frames
from tests.waiting import block_until


class VscRig:
    """The device, its module (`host`) and its far end."""

    input_name = "wireless"
    stale_ns = 250 * MS

    def __init__(self, folder: Path) -> None:
        self.host = FakeHost()
        self.link = folder / "vsc"
        self.far: FarEnd | None = FarEnd(self.link)
        settings: dict[str, object] = {"port": str(self.link), "stale_ms": 250}
        patient = {**settings, "stale_ms": 400}
        self.device = build(
            str(self.link), [Wanted("wireless", settings), Wanted("patient", patient)], self.host
        )

    @property
    def end(self) -> FarEnd:
        assert self.far is not None, "the controller is unplugged"
        return self.far

    def arrive(self, data: bytes) -> None:
        """Say `data`; returns when all of it waits to be read."""
        self.end.write(data)
        block_until(lambda: self.end.unread() == len(data))

    def deliver(self, data: bytes) -> None:
        """Say `data`, less than 4096 bytes; returns when the device has read all of it."""
        self.arrive(data)
        self.host.turn_until(lambda: self.end.unread() == 0)

    def turn(self) -> None:
        """The module's loop has been turning: nothing waits that would have come before now."""
        for _ in range(2):
            self.device.tick(self.host.time_ns)

    def say(self, status: int = 0, *, mode: int = frames.OPERATIONAL) -> None:
        """One heartbeat, now."""
        self.turn()
        self.deliver(frames.heartbeat(status, mode=mode))

    def talk(self, heartbeats: int) -> None:
        """So many heartbeats, one every 50 ms."""
        for _ in range(heartbeats):
            self.host.tick(self.device, 50)
            self.say()

    def reading(self, name: str = "wireless") -> Reading:
        return self.device.reading(name, self.host.time_ns)

    def heard(self, length: int) -> bytes:
        """All that the controller has heard on this plug, once it is so many bytes."""
        block_until(lambda: len(self.end.listen()) >= length)
        return self.end.heard

    # What the rules ask for -------------------------------------------------------------------------------

    def start(self) -> None:
        self.device.open()
        self.say()
        assert self.reading().quality is Quality.GOOD

    def unplug(self) -> None:
        self.end.unplug()
        self.far = None
        self.host.turn_until(lambda: not self.host.watched)

    def replug(self) -> None:
        self.far = FarEnd(self.link)

    def show(self, *, closed: bool) -> None:
        self.say(0 if closed else 4)

    def break_down(self) -> None:
        self.say(mode=0x77)

    def babble(self) -> None:
        self.deliver(b"\x11\x22\x33\x44")

    def release(self) -> None:
        """End of the test."""
        self.device.close()
        if self.far is not None:
            self.far.unplug()
