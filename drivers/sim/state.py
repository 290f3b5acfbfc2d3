"""One simulated input or output and everything that can be done to it. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace

from agent.core.readings import Quality


@dataclass(frozen=True, slots=True)
class SimState:
    """One input or output.

    `pressed`: a contact's device is worked. `cut_a`, `cut_b`: the wire of that contact is broken; of a relay,
    either one opens it. `welded_a`, `welded_b`: that contact stays closed; of a relay, either one closes it.
    `silent`: nothing comes. `faulty`: it says that it is broken. `value`: of a quantity, in its unit.
    `jammed`: an output's relay does not move any more.
    """

    pressed: bool = False
    cut_a: bool = False
    cut_b: bool = False
    welded_a: bool = False
    welded_b: bool = False
    silent: bool = False
    faulty: bool = False
    value: float = 0.0
    jammed: bool = False

    @property
    def contacts(self) -> tuple[bool, bool]:
        """What the two contacts read; True = closed (safe)."""
        closed_a = self.welded_a or not self.pressed
        closed_b = self.welded_b or not self.pressed
        return closed_a and not self.cut_a, closed_b and not self.cut_b

    def relay(self, *, coil: bool, before: bool) -> bool:
        """Where an output's relay is, by its coil and where it was `before`; True = closed (energised)."""
        if self.jammed:
            return before
        return (coil or self.welded_a or self.welded_b) and not (self.cut_a or self.cut_b)

    @property
    def quality(self) -> Quality:
        """What is to be believed of it."""
        if self.faulty:
            return Quality.FAULT
        return Quality.STALE if self.silent else Quality.GOOD


Act = Callable[[SimState, float], SimState]

ACTS: Mapping[str, Act] = {
    "press": lambda state, _: replace(state, pressed=True),
    "release": lambda state, _: replace(state, pressed=False),
    "cut_a": lambda state, _: replace(state, cut_a=True),
    "cut_b": lambda state, _: replace(state, cut_b=True),
    "weld_a": lambda state, _: replace(state, welded_a=True),
    "weld_b": lambda state, _: replace(state, welded_b=True),
    "silence": lambda state, _: replace(state, silent=True),
    "break": lambda state, _: replace(state, faulty=True),
    "vary": lambda state, value: replace(state, value=value),
    "jam": lambda state, _: replace(state, jammed=True),
    "heal": lambda state, _: SimState(value=state.value),
}
"""Every word of a script and of the panel. `heal` undoes all but the value."""


def act(state: SimState, word: str, value: float = 0.0) -> SimState:
    """The state after one act; KeyError for a word that is none."""
    return ACTS[word](state, value)


def to_json(state: SimState) -> dict[str, object]:
    """JSON-able."""
    return asdict(state)


def from_json(told: object) -> SimState:
    """The inverse of `to_json`; ValueError for what is no state. Missing fields keep their default."""
    if not isinstance(told, Mapping):
        raise ValueError("a state must be an object")  # noqa: TRY004 - as for every wrong field
    kinds = {field.name: float if field.name == "value" else bool for field in fields(SimState)}
    for name, value in told.items():
        kind = kinds.get(str(name))
        numeric = kind is float and isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind is None or not (numeric or (kind is bool and isinstance(value, bool))):
            raise ValueError(f"{name}: is not known or of the wrong type")
    return SimState(**{str(name): value for name, value in told.items()})
