"""What can go wrong on the guardian's side; each one line for people, with the exit code of PROTOCOL 7.

* WardenError
    * ConsoleError          exit 1, failed
        * ProfileError      a profile (or a file it names) that cannot be used
        * MqttLinkError     the broker cannot be reached, refused, or went away
        * UnverifiedError   something came, but nothing of it could be believed
        * NoAnswerError     exit 4, nothing came in time
"""

from agent.errors import WardenError

DONE = 0
FAILED = 1
WRONG_USAGE = 2
REFUSED = 3
NO_ANSWER = 4


class ConsoleError(WardenError):
    """Anything `guardian` cannot do, and can say why; never raised itself."""

    exit_code = FAILED


class ProfileError(ConsoleError):
    """A profile that cannot be used. `source`: file or option; `key`: where in it; `bound`: the rule."""

    def __init__(self, source: str, key: str, bound: str) -> None:
        super().__init__(": ".join(part for part in (source, key, bound) if part))
        self.source = source
        self.key = key
        self.bound = bound


class MqttLinkError(ConsoleError):
    """The link to the broker. `broker`: `host:port`; `reason`: what the network, TLS or the broker said."""

    def __init__(self, broker: str, reason: str) -> None:
        super().__init__(f"连接失败 broker {broker}: {reason}")
        self.broker = broker
        self.reason = reason


class UnverifiedError(ConsoleError):
    """What came in a robot's name is not that robot's. `code`: of PROTOCOL 3; `reason`: in words."""

    def __init__(self, robot_id: str, code: str, reason: str) -> None:
        super().__init__(f"{robot_id}: 签名不可信 what came in its name cannot be believed: {code}: {reason}")
        self.robot_id = robot_id
        self.code = code
        self.reason = reason


class NoAnswerError(ConsoleError):
    """Nothing came from the robot. `timeout_s`: how long it was waited for."""

    exit_code = NO_ANSWER

    def __init__(self, robot_id: str, what: str, timeout_s: float) -> None:
        super().__init__(
            f"{robot_id}: 无应答 no {what} within {timeout_s:g} s"
            " (the robot is off or cut off, the id is wrong, or the broker permits it not)"
        )
        self.robot_id = robot_id
        self.timeout_s = timeout_s
