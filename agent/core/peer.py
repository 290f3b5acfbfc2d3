"""What one channel makes of the other: the cross-trip (`peer_stop`) and its loss (`peer_lost`)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from agent.core.causes import PEER_STOP, CauseRow, Clear, row_of
from agent.core.commands import Code
from agent.core.machine import Demand
from agent.core.plan import Times
from agent.core.responses import Response


@dataclass(frozen=True, slots=True)
class PeerView:
    """The other channel as last heard.

    `own`: the worst response it demands by itself; `causes`: the keys behind that; `half`: its 8 bytes of
    the challenge; `heard_ns`: CLOCK_MONOTONIC of its last packet, 0 if it was never heard.
    """

    connected: bool = False
    heard_ns: int = 0
    own: Response = Response.NONE
    response: Response = Response.EMERGENCY_STOP
    causes: tuple[str, ...] = ()
    epoch: int = 0
    half: bytes = b""
    still: bool = False
    blockers: tuple[Code, ...] = ()

    def lost(self) -> "PeerView":
        """The connection ended: its word of standstill ends with it; its stop does not."""
        return replace(self, connected=False, still=False)

    def beaten(self, now_ns: int, *, still: bool) -> "PeerView":
        """It was heard and nothing else changed."""
        return replace(self, heard_ns=now_ns, still=still)


UNHEARD = PeerView()


def watch_peer(
    rows: Mapping[str, CauseRow], times: Times, started_ns: int, peer: PeerView, now_ns: int
) -> Iterator[tuple[str, Demand]]:
    """The demands that follow from the other channel.

    Right after the start, one that was never heard yet is `starting`, not lost.
    """
    if not peer.heard_ns and now_ns - started_ns < times.start_grace_ns:
        yield "starting", Demand(detail="waiting for the other module")
        return
    if not peer.connected or now_ns - peer.heard_ns > times.peer_timeout_ns:
        yield "peer_lost", Demand(detail="connection ended" if not peer.connected else "no beat")
    if peer.own.stops:
        yield PEER_STOP, Demand(peer.own, mirrored_clear(rows, peer.causes), ", ".join(peer.causes)[:120])


def mirrored_clear(rows: Mapping[str, CauseRow], causes: Iterable[str]) -> Clear:
    """How a mirrored stop ends.

    By itself only if this channel's own table says so of every cause the other one names. The other's
    word is never enough: a hostile one must not be able to start the robot.
    """
    clears = [row_of(rows, key).clear for key in causes]
    return Clear.AUTO if clears and max(clears) == Clear.AUTO else Clear.RESUME
