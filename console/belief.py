"""Which robot said it: every message is checked against the department's trust file before it is read."""

from typing import TypeVar

from agent.core.commands import LEEWAY_S, Code
from agent.core.trust import Trust
from agent.tokens import EVENT, REPLY, STATE, TokenError, read_object, verify
from console.link import Packet
from console.messages import Event, Message, MessageError, Reply, State
from console.told import EventSeen, LinkSeen, Problem, StateSeen, Update

PREFIX = "warden/v1"
Read = TypeVar("Read", bound=Message)


class Belief:
    """What is to be believed of what arrives, by one trust file."""

    def __init__(self, trust: Trust, kid: str) -> None:
        self._trust = trust
        self._kid = kid

    def reply(self, packet: Packet) -> tuple[str, Reply | Problem] | None:
        """A reply to us and whose it is; None for another topic."""
        robot_id, topic = _place(packet)
        if topic != f"reply/{self._kid}":
            return None
        return robot_id, self._message(packet, (robot_id, "reply"), REPLY, Reply, aud=self._kid)

    def update(self, packet: Packet, newest: dict[str, State]) -> Update | None:
        """What a robot tells all; None for another topic. `newest`: each robot's last state, kept here."""
        robot_id, topic = _place(packet)
        if topic == "link":
            return self._link(packet, robot_id)
        if topic == "event":
            event = self._message(packet, (robot_id, topic), EVENT, Event)
            return event if isinstance(event, Problem) else EventSeen(robot_id, event)
        if topic != "state":
            return None
        state = self._message(packet, (robot_id, topic), STATE, State)
        return state if isinstance(state, Problem) else _newest(robot_id, state, newest)

    def _link(self, packet: Packet, robot_id: str) -> LinkSeen | Problem:
        if self._trust.robot_key(robot_id) is None:
            return Problem(robot_id, "link", Code.UNKNOWN_KEY.value, "no robot of the trust file")
        try:
            online = read_object(packet.payload).get("online")
        except ValueError as error:
            return Problem(robot_id, "link", Code.MALFORMED.value, str(error))
        return LinkSeen(robot_id, online is True)

    def _message(
        self, packet: Packet, place: tuple[str, str], typ: str, kind: type[Read], *, aud: str = "*"
    ) -> Read | Problem:
        try:
            verified = verify(packet.payload, typ=typ, key_of=self._trust.robot_key)
            message = kind.read(verified.claims)
        except TokenError as error:
            return Problem(*place, error.code, error.reason)
        except MessageError as error:
            return Problem(*place, Code.MALFORMED.value, str(error))
        if verified.kid != place[0] or message.iss != place[0]:
            return Problem(*place, Code.BAD_SIGNATURE.value, f"it is signed by {verified.kid}")
        if message.aud != aud:
            return Problem(*place, Code.WRONG_AUDIENCE.value, "it is meant for someone else")
        return message


def _newest(robot_id: str, state: State, newest: dict[str, State]) -> StateSeen | Problem:
    """A broker may keep an old state and send it again: its signature is as good as ever, its time is not."""
    last = newest.get(robot_id)
    if last is not None and state.iat < last.iat - LEEWAY_S:  # clocks are set back a little, too
        reason = f"{last.iat - state.iat:.0f} s older than the state before it"
        return Problem(robot_id, "state", Code.REPLAYED.value, reason)
    newest[robot_id] = state
    return StateSeen(robot_id, state)


def _place(packet: Packet) -> tuple[str, str]:
    """The robot's id and what stands after it in the topic."""
    robot_id, _, rest = packet.topic.removeprefix(f"{PREFIX}/").partition("/")
    return robot_id, rest
