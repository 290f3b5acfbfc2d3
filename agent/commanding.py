"""What a verified command does to one channel: the rules that depend on the channel's state, and the effect.

`remote` and `reflex` each run this for themselves on the same signed command.
"""

from agent.channel import Channel, Trigger
from agent.core.causes import Clear
from agent.core.commands import Code, Command
from agent.core.machine import Demand
from agent.core.peer import PeerView
from agent.core.responses import Response
from agent.core.resume import ResumeRequest, challenge_fits

CAUSES: dict[str, tuple[str, Response | None]] = {
    # Emergency stop whatever the plan makes of a guardian's stop (PROTOCOL 3).
    "power_off": ("guardian_stop", Response.EMERGENCY_STOP),
    "suspend": ("suspended", None),
    "retire": ("retired", None),
}
"""Commands whose whole effect is a cause, and its response where the row's is not meant; `stop` chooses
between two."""


def demanded(command: Command) -> tuple[str, Demand] | None:
    """The cause a command raises, None for one that stops nothing."""
    detail = command.args.reason[:120]
    if command.cmd == "stop":
        response = command.args.response or Response.EMERGENCY_STOP
        return ("guardian_hold" if response == Response.HOLD else "guardian_stop"), Demand(
            response, detail=detail
        )
    if command.cmd not in CAUSES:
        return None
    key, demanded_response = CAUSES[command.cmd]
    return key, Demand(demanded_response, detail=detail)


def refusal(channel: Channel, command: Command, peer: PeerView) -> Code | None:
    """Why this channel refuses a command now, or None."""
    check = _CHECKS.get(command.cmd)
    return None if check is None else check(channel, command, peer)


def _resume(channel: Channel, command: Command, peer: PeerView) -> Code | None:
    request = ResumeRequest(command.args.epoch or 0, command.args.challenge or b"")
    return channel.resume_refusal(request, peer)


def _reinstate(channel: Channel, command: Command, peer: PeerView) -> Code | None:
    own = any(cause.clear == Clear.REEVALUATION for cause in channel.state.causes)
    # A channel that lost its part in a crash must not keep the other suspended for ever.
    if not own and Code.REEVALUATION_NEEDED not in peer.blockers:
        return Code.NOT_STOPPED
    if command.args.epoch != channel.state.epoch + peer.epoch:
        return Code.WRONG_EPOCH
    if not channel.durable:
        return Code.CAUSE_ACTIVE  # nothing is lifted before the stop is on the disk
    return _fresh(channel, command, peer)


def _fresh(channel: Channel, command: Command, _: PeerView) -> Code | None:
    fits = challenge_fits(channel.name, channel.state, command.args.challenge or b"")
    return None if fits else Code.STALE_CHALLENGE


def _maintenance(channel: Channel, _command: Command, _peer: PeerView) -> Code | None:
    return None if channel.state.response.stops else Code.NOT_STOPPED


_CHECKS = {"resume": _resume, "reinstate": _reinstate, "retire": _fresh, "maintenance": _maintenance}

CHALLENGED = frozenset({"resume", "reinstate", "retire"})
"""A refusal of these renews the challenge (PROTOCOL 3)."""


def carry_out(channel: Channel, command: Command, trigger: Trigger) -> None:
    """The effect of a command that `refusal` let through, in this very call."""
    now_ns = trigger.seen_ns
    cause = demanded(command)
    if cause is not None:
        channel.demand(*cause)
        channel.turn(now_ns, trigger)
    elif command.cmd == "resume":
        channel.grant(now_ns)
    elif command.cmd == "reinstate":
        channel.lift("suspended", now_ns)
    elif command.cmd == "maintenance":
        channel.stand("maintenance", command.args.note if command.args.begin else None, now_ns)
