"""A real D-Bus daemon on a private socket, and on it something that behaves as systemd does, or does not.

The far end speaks through another library (dbus-fast) than the adapter (jeepney), and the daemon between them
checks every message, so two implementations of the protocol meet. No real systemd is run here.
"""

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dbus_fast import DBusError, ErrorType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from tests.waiting import block_until

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"""
ANY = [(2, bytes(4), 0), (10, bytes(16), 0)]
"""What `IPAddressDeny=any` becomes: all of IPv4, all of IPv6."""


class Daemon:
    """`dbus-daemon`, as the system runs it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bus"
        self._config = folder / "bus.conf"
        self._config.write_text(CONFIG.format(path=self.path))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            "dbus-daemon",
            f"--config-file={self._config}",
            "--nofork",
            "--nopidfile",
            "--print-address",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith(b"unix:path=")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self.path.unlink(missing_ok=True)


@contextmanager
def daemon(folder: Path) -> Iterator[Daemon]:
    running = Daemon(folder)
    running.start()
    try:
        block_until(running.path.exists)
        yield running
    finally:
        running.stop()


@dataclass
class Unit:
    """One unit as systemd shows it."""

    load: str = "loaded"
    active: str = "active"
    freezer: str = "running"
    allow: list[object] = field(default_factory=lambda: [(2, bytes([127, 0, 0, 0]), 8)])
    deny: list[object] = field(default_factory=list)


Reaction = Callable[["Systemd", Message], Message | None]
"""What a method does; None leaves the caller without an answer."""


class Systemd:
    """Enough of org.freedesktop.systemd1 for one unit; `react` changes what a method does."""

    def __init__(self) -> None:
        self.unit = Unit()
        self.calls: list[tuple[str, list[object]]] = []
        self.asked: list[tuple[str, str]] = []
        """Interface and name of each property that was asked for."""
        self.react: dict[str, Reaction] = {}

    def handle(self, message: Message) -> Message | bool | None:
        """dbus-fast's handler: a Message answers, True says that it is taken care of."""
        if message.message_type is not MessageType.METHOD_CALL or not str(message.path).startswith(PREFIX):
            return None
        if message.interface == "org.freedesktop.DBus.Properties":
            self.asked.append((message.body[0], message.body[1]))
        else:
            self.calls.append((str(message.member), list(message.body)))
        reaction = self.react.get(str(message.member), DEFAULT[str(message.member)])
        try:
            return reaction(self, message) or True
        except DBusError as error:
            return error._as_message(message)

    def orders(self) -> list[str]:
        return [member for member, _ in self.calls if member != "LoadUnit"]


PREFIX = "/org/freedesktop/systemd1"


def returns(message: Message, signature: str = "", *body: object) -> Message:
    return Message.new_method_return(message, signature, list(body))


def refuses(name: str, text: str) -> Reaction:
    def react(_: Systemd, message: Message) -> Message:
        return Message.new_error(message, name, text)

    return react


def does(**changes: object) -> Reaction:
    """Answers, and the unit is changed."""

    def react(systemd: Systemd, message: Message) -> Message:
        for name, value in changes.items():
            setattr(systemd.unit, name, value)
        return returns(message)

    return react


def starts_a_job(**changes: object) -> Reaction:
    def react(systemd: Systemd, message: Message) -> Message:
        does(**changes)(systemd, message)
        return returns(message, "o", f"{PREFIX}/job/1")

    return react


def never_answers(_: Systemd, message: Message) -> None:
    pass


def _load_unit(_: Systemd, message: Message) -> Message:
    return returns(message, "o", f"{PREFIX}/unit/robot_2eservice")


def _set_properties(systemd: Systemd, message: Message) -> Message:
    """As systemd does: an empty list resets, any other adds to what is there."""
    for name, value in message.body[2]:
        assert value.signature == "a(iayu)", "systemd knows these lists by this type alone"
        attribute = {"IPAddressAllow": "allow", "IPAddressDeny": "deny"}[name]
        setattr(
            systemd.unit, attribute, [*getattr(systemd.unit, attribute), *value.value] if value.value else []
        )
    return returns(message)


def _get(systemd: Systemd, message: Message) -> Message:
    interface, name = message.body
    unit = systemd.unit
    values = {
        ("Unit", "LoadState"): Variant("s", unit.load),
        ("Unit", "ActiveState"): Variant("s", unit.active),
        ("Unit", "FreezerState"): Variant("s", unit.freezer),
        ("Service", "IPAddressAllow"): Variant("a(iayu)", unit.allow),
        ("Service", "IPAddressDeny"): Variant("a(iayu)", unit.deny),
    }
    value = values.get((interface.removeprefix("org.freedesktop.systemd1."), name))
    if value is None:
        raise DBusError(ErrorType.UNKNOWN_PROPERTY, f"Unknown interface {interface} or property {name}.")
    return returns(message, "v", value)


DEFAULT: dict[str, Reaction] = {
    "LoadUnit": _load_unit,
    "Get": _get,
    "FreezeUnit": does(freezer="frozen"),
    "ThawUnit": does(freezer="running"),
    "StopUnit": starts_a_job(active="inactive"),
    "KillUnit": does(active="failed"),
    "SetUnitProperties": _set_properties,
}


@asynccontextmanager
async def systemd_on(path: Path) -> AsyncIterator[Systemd]:
    """Something that answers as systemd on the bus at `path` until the block ends."""
    systemd = Systemd()
    bus = await MessageBus(bus_address=f"unix:path={path}").connect()
    bus.add_message_handler(systemd.handle)
    await bus.request_name("org.freedesktop.systemd1")
    yield systemd
    if bus.connected:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # the library says no return type
