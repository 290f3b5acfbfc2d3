"""Signed command → `Command`: each channel verifies for itself, against the signed trust file the plan names.

The order of checks is PROTOCOL 3's: size, header, key known, signature, then and only then the claims.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from agent import tokens
from agent.core.commands import Command, Refusal, jti_of, read_command
from agent.core.plan import Plan
from agent.core.trust import Trust
from agent.errors import WardenError

DAY_S = 86_400


class TrustRollbackError(WardenError):
    """The trust file is older than one this channel has accepted before."""

    def __init__(self, path: str, version: int, known: int) -> None:
        super().__init__(
            f"{path}: version {version} is older than {known}, accepted before: publish a newer one"
        )
        self.path = path
        self.version = version
        self.known = known


@dataclass(frozen=True, slots=True)
class Opened:
    """A token whose signature is good. `command` is None when `refusal` says why not."""

    kid: str
    jti: str | None
    cmd: str
    command: Command | None = None
    refusal: Refusal | None = None


@dataclass(slots=True)
class Gate:
    """What one robot needs to judge commands."""

    trust: Trust
    robot_id: str
    groups: frozenset[str]
    last_wall_s: float = 0.0
    """A wall-clock time that is past for certain (from the latch file)."""

    def open(self, token: bytes) -> Opened:
        """Raises `tokens.TokenError` for what fails before its claims may be looked at."""
        verified = tokens.verify(token, typ=tokens.COMMAND, key_of=self.trust.person_key)
        claims, jti = verified.claims, jti_of(verified.claims)
        cmd = str(claims.get("cmd"))[:40]
        now_s = time.time()
        try:
            command = read_command(
                claims,
                person=self.trust.people[verified.kid],
                kid=verified.kid,
                robot_id=self.robot_id,
                groups=self.groups,
                now_s=now_s,
                clock_sure=self.clock_sure(now_s),
            )
        except Refusal as refusal:
            return Opened(verified.kid, jti, cmd, refusal=refusal)
        return Opened(verified.kid, jti, cmd, command=command)

    def clock_sure(self, now_s: float) -> bool:
        """False when the wall clock is provably wrong: it reads earlier than something that is past."""
        return now_s >= max(self.last_wall_s, self.trust.issued_s - DAY_S)


def load_gate(plan: Plan, known_version: int, last_wall_ns: int) -> Gate:
    """The gate of this plan. Raises WardenError for a key or trust file that cannot be used."""
    if plan.remote is None:
        raise WardenError("the plan has no [remote]")
    roots = tokens.load_roots(Path(path) for path in plan.remote.root_keys)
    trust = tokens.load_trust(Path(plan.remote.trust), roots)
    if trust.version < known_version:
        raise TrustRollbackError(plan.remote.trust, trust.version, known_version)
    groups = frozenset(plan.remote.groups) | trust.groups_of(plan.robot.id)
    return Gate(trust, plan.robot.id, groups, last_wall_ns / 1e9)
