"""The state machine of one channel: `step(rows, state, inputs, now) -> (state, outcome)`.

Pure: it reads no clock and does no I/O. `reflex` and `remote` run one instance each. It promises, and
tests/core/test_machine.py holds it to:

* the response is the worst of the causes that are not cleared, and never below one that is active;
* a cause leaves only by its clear condition, after its condition is gone;
* nothing leaves a stop before that stop's epoch is on the disk (`durable_epoch`);
* power withdrawn in a stop stays withdrawn until the stop is over;
* the epoch grows by one at each rise of the response to a stop, and never falls;
* `retire` is final.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.core.causes import PEER_STOP, CauseRow, Clear, row_of
from agent.core.responses import PERMIT_RULES, Deadline, Response

ACK_WINDOW_NS = 1_000_000_000
"""How long a granted resume waits for the other channel to drop its part. Long enough for a loaded host's
few hops, short enough that the person who resumed is still looking at the robot when it starts."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One cause's condition as seen on this turn.

    `response` and `clear`, where given, take the place of the row's (a guardian chooses the strength of
    a stop; the other channel says how its stop clears).
    """

    response: Response | None = None
    clear: Clear | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause that is not cleared. Times are CLOCK_MONOTONIC nanoseconds."""

    key: str
    response: Response
    clear: Clear
    active: bool
    since_ns: int
    gone_ns: int = 0
    acked_until_ns: int = 0
    """A granted resume covers this mirrored cause until then (only `peer_stop` uses it)."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """One channel.

    `half` is its 8 bytes of the challenge; `power_limit_ns` is None while power may be renewed, else the
    fixed moment at which it ends (0: withdrawn).
    """

    epoch: int
    half: bytes
    response: Response = Response.NONE
    causes: tuple[Cause, ...] = ()
    stopped_ns: int = 0
    power_limit_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one turn of the loop saw.

    `active`: cause key -> demand, for every condition that is true now. `unknown`: keys about which
    nothing is known; they stay as they were. `unreset`: keys whose device still needs its reset.
    `granted`: a resume that `agent.core.resume` found in order; `refused`: one that it did not.
    `lift`: keys a re-evaluation approves; they wait for a resume from then on.
    `fresh`: 8 random bytes, taken as the new half when something changes. `durable_epoch`: the newest
    epoch that is on the disk.
    """

    active: Mapping[str, Demand]
    fresh: bytes
    durable_epoch: int
    unknown: frozenset[str] = frozenset()
    unreset: frozenset[str] = frozenset()
    granted: bool = False
    refused: bool = False
    lift: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What changed: keys raised, gone (condition away) and cleared; `rose`: a stop began or grew worse."""

    changed: bool = False
    rose: bool = False
    raised: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    was: Response = field(default=Response.NONE, compare=False)
    """The response before this turn."""


@dataclass(frozen=True, slots=True)
class PermitFields:
    """What the run permit must say (PROTOCOL 1)."""

    motion_until_ns: int
    power_until_ns: int
    epoch: int
    speed_permille: int
    response: int


@dataclass(slots=True)
class _Changes:
    raised: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    altered: bool = False
    stop: bool = False
    """A stop came, or grew worse."""


def step(
    rows: Mapping[str, CauseRow], state: State, inputs: Inputs, now_ns: int, ss1_ns: int = 0
) -> tuple[State, Outcome]:
    """One turn. `ss1_ns`: how long power stays after a stop of category 1 (SS1-t) begins."""
    changes = _Changes()
    seen = _observe(rows, state.causes, inputs, now_ns, changes)
    kept = _clear(rows, seen, inputs, now_ns, inputs.durable_epoch >= state.epoch, changes)
    response = max((cause.response for cause in kept), default=Response.NONE)
    rose = response.stops and response > state.response
    changed = bool(changes.raised or changes.gone or changes.cleared or changes.altered)
    renewed = changed or inputs.granted or inputs.refused
    # A state taken up from the latch file has causes and no response yet.
    if not renewed and kept == state.causes and response == state.response:
        return state, _NOTHING
    after = State(
        epoch=state.epoch + 1 if rose else state.epoch,
        half=inputs.fresh if renewed else state.half,
        response=response,
        causes=kept,
        stopped_ns=_stopped_ns(state, response, now_ns),
        power_limit_ns=_power_limit(state, response, now_ns, ss1_ns),
    )
    told = (tuple(changes.raised), tuple(changes.gone), tuple(changes.cleared))
    outcome = Outcome(changed, rose, *told, was=state.response)
    return after, outcome


_NOTHING = Outcome()


def _observe(
    rows: Mapping[str, CauseRow], causes: tuple[Cause, ...], inputs: Inputs, now_ns: int, changes: _Changes
) -> tuple[Cause, ...]:
    """Raises what is newly true and marks what is no longer true; keeps the order in which causes came."""
    known = {cause.key for cause in causes}
    seen = [_update(rows, cause, inputs, now_ns, changes) for cause in causes]
    seen += [
        _raise(rows, key, demand, now_ns, changes)
        for key, demand in inputs.active.items()
        if key not in known
    ]
    if changes.stop:
        # A resume was given for the stop as it then stood; it does not cover what came after.
        seen = [replace(cause, acked_until_ns=0) if cause.acked_until_ns else cause for cause in seen]
    return tuple(seen)


def _asked(rows: Mapping[str, CauseRow], key: str, demand: Demand) -> tuple[Response, Clear]:
    row = row_of(rows, key)
    response = row.response if demand.response is None else demand.response
    return response, row.clear if demand.clear is None else demand.clear


def _raise(rows: Mapping[str, CauseRow], key: str, demand: Demand, now_ns: int, changes: _Changes) -> Cause:
    response, clear = _asked(rows, key, demand)
    changes.raised.append(key)
    changes.stop |= response.stops
    return Cause(key, response, clear, active=True, since_ns=now_ns, detail=demand.detail)


def _update(
    rows: Mapping[str, CauseRow], cause: Cause, inputs: Inputs, now_ns: int, changes: _Changes
) -> Cause:
    demand = inputs.active.get(cause.key)
    if demand is None:
        if not cause.active or cause.key in inputs.unknown:
            return cause
        changes.gone.append(cause.key)
        return replace(cause, active=False, gone_ns=now_ns)
    asked_response, asked_clear = _asked(rows, cause.key, demand)
    # A mirrored stop is as bad as the other channel says now; one of our own is as bad as it ever was.
    response = asked_response if cause.key == PEER_STOP else max(cause.response, asked_response)
    clear = max(cause.clear, asked_clear)
    if not cause.active:
        changes.raised.append(cause.key)
    elif response == cause.response and clear == cause.clear:
        return cause
    changes.altered = True
    changes.stop |= response.stops and (not cause.active or response > cause.response)
    detail = demand.detail or cause.detail
    return replace(cause, response=response, clear=clear, active=True, gone_ns=0, detail=detail)


def _clear(
    rows: Mapping[str, CauseRow],
    causes: tuple[Cause, ...],
    inputs: Inputs,
    now_ns: int,
    durable: bool,
    changes: _Changes,
) -> tuple[Cause, ...]:
    kept: list[Cause] = []
    for cause in causes:
        acked = _acknowledge(cause, inputs, now_ns)
        if not _over(rows, acked, inputs, now_ns) or (cause.response.stops and not durable):
            kept.append(acked)
        elif cause.clear == Clear.REEVALUATION:
            # Approved by the department, and still stopped: starting is a guardian's resume (PROTOCOL 3).
            changes.altered = True
            kept.append(
                replace(acked, response=min(acked.response, Response.EMERGENCY_STOP), clear=Clear.RESUME)
            )
        else:
            changes.cleared.append(cause.key)
    return tuple(kept)


def _acknowledge(cause: Cause, inputs: Inputs, now_ns: int) -> Cause:
    if row_of({}, cause.key).id != PEER_STOP:
        return cause
    if inputs.granted:
        return replace(cause, acked_until_ns=now_ns + ACK_WINDOW_NS)
    if cause.acked_until_ns and now_ns >= cause.acked_until_ns:
        return replace(cause, acked_until_ns=0)
    return cause


def _over(rows: Mapping[str, CauseRow], cause: Cause, inputs: Inputs, now_ns: int) -> bool:
    """Whether a cause's clear condition is met on this turn."""
    if cause.active or cause.clear == Clear.NEVER:
        return False
    if cause.clear == Clear.AUTO:
        # Once it was gone, now nobody knows: that is no reason to start.
        return (
            cause.key not in inputs.unknown and now_ns - cause.gone_ns >= row_of(rows, cause.key).hold_off_ns
        )
    if cause.clear == Clear.REEVALUATION:
        return cause.key in inputs.lift
    if cause.clear == Clear.RESET_AND_RESUME and cause.key in inputs.unreset:
        return False
    return inputs.granted or cause.acked_until_ns > now_ns


def _stopped_ns(state: State, response: Response, now_ns: int) -> int:
    if not response.stops:
        return 0
    return state.stopped_ns or now_ns


def _power_limit(state: State, response: Response, now_ns: int, ss1_ns: int) -> int | None:
    """Power is only ever taken away inside a stop; it comes back when the stop is over."""
    if not response.stops:
        return None
    rule = PERMIT_RULES[response].power
    if rule is Deadline.WITHDRAWN:
        return 0
    if rule is Deadline.RUN_OUT and state.power_limit_ns is None:
        return now_ns + ss1_ns
    return state.power_limit_ns


def permit_fields(
    state: State, now_ns: int, *, ttl_ns: int, ss1_ns: int, restricted_speed_permille: int
) -> PermitFields:
    """What the permit must say now (DESIGN, "Run permit")."""
    rule = PERMIT_RULES[state.response]
    motion = now_ns + ttl_ns if rule.motion is Deadline.RENEWED else 0
    power = now_ns + ttl_ns + ss1_ns if state.power_limit_ns is None else state.power_limit_ns
    speed = 0 if motion == 0 else restricted_speed_permille if rule.restricted else 1000
    return PermitFields(motion, power, state.epoch, speed, int(state.response))


def own_response(state: State) -> Response:
    """The worst response this channel demands by itself, leaving out what it only mirrors."""
    return max((c.response for c in state.causes if c.key != PEER_STOP), default=Response.NONE)
