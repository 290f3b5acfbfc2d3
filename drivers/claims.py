"""What of its device each entry of a plan takes, and which two cannot stand beside each other. Pure.

One line may be looked at by many and driven by one. What is shared must be shared within one process: the
second that asks the kernel for a line is refused it, and would learn so on the robot, with the plan approved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import cast

from drivers.table import INPUT, DriverKind, Settings


class Part(Enum):
    """What a line is to the entry that takes it."""

    INPUT = "an input"
    MIRROR = "the read-back of an output"
    DRIVE = "an output"


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of a device, taken by one entry.

    `line`: as an address names it. `key`: the setting that names it, "" where it is the entry's first line.
    `use`: how the line is asked for; only those who ask for the very same can share it.
    """

    line: str
    part: Part
    use: object = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim of a plan. `entry`: key of the entry. `channel`: whose process opens it."""

    entry: str
    channel: str
    claim: Claim

    @property
    def key(self) -> str:
        """The key in the plan: `outputs.relay_a.readback_line`, or `outputs.relay_a` for the first line."""
        return f"{self.entry}.{self.claim.key}" if self.claim.key else self.entry


def claims_of(row: DriverKind, role: str, settings: Settings) -> Sequence[Claim]:
    """Everything that an entry with these checked settings takes on its device."""
    if row.claims:
        module, _, name = row.claims.partition(":")
        return cast("Sequence[Claim]", getattr(import_module(module), name)(role, settings))
    part = Part.INPUT if role == INPUT else Part.DRIVE
    return (Claim(row.roles[role].line.format(**settings), part),)


def clash(first: Taken, second: Taken) -> str:
    """Why two claims to one line cannot stand beside each other; "" when they can."""
    one, other = first.claim, second.claim
    if Part.DRIVE in (one.part, other.part):
        return "one line takes one output"
    if one.part is other.part is Part.MIRROR:
        return "a mirror contact is one relay's"
    if first.channel != second.channel:
        return f"{first.channel} opens it, and {second.channel} cannot as well"
    return "" if one.use == other.use else "those who share a line must ask for it in the same way"


def clashes(taken: Sequence[tuple[str, Taken]]) -> Iterator[tuple[str, Taken, Taken, str]]:
    """(address, first, second, why) for each claim that cannot stand beside one before it, once.

    `taken`: (address, claim), in the order of their rights: who comes first keeps the line.
    """
    held: dict[str, list[Taken]] = {}
    for address, claim in taken:
        others = held.setdefault(address, [])
        found = next(((other, why) for other in others if (why := clash(other, claim))), None)
        if found is not None:
            yield address, found[0], claim, found[1]
        others.append(claim)
