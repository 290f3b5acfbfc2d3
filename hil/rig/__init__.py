"""One interface to everything a hardware test may do to a robot's safety devices, whatever is behind it.

* `virtual`   simulated or firmware nodes on pseudo-terminals, on this machine (default)
* `physical`  a second board as injector, wired as its README says

The tests in `hil/suite` know only this page, so they run unchanged on either. Times are nanoseconds of the
rig's own clock: the virtual rig's is CLOCK_MONOTONIC, a physical one's is the injector's.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from agent.errors import WardenError
from hil.person import Person

Node = Literal["a", "b"]
"""`a`: the node with the inputs and reflex's relay. `b`: the one with remote's relay."""
Contact = Literal["a", "b"]
"""The two contacts of one input."""


class RigError(WardenError):
    """The rig did not do what it was told. `rig`: which; `reason`: its words."""

    def __init__(self, rig: str, reason: str) -> None:
        super().__init__(f"{rig}: {reason}")
        self.rig = rig
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay as the rig sees it. `changed_ns`: when it last opened or closed, by the rig's clock."""

    closed: bool
    changed_ns: int


class Rig(Protocol):
    """What a hardware test may do and see. Orders return the moment at which they took effect."""

    name: str
    guardian: Person

    def press(self, name: str) -> int:
        """Work a button, bumper or edge: its contacts open."""

    def release(self, name: str) -> int:
        """Let go of it: its contacts close."""

    def cut(self, name: str, contact: Contact) -> int:
        """Break the wire of one contact."""

    def weld(self, name: str, contact: Contact) -> int:
        """Bridge one contact: it stays closed whatever the device does."""

    def heal(self) -> None:
        """Undo everything: nothing pressed, cut, welded, silent or without power."""

    def vary(self, name: str, value: float) -> int:
        """Make a quantity read `value`, in its own unit."""

    def power(self, node: Node, *, on: bool) -> int:
        """Take a node's supply away, or give it back."""

    def relay(self, node: Node) -> Relay:
        """Read a node's relay on its own contacts, not by what the agent says."""

    def moving(self) -> bool:
        """Whether the robot moves, by its own sensors."""

    def kill(self, module: str) -> int:
        """SIGKILL to a module of the agent."""

    def freeze(self, module: str) -> int:
        """SIGSTOP to a module; `thaw` sends SIGCONT."""

    def thaw(self, module: str) -> None:
        """SIGCONT to the module that was frozen last."""

    def ask(self, module: str) -> dict[str, object]:
        """What the module says of itself (`warden status`), empty when it does not answer."""

    def faults(self) -> list[str]:
        """What is wrong now, in words; empty on a rig and a robot that are well."""
