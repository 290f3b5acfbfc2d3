"""A serial port with contacts and a relay on its modem lines, and whatever can be wrong with them.

The world outlives the port, as cabinets outlive adapters. `Scripted` is one plug of it and fills in
`drivers.serial_contact.lines.Port`.
"""

import queue
import socket

from drivers.serial_contact.lines import NONE, Line
from drivers.serial_line import LineError
from tests.drivers.hosts import FakeHost

PATH = "the port"


class World:
    """`a`, `b`: the contacts, True = closed. `mirror`: the relay's, to DCD and to RI."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.a = self.b = True
        self.mirror = False
        self.stuck = NONE
        """Lines that are live whatever the supply does."""
        self.lag_ns = 0
        """How late a change of the supply gets to the lines that it feeds."""
        self.silent = False
        """The port answers nothing."""
        self.deaf = False
        """The port takes nothing."""
        self.edges_told = True
        """The kernel has TIOCMIWAIT here."""
        self.edges_end = True
        """A call that waits for an edge ends with its port."""
        self.port: Scripted | None = None
        self.plugged = True
        self.opened = 0

    @property
    def plug(self) -> "Scripted":
        assert self.port is not None, "nobody has the port open"
        return self.port

    def open(self, path: str) -> "Scripted":
        """As `ModemPort(path)`."""
        assert path == PATH
        if not self.plugged:
            raise LineError(path, "not there")
        self.opened += 1
        self.port = Scripted(self)
        return self.port

    def unplug(self) -> None:
        self.plugged = False
        if self.port is not None:
            self.port.hang_up()

    def levels(self, *, lit: bool) -> Line:
        """What the lines show that are not driven by the port."""
        closed = {Line.CTS: self.a, Line.DSR: self.b, Line.DCD: self.mirror, Line.RI: self.mirror}
        high = self.stuck
        for line, is_closed in closed.items():
            if lit and is_closed:
                high |= line
        return high


class Scripted:
    """One plug. `log`: how DTR and RTS were driven since, with the time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._near, self.far = socket.socketpair()
        self._near.setblocking(False)
        self._edges: queue.Queue[bool] = queue.Queue()
        self.driven = NONE
        self._was_lit = False
        self._changed_ns = world.host.time_ns
        self.log: list[tuple[int, Line, bool]] = []
        self.waiters: list[ScriptedWaiter] = []
        self.closed = False
        self.drive(Line.DTR | Line.RTS, high=False)

    def fileno(self) -> int:
        return self._near.fileno()

    def read(self) -> Line:
        assert not self.closed
        if self._world.silent:
            raise LineError(PATH, "no word")
        settled = self._world.host.time_ns - self._changed_ns >= self._world.lag_ns
        lit = Line.DTR in self.driven if settled else self._was_lit
        return self.driven | self._world.levels(lit=lit)

    def drive(self, lines: Line, *, high: bool) -> None:
        if self._world.deaf:
            raise LineError(PATH, "takes nothing")
        self.set_by_somebody(lines, high=high)
        self.log += [(self._world.host.time_ns, line, high) for line in lines]

    def set_by_somebody(self, lines: Line, *, high: bool) -> None:
        """Another process, or the device through `drive`."""
        before = self.driven
        self.driven = before | lines if high else before & ~lines
        if Line.DTR in before ^ self.driven:
            self._was_lit, self._changed_ns = Line.DTR in before, self._world.host.time_ns

    def drain(self) -> int:
        try:
            data = self._near.recv(256)
        except BlockingIOError:
            return 0
        if not data:
            raise LineError(PATH, "hung up")
        return len(data)

    def waiter(self, lines: Line) -> "ScriptedWaiter":
        assert Line.RTS not in lines
        self.waiters.append(ScriptedWaiter(self._world, self._edges))
        return self.waiters[-1]

    def close(self) -> None:
        if not self.closed:
            self.set_by_somebody(Line.DTR | Line.RTS, high=False)
            self.log += [(self._world.host.time_ns, line, False) for line in Line.DTR | Line.RTS]
            self.closed = True
            self._near.close()
            self.far.close()
            self._edges.put(False)

    def hang_up(self) -> None:
        self.far.close()
        self._edges.put(False)

    def edge(self) -> None:
        """The kernel has seen one."""
        self._edges.put(True)

    def driven_since_plugged(self, line: Line) -> list[bool]:
        """How `line` was driven, in order."""
        return [high for _, driven, high in self.log if driven == line]


class ScriptedWaiter:
    """Fills in `drivers.serial_contact.lines.Waiter`."""

    def __init__(self, world: World, edges: "queue.Queue[bool]") -> None:
        self._world = world
        self._edges = edges
        self.closed = False

    def wait(self) -> None:
        if not self._world.edges_told:
            raise LineError(PATH, "has no such call")
        while not self._edges.get():
            if self._world.edges_end:
                raise LineError(PATH, "hung up")

    def close(self) -> None:
        self.closed = True
