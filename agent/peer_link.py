"""What the two channels tell each other: written by one, read with distrust by the other."""

from collections.abc import Mapping

from agent.channel import Channel
from agent.core.causes import PEER_STOP
from agent.core.commands import Code
from agent.core.peer import PeerView
from agent.core.responses import Response
from agent.core.resume import HALF_BYTES

MAX_CAUSES = 512


def channel_state(channel: Channel, *, still: bool, now_ns: int) -> dict[str, object]:
    """The packet `state`: all of one channel that the other, people and `warden status` may know."""
    state = channel.state
    return {
        "type": "state",
        "own": channel.own,
        "response": int(state.response),
        "stops": [c.key for c in state.causes if c.response.stops and c.key != PEER_STOP],
        "epoch": state.epoch,
        "half": state.half.hex(),
        "still": still,
        "blockers": list(channel.blockers),
        "causes": channel.causes_view(now_ns),
    }


def read_state(message: Mapping[str, object], now_ns: int) -> PeerView:
    """The other channel as its packet says. Raises ValueError for a packet that is not of this shape."""
    try:
        stops = _texts(message["stops"])
        return PeerView(
            connected=True,
            heard_ns=now_ns,
            own=Response(_number(message["own"])),
            response=Response(_number(message["response"])),
            causes=stops,
            epoch=_number(message["epoch"]),
            half=_half(message["half"]),
            still=message["still"] is True,
            blockers=tuple(Code(text) for text in _texts(message["blockers"])),
        )
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from None


def read_causes(message: Mapping[str, object]) -> list[dict[str, object]]:
    """The causes as the other channel publishes them; what is not an object is left out."""
    causes = message.get("causes")
    return [c for c in causes[:MAX_CAUSES] if isinstance(c, dict)] if isinstance(causes, list) else []


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ValueError("not a whole number from 0 to 2^32")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_CAUSES or not all(isinstance(v, str) for v in value):
        raise ValueError("not a list of texts")
    return tuple(value)


def _half(value: object) -> bytes:
    half = bytes.fromhex(value) if isinstance(value, str) else b""
    if len(half) != HALF_BYTES:
        raise ValueError("half is not 8 bytes")
    return half
