"""A safety node in the test's hands: the far end of a real pseudo-terminal, saying what the script says."""

import os
import select
import termios
import time
import tty
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.core.readings import Quality, Reading
from drivers.registry import Wanted
from drivers.serial_node.device import build
from tests.drivers.hosts import DEADLINE_S, MS, TURN_MS, FakeHost, unread
from tests.drivers.wire import AgentWords, agent_words, node_frame, whole_words
from tests.waiting import block_until

PERIOD_MS = 10
CLOSED = 0xFFFF


class FarEnd:
    """One plugged-in port: the master of a pseudo-terminal, its slave found under a link, as udev would."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self.master, self._slave = os.openpty()
        # Cooked, a terminal would echo what the far end says before the driver has opened it.
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        link.symlink_to(os.ttyname(self._slave))
        self.heard = b""

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.master, data) :]

    def listen(self, wait_ms: int = 0) -> bytes:
        """Everything the driver wrote since this end was plugged in."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while poll.poll(wait_ms):
            self.heard += os.read(self.master, 65536)
        return self.heard

    def unread(self) -> int:
        """Bytes that wait to be read by the driver."""
        return unread(self._slave)

    def hold(self, *, stopped: bool) -> None:
        """Stop the driver's output as flow control would, or let it go on: while stopped nothing fits."""
        termios.tcflow(self._slave, termios.TCOOFF if stopped else termios.TCOON)

    def unplug(self) -> None:
        self._link.unlink()
        os.close(self.master)
        os.close(self._slave)


class NodeRig:
    """The device, its module (`host`) and its far end, whose own clock keeps pace with the host's."""

    input_name = "estop"
    output_name = "relay_a"

    def __init__(self, folder: Path, **settings: int | str) -> None:
        self.host = FakeHost()
        self.link = folder / "node"
        self.far: FarEnd | None = FarEnd(self.link)
        shared: Mapping[str, object] = {
            "port": str(self.link),
            "baud": 115200,
            "usb_serial": "",
            "stale_ms": 50,
            **settings,
        }
        self.device = build(
            str(self.link),
            [Wanted("estop", {**shared, "bit": 0}), Wanted("bumper", {**shared, "bit": 15, "stale_ms": 80})],
            [Wanted("relay_a", shared)],
            self.host,
            folder / "sys",
        )
        self.stale_ns = int(str(shared["stale_ms"])) * MS
        self.seq = 0
        self.boot_ns = self.host.time_ns - 5_000 * MS
        self.a = self.b = CLOSED
        self.relay = self.faults = self.echo = 0
        self.torn = False
        """Set by a test that cuts frames short; otherwise every one must be whole."""
        self._orders_seen = 0

    # The script -------------------------------------------------------------------------------------------

    @property
    def end(self) -> FarEnd:
        assert self.far is not None, "the node is unplugged"
        return self.far

    @property
    def node_ms(self) -> int:
        return (self.host.time_ns - self.boot_ns) // MS & 0xFFFFFFFF

    def frame(self) -> bytes:
        """The node's next frame, as things stand now."""
        self.seq = (self.seq + 1) & 0xFFFF
        return node_frame(
            seq=self.seq,
            node_ms=self.node_ms,
            a=self.a,
            b=self.b,
            relay=self.relay,
            faults=self.faults,
            echo=self.echo,
        )

    def frames_taken(self) -> int:
        return sum(n for name, n in self.device.counters.items() if name in FRAME_COUNTERS)

    def deliver(self, data: bytes, frames: int = 1) -> None:
        """Say `data`; returns when the device has judged so many frames in it."""
        due = self.frames_taken() + frames
        self.end.write(data)
        self.host.turn_until(lambda: self.frames_taken() >= due)
        assert self.frames_taken() == due

    def feed(self, data: bytes) -> None:
        """Say `data`, less than 4096 bytes; returns when the device has read it, whatever it makes of it."""
        self.arrive(data)
        self.host.turn_until(lambda: self.end.unread() == 0)

    def arrive(self, data: bytes) -> None:
        """Say `data`; returns when all of it waits to be read."""
        self.end.write(data)
        block_until(lambda: self.end.unread() == len(data))

    def say(self) -> None:
        """One frame, now."""
        self.deliver(self.frame())

    def talk(self, frames: int) -> None:
        """So many frames, one each period of the node."""
        for _ in range(frames):
            self.host.pass_ms(PERIOD_MS)
            self.say()

    def reboot(self) -> None:
        self.seq = 0
        self.boot_ns = self.host.time_ns

    def reading(self, name: str = "estop") -> Reading:
        return self.device.reading(name, self.host.time_ns)

    def orders(self) -> list[AgentWords]:
        """Every frame the node has heard on this plug; waits for none."""
        return (whole_words if self.torn else agent_words)(self.end.listen())

    def await_orders(self, enough: Callable[[list[AgentWords]], bool]) -> list[AgentWords]:
        """The same, once `enough` is true of them."""
        end = time.monotonic() + DEADLINE_S
        while not enough(orders := self.orders()):
            assert time.monotonic() < end, f"only {orders[-5:]} at the end"
            self.end.listen(wait_ms=TURN_MS)
        return orders

    # What the rules ask for -------------------------------------------------------------------------------

    def start(self) -> None:
        self.device.open()
        self.talk(3)
        assert self.reading().quality is Quality.GOOD

    def unplug(self) -> None:
        self.end.unplug()
        self.far = None
        self.host.turn_until(lambda: not self.host.watched)

    def replug(self) -> None:
        self.far = FarEnd(self.link)
        self._orders_seen = 0

    def show(self, *, closed: bool) -> None:
        self.a = self.b = CLOSED if closed else 0
        self.say()

    def break_down(self) -> None:
        self.faults = 0x04
        self.say()
        self.faults = 0

    def babble(self) -> None:
        self.deliver(b"\x11\x22\x33\0")

    def speak(self, *, energised: bool) -> None:
        self.relay = int(energised)
        self.echo = self.device._seq  # it has heard the latest order
        self.say()

    def await_order(self, *, energise: bool) -> None:
        seen, byte = self._orders_seen, 0xA5 if energise else 0
        orders = self.await_orders(lambda orders: len(orders) > seen and orders[-1].energise == byte)
        self._orders_seen = len(orders)

    def energised_orders(self) -> int:
        return sum(order.energise == 0xA5 for order in self.orders())

    def release(self) -> None:
        """End of the test."""
        self.device.close()
        if self.far is not None:
            self.far.unplug()


FRAME_COUNTERS = frozenset(
    {"frames_good", "frames_unproven", "frames_repeated", "frames_bad_crc", "frames_malformed"}
)
