"""Who is trusted: people, robots, groups, as the department's signed trust file names them (PROTOCOL 3).

Pure: the signature is checked before (`agent/tokens.py`), the time comes as an argument.
"""

import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Final

from agent.errors import WardenError

NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""Robot ids, group names and kids (PROTOCOL 3); use `fullmatch`."""
ALL: Final = frozenset({"*"})
"""`Person.robots` of someone who serves every robot; `*` can be no robot's id (see NAME)."""
EVERYONE: Final = "all"
"""The group every robot belongs to, whether or not the trust file lists it."""
MAX_ENTRIES: Final = 512
"""People, robots or groups in one trust file; a 64 KiB token holds fewer."""
MAX_VERSION: Final = 2**53
"""Beyond this a JSON number is not exact in every language."""
KEY_BYTES: Final = 32
_LABEL_CHARACTERS: Final = 64
_CHINA: Final = timedelta(hours=8)
"""`trained_until` is a date of China Standard Time, where the regulation holds; no zone data is read."""

_CLAIMS: Final = frozenset({"iss", "aud", "iat", "version", "people", "robots", "groups"})
_PERSON: Final = frozenset({"kid", "name", "role", "key", "robots", "trained_until", "revoked"})
_ROBOT: Final = frozenset({"id", "name", "key"})


class TrustError(WardenError):
    """A trust file breaks a rule. `key`: where, as in `people[2].robots[0]`; `bound`: the rule, in words."""

    def __init__(self, key: str, bound: str) -> None:
        super().__init__(f"{key}: {bound}")
        self.key = key
        self.bound = bound


class Role(Enum):
    """What a person is to a robot (REGULATION, "Words")."""

    GUARDIAN = "guardian"
    """监护人: uses, supervises and protects particular robots."""
    DEPARTMENT = "department"
    """使用部门: decides on suspension, re-evaluation and the end of service."""
    AUTHORITY = "authority"
    """主管部门: supervises; may stop, never start."""
    MAINTAINER = "maintainer"
    """运维商: opens and closes maintenance."""


@dataclass(frozen=True, slots=True)
class Person:
    """One natural person and the key that signs for them."""

    kid: str
    name: str
    role: Role
    key: bytes
    """Ed25519 public key, 32 bytes."""
    robots: frozenset[str]
    """Robot ids served, or ALL."""
    trained_until: date
    """Last day (China Standard Time) on which the training holds, that day included (clause 5.2(b))."""
    revoked: bool

    def serves(self, robot_id: str) -> bool:
        """True when this robot is one the person was given."""
        return self.robots == ALL or robot_id in self.robots

    def trained(self, now_s: float) -> bool:
        """True while the training holds at `now_s` (seconds since 1970, UTC)."""
        return china_date(now_s) <= self.trained_until


@dataclass(frozen=True, slots=True)
class Robot:
    """One robot and the key it signs replies, states and events with; it never commands (clause 7.7)."""

    id: str
    name: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Trust:
    """One version of the trust file; the version only grows, which whoever keeps the newest must see to."""

    version: int
    issued_s: float
    people: Mapping[str, Person]
    robots: Mapping[str, Robot]
    groups: Mapping[str, frozenset[str]]
    """Name → robot ids; `all` is not among them."""

    def person_key(self, kid: str) -> bytes | None:
        """The key of a person, revoked or not; None for a robot's kid and for an unknown one."""
        person = self.people.get(kid)
        return person.key if person else None

    def robot_key(self, kid: str) -> bytes | None:
        """The key of a robot; None for a person's kid and for an unknown one."""
        robot = self.robots.get(kid)
        return robot.key if robot else None

    def groups_of(self, robot_id: str) -> frozenset[str]:
        """The groups a robot belongs to, `all` among them."""
        return frozenset(name for name, ids in self.groups.items() if robot_id in ids) | {EVERYONE}

    def members(self, group: str) -> frozenset[str]:
        """The robots of a group, of `all` every one; empty for a group that does not exist."""
        return frozenset(self.robots) if group == EVERYONE else self.groups.get(group, frozenset())


def china_date(now_s: float) -> date:
    """The calendar day at `now_s` (seconds since 1970, UTC) in China Standard Time."""
    # Added to the epoch: datetime.fromtimestamp() would ask the C library about this machine's time zone.
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now_s) + _CHINA).date()


def is_name(value: object) -> bool:
    """True for a robot id, group name or kid of PROTOCOL 3."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def parse_trust(claims: Mapping[str, object]) -> Trust:
    """The trust that the claims of a `warden-trust+jwt` state; raises TrustError at the first broken rule.

    Beyond the shape: kids are unique over people and robots together, and so are keys, so that no robot's key
    is a person's and nobody is two people; groups and people name only robots of the file; `all`, where it is
    listed, is every robot.
    """
    _only(claims, _CLAIMS, "claims")
    parse_name(claims["iss"], "iss")
    if claims["aud"] != "*":
        raise TrustError("aud", 'must be "*"')
    robots = _robots(claims["robots"])
    people = _people(claims["people"], frozenset(robots))
    _distinct(people.values(), robots.values())
    return Trust(
        version=_version(claims["version"]),
        issued_s=_issued(claims["iat"]),
        people=people,
        robots=robots,
        groups=_groups(claims["groups"], frozenset(robots)),
    )


def parse_jwk(value: object, where: str, *, crv: str = "Ed25519", kid: str | None = None) -> bytes:
    """The 32 bytes of a public OKP JWK: `kty`, `crv`, `x`, optionally `kid`; TrustError if it is not one.

    `kid`: what the JWK's own `kid`, if it has one, must be; None for any.
    """
    row = _row(value, where)
    if "d" in row:
        raise TrustError(f"{where}.d", "is a private key: make a new pair, this one is exposed")
    _only(row, frozenset({"kty", "crv", "x"}), where, optional=frozenset({"kid"}))
    if row["kty"] != "OKP" or row["crv"] != crv:
        raise TrustError(where, f'must have kty "OKP" and crv "{crv}"')
    if kid is not None and row.get("kid", kid) != kid:
        raise TrustError(f"{where}.kid", f'must be "{kid}", as the entry it stands in')
    key = decode_base64url(row["x"])
    if key is None or len(key) != KEY_BYTES:
        raise TrustError(f"{where}.x", f"must be base64url of {KEY_BYTES} bytes")
    return key


def decode_base64url(value: object) -> bytes | None:
    """The bytes of a base64url text, padded or not; None for all else, loose bits at the end included."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]*={0,2}", value):
        return None
    bare = value.rstrip("=")
    if value != bare and len(value) % 4 != 0:
        return None
    try:
        decoded = binascii.a2b_base64(bare.replace("-", "+").replace("_", "/") + "=" * (-len(bare) % 4))
    except binascii.Error:
        return None
    return decoded if encode_base64url(decoded) == bare else None


def encode_base64url(data: bytes) -> str:
    """Base64url without padding, as JWKs and challenges carry it."""
    return binascii.b2a_base64(data, newline=False).decode().replace("+", "-").replace("/", "_").rstrip("=")


def _robots(value: object) -> dict[str, Robot]:
    robots: dict[str, Robot] = {}
    for where, row in _rows(value, "robots", _ROBOT):
        robot_id = parse_name(row["id"], f"{where}.id")
        if robot_id in robots:
            raise TrustError(f"{where}.id", f'"{robot_id}" stands twice')
        key = parse_jwk(row["key"], f"{where}.key", kid=robot_id)
        robots[robot_id] = Robot(robot_id, _label(row["name"], f"{where}.name"), key)
    return robots


def _people(value: object, robot_ids: frozenset[str]) -> dict[str, Person]:
    people: dict[str, Person] = {}
    for where, row in _rows(value, "people", _PERSON):
        person = _person(row, where, robot_ids)
        if person.kid in people:
            raise TrustError(f"{where}.kid", f'"{person.kid}" stands twice')
        people[person.kid] = person
    return people


def _person(row: Mapping[str, object], where: str, robot_ids: frozenset[str]) -> Person:
    kid = parse_name(row["kid"], f"{where}.kid")
    revoked = row["revoked"]
    if not isinstance(revoked, bool):
        raise TrustError(f"{where}.revoked", "must be true or false")
    return Person(
        kid=kid,
        name=_label(row["name"], f"{where}.name"),
        role=_role(row["role"], f"{where}.role"),
        key=parse_jwk(row["key"], f"{where}.key", kid=kid),
        robots=_served(row["robots"], f"{where}.robots", robot_ids),
        trained_until=_date(row["trained_until"], f"{where}.trained_until"),
        revoked=revoked,
    )


def _groups(value: object, robot_ids: frozenset[str]) -> dict[str, frozenset[str]]:
    rows = _row(value, "groups")
    _count(rows, "groups")
    groups = {
        parse_name(name, "groups"): _known_ids(ids, f"groups.{name}", robot_ids) for name, ids in rows.items()
    }
    if groups.pop(EVERYONE, robot_ids) != robot_ids:
        raise TrustError(f"groups.{EVERYONE}", "is every robot, and must list each of them or be left out")
    return groups


def _distinct(people: Iterable[Person], robots: Iterable[Robot]) -> None:
    owners = [(person.kid, person.key) for person in people] + [(robot.id, robot.key) for robot in robots]
    kids: set[str] = set()
    keys: dict[bytes, str] = {}
    for kid, key in owners:
        if kid in kids:
            raise TrustError("robots", f'"{kid}" is a person\'s kid too')
        if key in keys:
            raise TrustError("keys", f'"{kid}" and "{keys[key]}" have the same key')
        kids.add(kid)
        keys[key] = kid


def _served(value: object, where: str, robot_ids: frozenset[str]) -> frozenset[str]:
    return ALL if value in ("*", ["*"]) else _known_ids(value, where, robot_ids)


def _known_ids(value: object, where: str, robot_ids: frozenset[str]) -> frozenset[str]:
    if not isinstance(value, list):
        raise TrustError(where, "must be a list of robot ids")
    for index, robot_id in enumerate(value):
        if not isinstance(robot_id, str) or robot_id not in robot_ids:
            raise TrustError(f"{where}[{index}]", "must be the id of a robot of this file")
    return frozenset(value)


def _rows(value: object, where: str, fields: frozenset[str]) -> Iterable[tuple[str, Mapping[str, object]]]:
    if not isinstance(value, list):
        raise TrustError(where, "must be a list")
    _count(value, where)
    for index, item in enumerate(value):
        row = _row(item, f"{where}[{index}]")
        _only(row, fields, f"{where}[{index}]")
        yield f"{where}[{index}]", row


def _row(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TrustError(where, "must be an object")
    return value


def _count(value: list[object] | Mapping[str, object], where: str) -> None:
    if len(value) > MAX_ENTRIES:
        raise TrustError(where, f"at most {MAX_ENTRIES} entries, has {len(value)}")


def _only(
    row: Mapping[str, object], fields: frozenset[str], where: str, optional: frozenset[str] = frozenset()
) -> None:
    for field in sorted(fields - row.keys()):
        raise TrustError(f"{where}.{field}", "is missing")
    for field in sorted(row.keys() - fields - optional):
        raise TrustError(f"{where}.{field[:_LABEL_CHARACTERS]!a}", "is not known here")


def parse_name(value: object, where: str) -> str:
    """A robot id, group name or kid of PROTOCOL 3; TrustError for all else."""
    if not isinstance(value, str) or not is_name(value):
        raise TrustError(where, "must be 1 to 64 of A-Z a-z 0-9 _ . : -")
    return value


def _label(value: object, where: str) -> str:
    # Printable only: names reach terminals, and an escape sequence there could rewrite what a guardian reads.
    if not isinstance(value, str) or not 1 <= len(value) <= _LABEL_CHARACTERS or not value.isprintable():
        raise TrustError(where, f"must be 1 to {_LABEL_CHARACTERS} printable characters")
    return value


def _role(value: object, where: str) -> Role:
    for role in Role:
        if value == role.value:
            return role
    raise TrustError(where, f"must be one of {', '.join(role.value for role in Role)}")


def _date(value: object, where: str) -> date:
    try:
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise TrustError(where, "must be a date such as 2026-12-31")


def _version(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_VERSION:
        raise TrustError("version", "must be a whole number from 1 to 2^53")
    return value


def _issued(value: object) -> float:
    # The upper bound keeps infinity out too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_VERSION:
        raise TrustError("iat", "must be seconds since 1970")
    return float(value)
