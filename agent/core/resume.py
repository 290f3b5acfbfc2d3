"""The rules for ending a stop: stopping is easy, starting is hard (DESIGN, principle 3).

A resume names the stop it ends (`epoch`), carries the device's fresh challenge, and finds every cause's
condition gone and every device reset. Each channel checks its own half of the challenge.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.causes import PEER_STOP, Clear
from agent.core.commands import Code
from agent.core.machine import Cause, State

HALF_BYTES = 8
CHALLENGE_BYTES = 2 * HALF_BYTES

HALVES: Mapping[str, slice] = {
    "reflex": slice(0, HALF_BYTES),
    "remote": slice(HALF_BYTES, CHALLENGE_BYTES),
}
"""Which bytes of the challenge each channel contributes and checks."""


@dataclass(frozen=True, slots=True)
class ResumeRequest:
    """A resume whose signature, claims and entitlement are already in order."""

    epoch: int
    challenge: bytes


def blockers(state: State, unreset: frozenset[str]) -> tuple[Code, ...]:
    """The codes that stand before a resume in this channel, worst first, each once.

    `peer_stop` is left out: it mirrors the other channel, which answers for itself.
    """
    found = [code for cause in state.causes if (code := _blocker(cause, unreset)) is not None]
    return tuple(dict.fromkeys(sorted(found, key=_ORDER.index)))


_ORDER = (
    Code.RETIRED,
    Code.REEVALUATION_NEEDED,
    Code.IN_MAINTENANCE,
    Code.CAUSE_ACTIVE,
    Code.RESET_NEEDED,
)


def _blocker(cause: Cause, unreset: frozenset[str]) -> Code | None:
    if cause.key == PEER_STOP or not cause.response.stops:
        return None
    if cause.clear == Clear.NEVER:
        return Code.RETIRED
    if cause.clear == Clear.REEVALUATION:
        return Code.REEVALUATION_NEEDED
    if cause.active:
        return Code.IN_MAINTENANCE if cause.key == "maintenance" else Code.CAUSE_ACTIVE
    if cause.clear == Clear.RESET_AND_RESUME and cause.key in unreset:
        return Code.RESET_NEEDED
    return None


def refusal(
    channel: str,
    state: State,
    request: ResumeRequest,
    *,
    robot_epoch: int,
    unreset: frozenset[str],
    peer_stops: bool = False,
) -> Code | None:
    """Why this channel refuses the resume, or None.

    `robot_epoch`: the sum of both permits' epochs. `peer_stops`: the other channel is stopped, though this
    one need not be: what is left of a stop there can only be ended by a resume that goes through both.
    """
    if any(cause.clear == Clear.NEVER for cause in state.causes):
        return Code.RETIRED
    if not state.response.stops and not peer_stops:
        return Code.NOT_STOPPED
    if request.epoch != robot_epoch:
        return Code.WRONG_EPOCH
    if not challenge_fits(channel, state, request.challenge):
        return Code.STALE_CHALLENGE
    return next(iter(blockers(state, unreset)), None)


def challenge_fits(channel: str, state: State, challenge: bytes) -> bool:
    """Whether a challenge carries this channel's present half."""
    fits = len(challenge) == CHALLENGE_BYTES
    return fits and hmac.compare_digest(challenge[HALVES[channel]], state.half)


def stopped_since(state: State, moment_ns: int) -> bool:
    """Whether a stop of this channel's own came, or came again, after a moment, and its condition is gone.

    A resume that was asked for before that moment does not cover it, even where the epoch did not grow.
    """
    own = (cause for cause in state.causes if cause.key != PEER_STOP and cause.response.stops)
    return any(cause.gone_ns > moment_ns for cause in own)
