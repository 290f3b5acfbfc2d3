"""The virtual rig: a whole site on this machine, its nodes simulated or the reference firmware."""

import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from hil.person import Person
from hil.rig import Contact, Node, Relay, RigError
from hil.site import Site, faults_of

INPUTS = ("estop", "bumper")
FAR_M = 2.0
QUANTITY = """
[inputs.front_range]
driver = "robot_link"
key = "front_range_m"
quantity = "range_m"
plausible_min = 0.0
plausible_max = 30.0

[[condition]]
id = "too_close"
input = "front_range"
below = 0.5
for_ms = 40
response = "hold"
clear = "auto"
hold_off_ms = 200
"""
"""The range sensor under test: here the simulated robot tells it."""


class VirtualRig:
    """As a context manager the site is started when entered and ended when left."""

    guardian: Person

    def __init__(self, folder: Path, nodes: Literal["simulator", "firmware"] = "simulator") -> None:
        """`folder`: short, since sockets live in it."""
        self.name = f"virtual ({nodes})"
        self.site = Site(folder, edit=lambda plan: plan + QUANTITY)
        if nodes == "firmware":
            from hil.firmware import FirmwareProcess

            self.site.node_a = FirmwareProcess(folder / "a")
            self.site.node_b = FirmwareProcess(folder / "b", inputs="spare")
        self._frozen: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.site.__enter__()
        self.guardian = Person(self.site.folder, "guardian-li", self.site.pki, self.site.broker)
        self.vary("front_range", FAR_M)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module in tuple(self._frozen):
            self.thaw(module)
        self.site.stop()

    def press(self, name: str) -> int:
        return self.site.node_a.control.press(name).at_ns

    def release(self, name: str) -> int:
        return self.site.node_a.control.release(name).at_ns

    def cut(self, name: str, contact: Contact) -> int:
        return self.site.node_a.control.cut(name, contact).at_ns

    def weld(self, name: str, contact: Contact) -> int:
        return self.site.node_a.control.weld(name, contact).at_ns

    def heal(self) -> None:
        for node in (self.site.node_a, self.site.node_b):
            node.control.deaf(on=False)
            node.control.silent(on=False)
        for name in INPUTS:
            self.site.node_a.control.release(name)
            self.site.node_a.control.mend(name)
            self.site.node_a.control.unweld(name)
        self.vary("front_range", FAR_M)

    def vary(self, name: str, value: float) -> int:
        if name != "front_range":
            raise RigError(self.name, f"no quantity is named {name!r}")
        at_ns = time.monotonic_ns()
        self.site.order("telemetry", values={"front_range_m": value})
        return at_ns

    def power(self, node: Node, *, on: bool) -> int:
        control = self._node(node).control
        # Without supply it hears and says nothing, and its relay falls; with it back it starts anew.
        control.deaf(on=not on)
        at_ns: int = (control.silent(on=False) if on else control.silent()).at_ns
        if not on:
            control.reboot()
        return at_ns

    def relay(self, node: Node) -> Relay:
        state = self._node(node).control.state()
        last = state.transitions[-1] if state.transitions else None
        return Relay(state.relay, last.at_ns if last is not None else 0)

    def moving(self) -> bool:
        return bool(self.site.account().get("moving"))

    def kill(self, module: str) -> int:
        return self.site.signal(module, signal.SIGKILL)

    def freeze(self, module: str) -> int:
        self._frozen[module] = self.site.pid(module)
        at_ns = time.monotonic_ns()
        os.kill(self._frozen[module], signal.SIGSTOP)
        return at_ns

    def thaw(self, module: str) -> None:
        os.kill(self._frozen.pop(module), signal.SIGCONT)

    def ask(self, module: str) -> dict[str, Any]:
        return self.site.ask(module)

    def faults(self) -> list[str]:
        return faults_of(self.ask)

    def _node(self, node: Node) -> Any:  # noqa: ANN401 - a simulator's process or the firmware's
        return self.site.node_a if node == "a" else self.site.node_b
