"""One contact input, single or two-channel, from its readings (ISO 13850; DESIGN, "Drivers").

Opening acts at once; closing counts only after the debounce time; two channels that disagree for longer
than the discrepancy time are a fault, and (by default) the device must then be worked once — both
contacts seen open, then both closed — before anyone may resume: a welded contact looks healthy again as
soon as the button is released.
"""

from dataclasses import dataclass, replace

from agent.core.plan import InputSpec
from agent.core.readings import Quality, Reading


@dataclass(frozen=True, slots=True)
class ContactMemory:
    """One contact between turns.

    `closing_ns`: since when it has read closed; `disagree_ns`: since when the channels differ;
    `needs_cycle`: the proof cycle is due; `opened`: its first half is done.
    """

    closed: bool | None = None
    closing_ns: int | None = None
    disagree_ns: int | None = None
    needs_cycle: bool = False
    opened: bool = False


FRESH_CONTACT = ContactMemory()


@dataclass(frozen=True, slots=True)
class Contact:
    """What is known now. `closed`: True = safe, None = unknown."""

    closed: bool | None
    quality: Quality
    detail: str = ""


def watch_contact(
    spec: InputSpec, memory: ContactMemory, reading: Reading, now_ns: int
) -> tuple[ContactMemory, Contact]:
    """One turn of one contact. An unknown reading gives `closed` None and forgets any closing under way."""
    if reading.quality is not Quality.GOOD or not isinstance(reading.value, bool):
        quality = Quality.FAULT if reading.quality is Quality.GOOD else reading.quality
        return _blind(memory), Contact(None, quality, reading.detail)
    first = reading.value
    second = first if reading.second is None else reading.second
    memory = _disagreement(memory, first, second, now_ns)
    memory = _closing(spec, memory, first and second, now_ns)
    memory = _cycle(memory, first, second)
    if memory.disagree_ns is not None and now_ns - memory.disagree_ns >= spec.discrepancy_ns:
        memory = replace(memory, needs_cycle=spec.proof_cycle, opened=False)
        return memory, Contact(False, Quality.FAULT, "the two channels disagree")
    return memory, Contact(memory.closed, Quality.GOOD, reading.detail)


def _blind(memory: ContactMemory) -> ContactMemory:
    if memory.closed is None and memory.closing_ns is None and memory.disagree_ns is None:
        return memory
    return replace(memory, closed=None, closing_ns=None, disagree_ns=None)


def _disagreement(memory: ContactMemory, first: bool, second: bool, now_ns: int) -> ContactMemory:
    if first == second:
        return memory if memory.disagree_ns is None else replace(memory, disagree_ns=None)
    return replace(memory, disagree_ns=now_ns) if memory.disagree_ns is None else memory


def _closing(spec: InputSpec, memory: ContactMemory, both: bool, now_ns: int) -> ContactMemory:
    if not both:
        if memory.closed is False and memory.closing_ns is None:
            return memory
        return replace(memory, closed=False, closing_ns=None)
    if memory.closed:
        return memory
    since = now_ns if memory.closing_ns is None else memory.closing_ns
    if now_ns - since >= spec.debounce_ns:
        return replace(memory, closed=True, closing_ns=None)
    return replace(memory, closing_ns=since)


def _cycle(memory: ContactMemory, first: bool, second: bool) -> ContactMemory:
    if not memory.needs_cycle:
        return memory
    if not first and not second:
        return memory if memory.opened else replace(memory, opened=True)
    if memory.opened and memory.closed:
        return replace(memory, needs_cycle=False, opened=False)
    return memory
