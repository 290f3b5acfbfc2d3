"""`systemd`: freeze, thaw, stop or kill a unit, or cut its network, over D-Bus (org.freedesktop.systemd1(5)).

    freeze       FreezeUnit; done when FreezerState is "frozen"
    thaw         ThawUnit; done when FreezerState is "running"
    stop         StopUnit, at the deadline KillUnit SIGKILL; done when ActiveState is "inactive" or "failed"
    kill         KillUnit SIGKILL, and StopUnit so that Restart= does not bring it back; done as for stop
    cut_network  IPAddressDeny=any and no IPAddressAllow=, until the next boot; done when the unit says so

What systemd answers to an order is not taken for the effect: the unit's property is asked until it says so. A
unit that is not loaded is a failure, not "inactive". Orders are sent again when the bus was lost in between.

Limits: IPAddressAllow= of a slice above the unit still lets through what it names, and sockets of other
families (Unix, netlink) stay open. `systemctl revert UNIT` gives the network back; that is a person's
decision.

Rights: root, or a polkit rule that grants this process's user org.freedesktop.systemd1.manage-units for
the unit.
"""

import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from drivers.adapters.base import MS, Surroundings, one_line
from drivers.adapters.bus import LOST, Bus, Call, Reply
from drivers.adapters.keeper import Job, StepKeeper

SYSTEMD: Final = "org.freedesktop.systemd1"
MANAGER_PATH: Final = "/org/freedesktop/systemd1"
MANAGER: Final = f"{SYSTEMD}.Manager"
UNIT: Final = f"{SYSTEMD}.Unit"
RETRY_MS: Final = 100
"""Between attempts to reach the bus."""
ASK_EVERY_MS: Final = 20
"""Between questions after the effect."""
EVERY_ADDRESS: Final = [(int(socket.AF_INET), bytes(4), 0), (int(socket.AF_INET6), bytes(16), 0)]
"""What `any` stands for (systemd.resource-control(5)): address family, address, prefix length."""

Properties: TypeAlias = Mapping[str, Any]


def _manager(member: str, signature: str, *body: object) -> Call:
    return Call(SYSTEMD, MANAGER_PATH, MANAGER, member, signature, body)


def _freeze(unit: str) -> tuple[Call, ...]:
    return (_manager("FreezeUnit", "s", unit),)


def _thaw(unit: str) -> tuple[Call, ...]:
    return (_manager("ThawUnit", "s", unit),)


def _stop(unit: str) -> tuple[Call, ...]:
    return (_manager("StopUnit", "ss", unit, "replace"),)


def _sigkill(unit: str) -> Call:
    return _manager("KillUnit", "ssi", unit, "all", int(signal.SIGKILL))


def _kill(unit: str) -> tuple[Call, ...]:
    return (_sigkill(unit), *_stop(unit))


def _cut_network(unit: str) -> tuple[Call, ...]:
    """An empty list resets what the unit's files allow: what is allowed goes before what is denied."""
    lists = [("IPAddressAllow", ("a(iayu)", [])), ("IPAddressDeny", ("a(iayu)", EVERY_ADDRESS))]
    return (_manager("SetUnitProperties", "sba(sv)", unit, True, lists),)


def _is_frozen(said: Properties) -> bool:
    return bool(said["FreezerState"] == "frozen")


def _is_running(said: Properties) -> bool:
    return bool(said["FreezerState"] == "running")


def _is_down(said: Properties) -> bool:
    return bool(said["ActiveState"] == "inactive" or said["ActiveState"] == "failed")


def _is_cut_off(said: Properties) -> bool:
    denied = said["IPAddressDeny"]
    covered = isinstance(denied, list) and all(entry in denied for entry in EVERY_ADDRESS)
    return covered and bool(said["IPAddressAllow"] == [])


@dataclass(frozen=True, slots=True)
class Action:
    """One row of the table above."""

    orders: Callable[[str], tuple[Call, ...]]
    asks: tuple[str, ...]
    """The properties that show the effect."""
    effect: Callable[[Properties], bool]
    last_resort: bool = False
    """True: SIGKILL at the deadline."""
    of_its_type: bool = False
    """True: the properties belong to the unit's own type (`...systemd1.Service`), not to every unit."""


ACTIONS: Mapping[str, Action] = {
    "freeze": Action(_freeze, ("FreezerState",), _is_frozen),
    "thaw": Action(_thaw, ("FreezerState",), _is_running),
    "stop": Action(_stop, ("ActiveState",), _is_down, last_resort=True),
    "kill": Action(_kill, ("ActiveState",), _is_down),
    "cut_network": Action(_cut_network, ("IPAddressAllow", "IPAddressDeny"), _is_cut_off, of_its_type=True),
}


class SystemdAdapter(StepKeeper):
    """Steps carried out on one unit; `args.action` says which. Each has a connection of its own."""

    def __init__(self, name: str, settings: Mapping[str, object], around: Surroundings) -> None:
        super().__init__(name, around, int(str(settings["grace_ms"])))
        self._unit = str(settings["unit"])
        self._path = str(settings["bus"])

    def _unfinished(self, job: Job) -> str:
        state = job.work.state if isinstance(job.work, _UnitWork) else ""
        return f"{super()._unfinished(job)}: {state}"

    def _start(self, job: Job, now_ns: int) -> "_UnitWork | None":
        action = ACTIONS.get(str(job.step.args.get("action")))
        if action is None:
            job.failed(f"args.action must be one of {', '.join(ACTIONS)}", now_ns)
            return None
        return _UnitWork(job, action, self._unit, self._path, self._around)


class _UnitWork:
    """One action on one unit: reach the bus, find the unit, give the orders, ask until the effect shows."""

    def __init__(self, job: Job, action: Action, unit: str, path: str, around: Surroundings) -> None:
        self._job = job
        self._action = action
        self._unit = unit
        self._bus_path = path
        self._around = around
        self._bus: Bus | None = None
        self._next_ns = 0
        self._object = ""
        self._asking = False
        self._said: dict[str, Any] = {}
        self._refusal = ""
        self._refused_before = False
        self._killed = False
        self.state = "the bus does not answer"
        """How far it got, for people."""
        self._reach(job.begun_ns)

    def tick(self, now_ns: int) -> None:
        """Reach the bus (again), take the last resort, ask for the effect: whatever is due."""
        if self._bus is None:
            if now_ns >= self._next_ns:
                self._reach(now_ns)
        elif self._object:
            if self._action.last_resort and now_ns >= self._job.deadline_ns and not self._killed:
                self._killed = True
                self._order(_sigkill(self._unit))
            if now_ns >= self._next_ns:
                self._ask()

    def end(self) -> None:
        """Let go of the bus; an order that is out stays out."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    # --------------------------------------------------------------------------- reach the bus, find the unit

    def _reach(self, now_ns: int) -> None:
        self._next_ns = now_ns + RETRY_MS * MS
        self._object, self._asking, self._killed = "", False, False
        bus = Bus(self._around.loop, self._bus_path, on_ready=self._find, on_end=self._lost)
        self._bus = bus
        trouble = bus.open()
        if trouble:
            self._lost(trouble)

    def _lost(self, reason: str) -> None:
        """Tried again from `tick`; systemd takes an order twice without harm."""
        self._bus = None
        self.state = reason

    def _find(self) -> None:
        self._call(_manager("LoadUnit", "s", self._unit), self._found)

    def _found(self, reply: Reply) -> None:
        match reply.body:
            case (str(path),) if not reply.error and path.startswith(f"{MANAGER_PATH}/unit/"):
                self.state = "systemd does not answer"
                self._get(path, UNIT, "LoadState", partial(self._loaded, path))
            case _:
                self._failed(f"{self._unit}: {_words(reply)}")

    def _loaded(self, path: str, reply: Reply) -> None:
        state = _variant(reply)
        if state != "loaded":
            words = f"is {state!r}: there is no such unit" if isinstance(state, str) else _words(reply)
            self._failed(f"{self._unit} {words}")
            return
        self._object = path
        for order in self._action.orders(self._unit):
            self._order(order)
        self._ask()

    # ------------------------------------------------------------------------------------- orders and effect

    def _order(self, call: Call) -> None:
        self._call(call, self._ordered)

    def _ordered(self, reply: Reply) -> None:
        """A refusal ends the step, unless what was asked for is there all the same: the next answer says."""
        if reply.error and not self._refusal:
            self._refusal = _words(reply)
            self._ask()

    def _ask(self) -> None:
        if self._asking or self._bus is None:
            return
        self._asking = True
        self._said = {}
        self._refused_before = bool(self._refusal)
        self._next_ns = self._around.now_ns() + ASK_EVERY_MS * MS
        for name in self._action.asks:
            self._get(self._object, self._interface(), name, partial(self._told, name))

    def _told(self, name: str, reply: Reply) -> None:
        if reply.error:
            self._failed(f"{name}: {_words(reply)}")
            return
        self._said[name] = _variant(reply)
        if len(self._said) == len(self._action.asks):
            self._asking = False
            self._judge()

    def _judge(self) -> None:
        self.state = ", ".join(f"{name} is {_short(value)}" for name, value in self._said.items())
        if self._action.effect(self._said):
            self._job.done(self.state + (", SIGKILL was needed" if self._killed else ""), self._now_ns())
        elif self._refused_before:
            self._failed(f"{self._refusal}; {self.state}")
        elif self._refusal:
            self._ask()

    # ----------------------------------------------------------------------------------------------- plumbing

    def _interface(self) -> str:
        if not self._action.of_its_type:
            return UNIT
        return f"{SYSTEMD}.{self._unit.rpartition('.')[2].capitalize()}"

    def _get(self, path: str, interface: str, name: str, then: Callable[[Reply], None]) -> None:
        properties = "org.freedesktop.DBus.Properties"
        self._call(Call(SYSTEMD, path, properties, "Get", "ss", (interface, name)), then)

    def _call(self, call: Call, then: Callable[[Reply], None]) -> None:
        if self._bus is not None:
            self._bus.call(call, lambda reply: None if reply.error == LOST else then(reply))

    def _failed(self, reason: str) -> None:
        self._job.failed(reason, self._now_ns())

    def _now_ns(self) -> int:
        return self._around.now_ns()


def _variant(reply: Reply) -> Any:  # noqa: ANN401 - whatever the property holds
    """The value of a property; None where the reply holds none."""
    match reply.body:
        case ((str(), value),):
            return value
    return None


def _words(reply: Reply) -> str:
    text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
    return one_line(f"{reply.error}: {text}" if text else reply.error or "an answer of another shape", 150)


def _short(value: object) -> str:
    return one_line(repr(value), 60)
