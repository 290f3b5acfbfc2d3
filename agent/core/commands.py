"""The command model: what each command takes, who may give it, and why one is refused (PROTOCOL 3).

Pure: the signature is verified before (`agent/tokens.py`), the time comes as an argument. What depends on
the robot's state (epoch, challenge, causes, maintenance) is checked by `resume.py` and the modules.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from agent.core.responses import Response, by_label
from agent.core.trust import EVERYONE, Person, Role, decode_base64url
from agent.errors import WardenError

CLAIMS: Final = frozenset({"iss", "aud", "iat", "exp", "jti", "cmd", "args"})
MAX_LIFETIME_S: Final = 120.0
"""`exp` at most this long after `iat` (PROTOCOL 3)."""
LEEWAY_S: Final = 5.0
"""How far two honest clocks may differ: NTP over a mobile link stays well inside it."""
MAX_TEXT: Final = 500
MAX_EPOCH: Final = 2**33
"""The sum of two u32 epochs (PROTOCOL 1)."""
CHALLENGE_BYTES: Final = 16
MAX_JTI: Final = 64
_MAX_TIME: Final = 2.0**53

TRAINING_EXPIRED: Final = "training_expired"
CLOCK_UNSURE: Final = "clock_unsure"
ARGS_UNREAD: Final = "args_unread"


class Code(StrEnum):
    """Why a command is refused or failed (PROTOCOL 3); to `training_expired` in the order of the checks."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    REVOKED = "revoked"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    REPLAYED = "replayed"
    NOT_ENTITLED = "not_entitled"
    TRAINING_EXPIRED = "training_expired"
    STALE_CHALLENGE = "stale_challenge"
    WRONG_EPOCH = "wrong_epoch"
    CAUSE_ACTIVE = "cause_active"
    RESET_NEEDED = "reset_needed"
    REEVALUATION_NEEDED = "reevaluation_needed"
    SAME_PERSON = "same_person"
    IN_MAINTENANCE = "in_maintenance"
    NOT_STOPPED = "not_stopped"
    RETIRED = "retired"
    RATE_LIMITED = "rate_limited"
    NOT_VERIFIED_IN_TIME = "not_verified_in_time"


class Refusal(WardenError):  # noqa: N818 - an answer to a person, by its name in PROTOCOL 3
    """A command that is not carried out; `detail` is English, for people and the record."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Args:
    """What a command's `args` say; a field that its row does not list keeps its default."""

    response: Response | None = None
    """HOLD, SAFE_MODE or EMERGENCY_STOP."""
    epoch: int | None = None
    challenge: bytes | None = None
    """16 bytes: `reflex`'s half, then `remote`'s."""
    begin: bool | None = None
    reason: str = ""
    note: str = ""
    evaluation: str = ""


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument: how its value is read, and what it is when it is left out."""

    read: Callable[[object], Any]
    """The typed value; raises ValueError whose text is the bound that was broken."""
    required: bool = True
    default: object = None


@dataclass(frozen=True, slots=True)
class CommandRule:
    """One row of PROTOCOL's command table."""

    roles: frozenset[Role] | None
    """Who may give it, to robots they serve; None: any trusted person, to any robot."""
    args: Mapping[str, Arg]
    stops: bool = False
    """True: taken although the training has run out or, with an unsure clock, out of its time; `args` that
    cannot be read count as left out. To refuse a trusted person's stop for its form would leave the robot
    moving."""

    @property
    def needs_challenge(self) -> bool:
        """True when the command must carry the robot's current challenge."""
        return "challenge" in self.args


@dataclass(frozen=True, slots=True)
class Command:
    """A command that its giver is entitled to give."""

    cmd: str
    kid: str
    role: Role
    jti: str
    iat: float
    exp: float
    """Seconds since 1970 by the giver's clock, as `iat`."""
    args: Args
    notes: tuple[str, ...]
    """What was waived because it stops, to be recorded: `training_expired`, `clock_unsure`, `args_unread`."""


_STOP_RESPONSES: Final = frozenset({Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP})


def _stop_response(value: object) -> Response:
    try:
        response = by_label(value) if isinstance(value, str) else None
    except KeyError:
        response = None
    if response not in _STOP_RESPONSES:
        raise ValueError("must be hold, safe_mode or emergency_stop")
    return response


def _epoch(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_EPOCH:
        raise ValueError("must be a whole number from 0 to 2^33")
    return value


def _challenge(value: object) -> bytes:
    challenge = decode_base64url(value)
    if challenge is None or len(challenge) != CHALLENGE_BYTES:
        raise ValueError(f"must be base64url of {CHALLENGE_BYTES} bytes")
    return challenge


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - readers raise one kind of error
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"must be text of at most {MAX_TEXT} characters")
    return value


def _some_text(value: object) -> str:
    if not _text(value).strip():
        raise ValueError("must not be blank")
    return _text(value)


_ANY_TEXT: Final = Arg(_text, required=False, default="")
_SOME_TEXT: Final = Arg(_some_text)
_GUARDIAN: Final = frozenset({Role.GUARDIAN})
_DEPARTMENT: Final = frozenset({Role.DEPARTMENT})
_MAINTAINER: Final = frozenset({Role.MAINTAINER})

COMMANDS: Final[Mapping[str, CommandRule]] = {
    "stop": CommandRule(
        roles=None,
        args={
            "response": Arg(_stop_response, required=False, default=Response.EMERGENCY_STOP),
            "reason": _ANY_TEXT,
        },
        stops=True,
    ),
    "resume": CommandRule(
        roles=_GUARDIAN,
        args={"epoch": Arg(_epoch), "challenge": Arg(_challenge), "reason": _ANY_TEXT},
    ),
    "power_off": CommandRule(roles=_GUARDIAN, args={"reason": _ANY_TEXT}, stops=True),
    "request_maintenance": CommandRule(roles=_GUARDIAN, args={"reason": _ANY_TEXT}),
    "maintenance": CommandRule(roles=_MAINTAINER, args={"begin": Arg(_flag), "note": _ANY_TEXT}),
    "suspend": CommandRule(roles=_DEPARTMENT, args={"reason": _SOME_TEXT}),
    "reinstate": CommandRule(
        roles=_DEPARTMENT,
        args={"epoch": Arg(_epoch), "challenge": Arg(_challenge), "evaluation": _SOME_TEXT},
    ),
    "retire": CommandRule(roles=_DEPARTMENT, args={"challenge": Arg(_challenge), "reason": _SOME_TEXT}),
    "ping": CommandRule(roles=None, args={}),
}
"""What this version carries out; any other `cmd` is `malformed`."""


def jti_of(claims: Mapping[str, object]) -> str | None:
    """The command's `jti` (1 to 64 printable characters), by which a repeat is known; None if unusable."""
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_JTI or not jti.isprintable():
        return None
    return jti


def read_command(
    claims: Mapping[str, object],
    *,
    person: Person,
    kid: str,
    robot_id: str,
    groups: frozenset[str],
    now_s: float,
    clock_sure: bool,
) -> Command:
    """The command that verified claims state, or Refusal with the first check they fail.

    `kid`: of the key that verified, `person`: whose it is; `groups`: the robot's (`all` is understood);
    `now_s`: the robot's wall clock, seconds since 1970; `clock_sure`: whether it is known to be right.
    Order of the checks: form, revocation, audience, time, entitlement, training.
    """
    rule = _rule(claims)
    jti, iat, exp = _form(claims, rule, kid)
    args, unread = _args(claims.get("args"), rule)
    if person.revoked:
        raise Refusal(Code.REVOKED, f"the key {kid} is revoked")
    _audience(claims["aud"], robot_id, groups)
    waived = (
        *_window(iat, exp, now_s, waive=rule.stops and not clock_sure),
        *_entitlement(str(claims["cmd"]), rule, person, robot_id, now_s),
        *((ARGS_UNREAD,) if unread else ()),
    )
    return Command(str(claims["cmd"]), kid, person.role, jti, iat, exp, args, waived)


def _rule(claims: Mapping[str, object]) -> CommandRule:
    cmd = claims.get("cmd")
    rule = COMMANDS.get(cmd) if isinstance(cmd, str) else None
    if rule is None:
        raise Refusal(Code.MALFORMED, f"cmd: must be one of {', '.join(COMMANDS)}")
    return rule


def _form(claims: Mapping[str, object], rule: CommandRule, kid: str) -> tuple[str, float, float]:
    required = CLAIMS - {"args"} if rule.stops else CLAIMS
    for claim in sorted(required - claims.keys()):
        raise Refusal(Code.MALFORMED, f"{claim}: is missing")
    if not rule.stops and claims.keys() - CLAIMS:
        raise Refusal(Code.MALFORMED, f"claims other than {', '.join(sorted(CLAIMS))}")
    if claims["iss"] != kid:
        raise Refusal(Code.MALFORMED, "iss: must be the kid of the key that signed")
    if not isinstance(claims["aud"], str):
        raise Refusal(Code.MALFORMED, "aud: must be one text")
    jti = jti_of(claims)
    if jti is None:
        raise Refusal(Code.MALFORMED, f"jti: must be 1 to {MAX_JTI} printable characters")
    iat, exp = _time(claims["iat"], "iat"), _time(claims["exp"], "exp")
    if not 0 < exp - iat <= MAX_LIFETIME_S:
        raise Refusal(Code.MALFORMED, f"exp: must be at most {MAX_LIFETIME_S:.0f} s after iat, and after it")
    return jti, iat, exp


def _time(value: object, claim: str) -> float:
    # The bound keeps infinity and whole numbers too large for a float out, and NaN compares false.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TIME:
        raise Refusal(Code.MALFORMED, f"{claim}: must be seconds since 1970")
    return float(value)


def _args(value: object, rule: CommandRule) -> tuple[Args, bool]:
    """The typed args, and whether some count as left out because they could not be read (stops only)."""
    given: Mapping[str, object] = value if isinstance(value, Mapping) else {}
    problems = [] if isinstance(value, Mapping) else ["args: must be an object"]
    problems += [f"args: {name[:MAX_JTI]!a} is not known here" for name in given.keys() - rule.args.keys()]
    typed: dict[str, Any] = {}
    for name, arg in rule.args.items():
        try:
            typed[name] = _arg(given, name, arg)
        except ValueError as error:
            typed[name] = arg.default
            problems.append(f"args.{name}: {error}")
    if problems and not rule.stops:
        raise Refusal(Code.MALFORMED, problems[0])
    return Args(**typed), bool(problems)


def _arg(given: Mapping[str, object], name: str, arg: Arg) -> object:
    if name in given:
        return arg.read(given[name])
    if arg.required:
        raise ValueError("is missing")
    return arg.default


def _audience(aud: object, robot_id: str, groups: frozenset[str]) -> None:
    if aud != robot_id and aud not in {f"group:{group}" for group in groups | {EVERYONE}}:
        raise Refusal(Code.WRONG_AUDIENCE, f"aud: is neither {robot_id} nor a group it belongs to")


def _window(iat: float, exp: float, now_s: float, *, waive: bool) -> tuple[str, ...]:
    if now_s > exp + LEEWAY_S:
        refusal = Refusal(Code.EXPIRED, f"exp: {now_s - exp:.0f} s ago by the robot's clock")
    elif iat > now_s + LEEWAY_S:
        refusal = Refusal(Code.NOT_YET_VALID, f"iat: {iat - now_s:.0f} s ahead of the robot's clock")
    else:
        return ()
    if waive:
        return (CLOCK_UNSURE,)
    raise refusal


def _entitlement(cmd: str, rule: CommandRule, person: Person, robot_id: str, now_s: float) -> tuple[str, ...]:
    if rule.roles is not None:
        if person.role not in rule.roles:
            raise Refusal(Code.NOT_ENTITLED, f"{cmd} is not for the role {person.role.value}")
        if not person.serves(robot_id):
            raise Refusal(Code.NOT_ENTITLED, f"{person.kid} does not serve {robot_id}")
    if person.role is not Role.GUARDIAN or person.trained(now_s):
        return ()
    if rule.stops:
        return (TRAINING_EXPIRED,)
    raise Refusal(Code.TRAINING_EXPIRED, f"the training of {person.kid} held until {person.trained_until}")


Answer = TypeVar("Answer")


class Seen(Generic[Answer]):
    """Which commands were answered, and how: a repeated `jti` gets the first answer again and does nothing.

    Each kid has room of its own, so that nobody can push out another's entries. When a kid's room is full its
    entry nearest to its end goes: that command could be taken a second time, but what starts a robot carries
    a challenge that is good for once, and what stops it must never be refused for want of memory.
    """

    def __init__(self, per_kid: int = 128) -> None:
        self._per_kid = per_kid
        self._answers: dict[str, dict[str, tuple[float, Answer]]] = {}

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._answers.values())

    def first_answer(self, kid: str, jti: str, now_s: float) -> Answer | None:
        """The answer this command got; None when it was not seen or its time is over. `now_s`: wall clock."""
        until_s, answer = self._answers.get(kid, {}).get(jti, (0.0, None))
        return answer if now_s <= until_s else None

    def remember(self, kid: str, jti: str, *, exp: float, answer: Answer, now_s: float) -> Answer:
        """Keeps the first answer of this command and returns it: `answer`, or the one there was before."""
        known = self.first_answer(kid, jti, now_s)
        if known is not None:
            return known
        entries = self._answers.setdefault(kid, {})
        # A stop taken under an unsure clock may have expired by it: every entry stays a lifetime from now.
        entries[jti] = (max(exp, now_s + MAX_LIFETIME_S) + LEEWAY_S, answer)
        if len(entries) > self._per_kid:
            self._make_room(entries, now_s)
        return answer

    def _make_room(self, entries: dict[str, tuple[float, Answer]], now_s: float) -> None:
        for jti in [jti for jti, (until_s, _) in entries.items() if until_s < now_s]:
            del entries[jti]
        if len(entries) > self._per_kid:
            del entries[min(entries, key=lambda jti: entries[jti][0])]
