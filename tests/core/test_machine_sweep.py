"""Every state of the machine with every input: what may leave a stop, and what may not.

A state is a cause of every response and clear condition, active or not, covered by a resume or not, with
power kept, running out or gone, on the disk or not. An input is every mixture of what may be seen and
asked in one turn. `Turn.ends` says once more, in other words, what ends a cause; the machine must end
exactly that. Each state is well formed before and after, so no chain of turns leads to one left out here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import pytest

from agent.core.causes import MS, PEER_STOP, Clear
from agent.core.machine import ACK_WINDOW_NS, Cause, Demand, Inputs, Outcome, State, permit_fields, step
from agent.core.responses import Response
from tests.core.factories import BEFORE, FRESH, NOW_NS, SS1_NS, row

OTHER = "other"
"""A stop that comes in the same turn."""
HOLD_OFF_MS = 100
ROWS = {
    key: row(key, Response.HOLD, Clear.RESUME, HOLD_OFF_MS) for key in ("cause", "second", PEER_STOP, OTHER)
}
EPOCH = 7
TTL_NS = 100 * MS
RUN_OUT_NS = NOW_NS + 300 * MS

POWER: dict[Response, tuple[int | None, ...]] = {
    Response.HOLD: (None, RUN_OUT_NS, 0),
    Response.SAFE_MODE: (RUN_OUT_NS, 0),
}
"""What power may be in each stop; a hold that came after a worse stop has what that one left."""

TRUE, FALSE, UNKNOWN = "true", "false", "unknown"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn sees of each cause, and what is asked of it."""

    looks: tuple[str, ...]
    durable: bool
    granted: bool = False
    refused: bool = False
    lift: bool = False
    unreset: bool = False
    other: bool = False

    def inputs(self, causes: tuple[Cause, ...]) -> Inputs:
        looks = list(zip(causes, self.looks, strict=True))
        active = {c.key: Demand(c.response, c.clear) for c, look in looks if look == TRUE}
        keys = frozenset(c.key for c in causes)
        return Inputs(
            active={**active, OTHER: Demand()} if self.other else active,
            fresh=FRESH,
            durable_epoch=EPOCH if self.durable else EPOCH - 1,
            unknown=frozenset(c.key for c, look in looks if look == UNKNOWN),
            unreset=keys if self.unreset else frozenset(),
            granted=self.granted,
            refused=self.refused,
            lift=keys if self.lift else frozenset(),
        )

    def ends(self, cause: Cause, look: str, *, covered: bool) -> bool:
        """Whether this turn meets the cause's clear condition."""
        away = look == FALSE or (look == UNKNOWN and not cause.active)
        if not away or (cause.response.stops and not self.durable):
            return False
        resumed = self.granted or covered
        return {
            Clear.AUTO: look == FALSE and not cause.active and NOW_NS - cause.gone_ns >= HOLD_OFF_MS * MS,
            Clear.RESUME: resumed,
            Clear.RESET_AND_RESUME: resumed and not self.unreset,
            Clear.REEVALUATION: self.lift,
            Clear.NEVER: False,
        }[cause.clear]

    def new_stop(self, causes: tuple[Cause, ...]) -> bool:
        """Whether a stop came that no resume given before can cover."""
        again = (
            look == TRUE and not c.active and c.response.stops
            for c, look in zip(causes, self.looks, strict=True)
        )
        return self.other or any(again)


# ---------------------------------------------------------------------------------- what holds in each case


def well_formed(state: State) -> bool:
    """What every state is that `step` leaves: the response and the rest follow from the causes."""
    worst = max((c.response for c in state.causes), default=Response.NONE)
    limit = state.power_limit_ns
    if worst.stops:
        power_fits = (
            limit == 0 or (worst == Response.SAFE_MODE and limit is not None) or worst == Response.HOLD
        )
    else:
        power_fits = limit is None
    return state.response == worst and (state.stopped_ns > 0) == worst.stops and power_fits


def hold_to(before: State, turn: Turn, after: State, outcome: Outcome) -> None:
    """Every promise of the machine's docstring, for one turn. Raises AssertionError."""
    looks = dict(zip((c.key for c in before.causes), turn.looks, strict=True))
    covers = {c.key: c.acked_until_ns > NOW_NS and not turn.new_stop(before.causes) for c in before.causes}
    met = [c for c in before.causes if turn.ends(c, looks[c.key], covered=covers[c.key])]
    lifted = [c.key for c in met if c.clear == Clear.REEVALUATION]
    ended = [c.key for c in met if c.key not in lifted]
    raised = [c.key for c in before.causes if looks[c.key] == TRUE and not c.active]
    raised += [OTHER] if turn.other else []
    gone = [c.key for c in before.causes if looks[c.key] == FALSE and c.active]

    assert outcome.raised == tuple(raised)
    assert outcome.gone == tuple(gone)
    assert outcome.cleared == tuple(ended)
    assert outcome.changed == bool(raised or gone or ended or lifted)
    kept = [c.key for c in before.causes if c.key not in ended]
    assert [c.key for c in after.causes] == kept + ([OTHER] if turn.other else [])
    assert well_formed(after)
    for cause in before.causes:
        if cause.key in kept:
            hold_cause_to(cause, looks[cause.key], turn, after, lifted=cause.key in lifted)
    hold_epoch_to(before, after, outcome)
    hold_power_to(before, after)
    renewed = outcome.changed or turn.granted or turn.refused
    assert after.half == (FRESH if renewed else BEFORE)


def hold_cause_to(before: Cause, look: str, turn: Turn, state: State, *, lifted: bool) -> None:
    after = next(c for c in state.causes if c.key == before.key)
    assert after.active == (look == TRUE or (look == UNKNOWN and before.active))
    assert after.since_ns == before.since_ns
    if lifted:
        assert (after.response, after.clear) == (min(before.response, Response.EMERGENCY_STOP), Clear.RESUME)
    else:
        assert (after.response, after.clear) == (before.response, before.clear)
    if after.acked_until_ns:
        assert after.key == PEER_STOP
        assert after.acked_until_ns in (before.acked_until_ns, NOW_NS + ACK_WINDOW_NS)
        assert turn.granted or after.acked_until_ns > NOW_NS


def hold_epoch_to(before: State, after: State, outcome: Outcome) -> None:
    rose = after.response.stops and after.response > before.response
    assert outcome.rose == rose
    assert after.epoch == before.epoch + rose
    if before.response.stops and after.response.stops:
        assert after.stopped_ns == before.stopped_ns
    elif after.response.stops:
        assert after.stopped_ns == NOW_NS


def hold_power_to(before: State, after: State) -> None:
    """What the permit says now and ten minutes from now."""
    if before.response.stops and after.response.stops and before.power_limit_ns is not None:
        assert after.power_limit_ns is not None
        assert after.power_limit_ns <= before.power_limit_ns
    for now_ns in (NOW_NS, NOW_NS + 600_000 * MS):
        said = permit_fields(after, now_ns, ttl_ns=TTL_NS, ss1_ns=SS1_NS, restricted_speed_permille=300)
        assert (said.epoch, said.response) == (after.epoch, after.response)
        assert (said.motion_until_ns == 0) == (said.speed_permille == 0) == after.response.stops
        if not after.response.stops:
            assert said.motion_until_ns == now_ns + TTL_NS
        if after.power_limit_ns is None:
            assert said.power_until_ns == now_ns + TTL_NS + SS1_NS
        else:
            assert said.power_until_ns == after.power_limit_ns <= NOW_NS + SS1_NS
        if after.response >= Response.EMERGENCY_STOP:
            assert said.power_until_ns == 0


# ------------------------------------------------------------------------------------------------ the sweep


def state_of(causes: tuple[Cause, ...], power: int | None) -> State:
    response = max(c.response for c in causes)
    return State(EPOCH, BEFORE, response, causes, NOW_NS - 5 if response.stops else 0, power)


def powers(causes: tuple[Cause, ...]) -> tuple[int | None, ...]:
    worst = max(c.response for c in causes)
    return POWER.get(worst, (0,) if worst.stops else (None,))


def cause_of(
    key: str, response: Response, clear: Clear, *, active: bool, acked_ns: int, gone_ms: int
) -> Cause:
    gone_ns = 0 if active else NOW_NS - gone_ms * MS
    return Cause(key, response, clear, active, NOW_NS - 10**9, gone_ns, acked_ns)


ACKS = {"cause": (0,), PEER_STOP: (0, NOW_NS, NOW_NS + 1)}
"""Only the other channel's stop can be covered: not, no longer, still."""


def single_causes(response: Response) -> Iterator[Cause]:
    for key, clear, active in product(ACKS, Clear, (True, False)):
        gone_ms = (HOLD_OFF_MS - 1, HOLD_OFF_MS) if clear == Clear.AUTO and not active else (0,)
        for acked_ns, gone in product(ACKS[key], gone_ms):
            yield cause_of(key, response, clear, active=active, acked_ns=acked_ns, gone_ms=gone)


def run(causes: tuple[Cause, ...], turn: Turn) -> int:
    """One case for each thing power may be; the number of cases."""
    for power in powers(causes):
        before = state_of(causes, power)
        assert well_formed(before)
        after, outcome = step(ROWS, before, turn.inputs(causes), NOW_NS, SS1_NS)
        try:
            hold_to(before, turn, after, outcome)
        except AssertionError as error:
            raise AssertionError(f"{error}\nbefore {before}\n{turn}\nafter {after}\n{outcome}") from error
    return len(powers(causes))


@pytest.mark.parametrize("response", Response, ids=lambda r: r.label)
def test_one_cause_with_every_input(response: Response) -> None:
    flags = (False, True)
    turns = [
        Turn((look,), durable, granted=granted, refused=refused, lift=lift, unreset=unreset, other=other)
        for look, durable, granted, refused, lift, unreset, other in product(
            (TRUE, FALSE, UNKNOWN), flags, flags, flags, flags, flags, flags
        )
    ]
    cases = sum(run((cause,), turn) for cause in single_causes(response) for turn in turns)
    assert cases == 44 * 192 * len(powers((cause_of_response(response),)))


def cause_of_response(response: Response) -> Cause:
    return cause_of("cause", response, Clear.RESUME, active=True, acked_ns=0, gone_ms=0)


PAIR_RESPONSES = (Response.RESTRICT, Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP)


def firsts() -> Iterator[Cause]:
    clears = (Clear.AUTO, Clear.RESUME, Clear.REEVALUATION, Clear.NEVER)
    for response, clear, active in product(PAIR_RESPONSES, clears, (True, False)):
        yield cause_of("cause", response, clear, active=active, acked_ns=0, gone_ms=HOLD_OFF_MS)


def seconds() -> Iterator[Cause]:
    """The other channel's stop, and one of this channel's own."""
    for response, clear, active in product(PAIR_RESPONSES, (Clear.AUTO, Clear.RESUME), (True, False)):
        for key, acked_ns in ((PEER_STOP, NOW_NS + 1), ("second", 0)):
            yield cause_of(key, response, clear, active=active, acked_ns=acked_ns, gone_ms=HOLD_OFF_MS)


@pytest.mark.parametrize(
    "first", list(firsts()), ids=lambda c: f"{c.response.label}-{c.clear.label}-{c.active}"
)
def test_two_causes_with_the_inputs_that_concern_both(first: Cause) -> None:
    looks = product((TRUE, FALSE, UNKNOWN), repeat=2)
    flags = (False, True)
    turns = [
        Turn(look, durable, granted=granted, lift=lift)
        for look, durable, granted, lift in product(looks, flags, flags, flags)
    ]
    cases = sum(run((first, second), turn) for second in seconds() for turn in turns)
    assert cases >= 32 * 72


def recalled() -> Iterator[State]:
    """A state as it is taken up from the latch file: causes, and no response yet."""
    stops = [response for response in Response if response.stops]
    for response, clear, active in product(stops, Clear, (True, False)):
        causes = (cause_of("cause", response, clear, active=active, acked_ns=0, gone_ms=10**6),)
        yield State(EPOCH, BEFORE, causes=causes)


@pytest.mark.parametrize("look", [TRUE, FALSE, UNKNOWN])
def test_what_was_latched_stops_on_the_first_turn_after_a_restart(look: str) -> None:
    """Nothing is on the disk yet after a restart, so nothing can end on the first turn."""
    for before in recalled():
        turn = Turn((look,), durable=False, granted=True, lift=True)
        after, outcome = step(ROWS, before, turn.inputs(before.causes), NOW_NS, SS1_NS)
        assert after.response == before.causes[0].response
        assert well_formed(after)
        hold_epoch_to(before, after, outcome)
        hold_power_to(before, after)


def test_a_rise_is_counted_from_every_response_to_every_other() -> None:
    for low, high in product(Response, Response):
        weak = replace(cause_of_response(low), key="second")
        before = state_of((weak,), powers((weak,))[0])
        given = Inputs(
            active={"second": Demand(low, weak.clear), "cause": Demand(high)}, fresh=FRESH, durable_epoch=0
        )
        after, outcome = step(ROWS, before, given, NOW_NS, SS1_NS)
        assert after.response == max(low, high)
        hold_epoch_to(before, after, outcome)
