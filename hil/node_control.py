"""How tests and the demo start the simulated node and order it about.

Unlike the node itself this side may know the project: its error is one of ours.
"""

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.errors import WardenError
from hil.child import Child
from hil.node_orders import ask, connect

ANSWER_TIMEOUT_S = 2.0
START_TIMEOUT_S = 10.0
_LOOK_AGAIN_S = 0.005


class NodeError(WardenError):
    """The simulated node did not start, is gone, or refused an order."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Done:
    """An order was carried out at `at_ns` (CLOCK_MONOTONIC, like all times here).

    `frame_ns`: right before the kernel took the frame that told of the change; None where nothing
    changed, or no frame got out.
    """

    at_ns: int
    frame_ns: int | None


@dataclass(frozen=True, slots=True)
class RelayChange:
    """`why`: permitted, ordered, silence or reboot."""

    at_ns: int
    closed: bool
    why: str


@dataclass(frozen=True, slots=True)
class InputState:
    """What the node reads at one input (True = closed, safe) and what was done to it."""

    a: bool
    b: bool
    pressed: bool
    cut: tuple[str, ...]
    welded: tuple[str, ...]
    changed_ns: int


@dataclass(frozen=True, slots=True)
class NodeState:
    """The whole node at one moment. `transitions`: the relay's last 64, oldest first."""

    relay: bool
    transitions: tuple[RelayChange, ...]
    inputs: Mapping[str, InputState]
    counters: Mapping[str, int]
    seq: int | None
    echo: int
    node_ms: int
    faults: int
    silent: bool
    deaf: bool
    repeating: bool
    jammed: bool
    plugged: bool
    opened: bool
    """Somebody has the port open."""


class NodeControl:
    """A client of the node's control socket: blocking, one order at a time.

    Every method raises NodeError when the node is gone, does not answer within `timeout_s`, or refuses.
    """

    def __init__(self, path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Connects at the first order, and again after the node has hung up."""
        self.path = path
        self._timeout_s = timeout_s
        self._link: socket.socket | None = None

    def order(self, name: str, **arguments: int | str) -> dict[str, Any]:
        """Any row of `hil.node_orders.ORDERS`; the node's whole answer."""
        try:
            if self._link is None:
                self._link = connect(self.path, self._timeout_s)
            answer = ask(self._link, {"order": name} | arguments)
        except OSError as error:
            self.close()
            raise NodeError(self.path, str(error)) from error
        if not answer["ok"]:
            raise NodeError(self.path, str(answer["reason"]))
        return answer

    def close(self) -> None:
        """Hangs up; idempotent."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def press(self, name: str) -> Done:
        """Pushes a button in."""
        return self._do("press", input=name)

    def release(self, name: str) -> Done:
        """Pulls a button out."""
        return self._do("release", input=name)

    def cut(self, name: str, channel: str = "a") -> Done:
        """Cuts the wire of one channel (`a` or `b`)."""
        return self._do("cut", input=name, channel=channel)

    def mend(self, name: str, channel: str = "both") -> Done:
        """Mends what `cut` did."""
        return self._do("mend", input=name, channel=channel)

    def weld(self, name: str, channel: str = "a") -> Done:
        """Welds the contact of one channel: it stays closed."""
        return self._do("weld", input=name, channel=channel)

    def unweld(self, name: str, channel: str = "both") -> Done:
        """Undoes what `weld` did."""
        return self._do("unweld", input=name, channel=channel)

    def silent(self, on: bool = True) -> Done:
        """Sends nothing, still listens (False: sends again)."""
        return self._do("silent" if on else "speak")

    def deaf(self, on: bool = True) -> Done:
        """Ignores what it hears (False: hears again)."""
        return self._do("deaf" if on else "listen")

    def repeat(self, on: bool = True) -> Done:
        """Sends the same seq again and again (False: counts on)."""
        return self._do("repeat" if on else "advance")

    def jam(self, on: bool = True) -> Done:
        """Welds the relay's own contact as it stands (False: frees it)."""
        return self._do("jam" if on else "free")

    def skew(self, step: int) -> Done:
        """Lets the next seq jump ahead by `step` more."""
        return self._do("skew", step=step)

    def faults(self, value: int) -> Done:
        """Sets the faults byte."""
        return self._do("faults", value=value)

    def garbage(self, count: int, seed: int = 0) -> bytes:
        """Puts `count` seeded random bytes on the line; gives them."""
        return bytes.fromhex(str(self.order("garbage", count=count, seed=seed)["bytes"]))

    def unplug(self) -> Done:
        """The line hangs up and its name is gone."""
        return self._do("unplug")

    def plug(self) -> Done:
        """A new line under the old name."""
        return self._do("plug")

    def reboot(self) -> Done:
        """Relay open, seq and node_ms from the start."""
        return self._do("reboot")

    def quit(self) -> Done:
        """Ends the simulator."""
        return self._do("quit")

    def state(self) -> NodeState:
        """Everything about the node, now."""
        answer = self.order("state")
        transitions = tuple(RelayChange(**change) for change in answer.pop("transitions"))
        inputs = {name: _input_state(fields) for name, fields in answer.pop("inputs").items()}
        rest = {key: answer[key] for key in NodeState.__dataclass_fields__ if key in answer}
        return NodeState(transitions=transitions, inputs=inputs, **rest)

    def _do(self, name: str, **arguments: int | str) -> Done:
        answer = self.order(name, **arguments)
        return Done(answer["at_ns"], answer["frame_ns"])


def _input_state(fields: dict[str, Any]) -> InputState:
    return InputState(**(fields | {"cut": tuple(fields["cut"]), "welded": tuple(fields["welded"])}))


class NodeProcess:
    """`python -m hil.node` in `folder`: `link` is the serial port, `report` its JSON lines.

    `process` freezes and kills it; `control` orders it about. As a context manager it is started when
    entered and ended when left.
    """

    process: Child

    def __init__(self, folder: Path, inputs: str = "estop,bumper", *, link: Path | None = None) -> None:
        """`inputs`: as for --inputs. `link`: where the port is to be, when not in `folder`."""
        self.link = link or folder / "node.tty"
        self.report = folder / "node.report.jsonl"
        self.control = NodeControl(folder / "node.ctl")
        self._output = folder / "node.out"
        self._inputs = inputs

    def start(self) -> Self:
        """Until it takes orders and its port is there; raises NodeError after 10 s or when it ends."""
        arguments = ("--link", self.link, "--control", self.control.path, "--inputs", self._inputs)
        self.process = Child.module("hil.node", (*arguments, "--report", self.report), self._output)
        try:
            self._until(self._answers)
        except NodeError:
            self.process.stop()
            raise
        return self

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.control.close()
        return self.process.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            return self.control.state().plugged
        except NodeError:
            return False

    def _until(self, true: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + START_TIMEOUT_S
        while not true():
            if self.process.ended is not None:
                raise NodeError(self.link, f"the node ended at its start: {self.process.last_words()}")
            if time.monotonic() > give_up_s:
                raise NodeError(self.link, f"the node did not start in {START_TIMEOUT_S:g} s")
            time.sleep(_LOOK_AGAIN_S)
