"""Who may publish and read what at the broker (PROTOCOL 3's topics), as one table.

Written as a mosquitto `acl_file`, which both brokers of the rig read. What is not permitted is denied.
The broker is still trusted with nothing: every command and every state is signed end to end, so these
rules only keep one party's noise, and its plain-JSON topics (`link`, `telemetry`), out of another's name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

WRITE = frozenset({"write", "readwrite"})
READ = frozenset({"read", "readwrite"})
_ACCESSES = frozenset({"read", "write", "readwrite"})

ROBOT_RULES: tuple[tuple[str, str], ...] = (
    # %u is the certificate's CN: the robot's id. All that is under its own name it may read ...
    ("read", "warden/v1/%u/#"),
    ("read", "warden/v1/group/+/cmd"),
    # ... and of that it writes what it says, not what is said to it (cmd, presence, trust, acknowledgements).
    ("write", "warden/v1/%u/reply/+"),
    ("write", "warden/v1/%u/state"),
    ("write", "warden/v1/%u/event"),
    ("write", "warden/v1/%u/telemetry"),
    ("write", "warden/v1/%u/link"),
    ("write", "warden/v1/%u/ledger"),
    ("write", "warden/v1/%u/report"),
)

PERSON_RULES: tuple[tuple[str, str], ...] = (
    ("read", "warden/v1/#"),
    ("write", "warden/v1/+/cmd"),
    ("write", "warden/v1/group/+/cmd"),
    ("write", "warden/v1/+/presence"),
    # Anyone's console can be the log's witness (`guardian witness`).
    ("write", "warden/v1/+/ledger/ack"),
)

ROLE_RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "guardian": (),
    "maintainer": (),
    "department": (("write", "warden/v1/+/trust"),),
    "authority": (("write", "warden/v1/+/report/receipt"),),
}

WITNESS: Final = "witness"
WITNESS_RULES: tuple[tuple[str, str], ...] = (
    # A machine that only keeps ledgers sees nothing else, and commands nobody.
    ("read", "warden/v1/+/ledger"),
    ("write", "warden/v1/+/ledger/ack"),
)


def rules_of(role: str) -> tuple[tuple[str, str], ...]:
    """What a role may; KeyError for an unknown one."""
    return WITNESS_RULES if role == WITNESS else (*PERSON_RULES, *ROLE_RULES[role])


def acl_text(people: Iterable[tuple[str, str]]) -> str:
    """The `acl_file` for any number of robots and these people, (kid, role) each."""
    lines = [f"pattern {access} {topic}" for access, topic in ROBOT_RULES]
    for kid, role in people:
        lines += ["", f"# {role}", f"user {kid}"]
        lines += [f"topic {access} {topic}" for access, topic in rules_of(role)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Acl:
    """The part of mosquitto's `acl_file` that the table above needs: `pattern`, `user` and `topic`."""

    patterns: tuple[tuple[str, str], ...]
    users: Mapping[str, tuple[tuple[str, str], ...]]

    @classmethod
    def parse(cls, text: str) -> "Acl":
        """Raises ValueError naming the line that is not understood: a rule may not be lost silently."""
        patterns: list[tuple[str, str]] = []
        users: dict[str, list[tuple[str, str]]] = {}
        rules: list[tuple[str, str]] | None = None
        for number, line in enumerate(text.splitlines(), 1):
            match line.split():
                case []:
                    continue
                case [word, *_] if word.startswith("#"):
                    continue
                case ["user", name]:
                    rules = users.setdefault(name, [])
                case ["pattern", access, topic] if access in _ACCESSES:
                    patterns.append((access, topic))
                case ["topic", access, topic] if access in _ACCESSES and rules is not None:
                    rules.append((access, topic))
                case _:
                    raise ValueError(f"line {number} is not understood: {line}")
        return cls(tuple(patterns), {name: tuple(rows) for name, rows in users.items()})

    def may_write(self, user: str, topic: str) -> bool:
        """True when `user` may publish to `topic` (a name without wildcards)."""
        return self._allows(user, WRITE, topic)

    def may_read(self, user: str, topic_filter: str) -> bool:
        """True when all that `topic_filter` (a filter or a name) can match may be read by `user`."""
        return self._allows(user, READ, topic_filter)

    def _allows(self, user: str, accesses: frozenset[str], topic: str) -> bool:
        rules = (*self.users.get(user, ()), *self._own(user))
        return any(access in accesses and covers(allowed, topic) for access, allowed in rules)

    def _own(self, user: str) -> Iterable[tuple[str, str]]:
        """The patterns with %u filled in; none for a name with a wildcard or a slash, as in mosquitto."""
        if not user or any(sign in user for sign in "+#/"):
            return ()
        return ((access, topic.replace("%u", user)) for access, topic in self.patterns)


def covers(allowed: str, asked: str) -> bool:
    """True when the filter `allowed` matches every topic that the filter or name `asked` matches."""
    allowed_levels, asked_levels = allowed.split("/"), asked.split("/")
    for i, level in enumerate(allowed_levels):
        if level == "#":
            # `a/#` matches `a` too, so `asked` may end right before it.
            return len(asked_levels) >= i
        if i >= len(asked_levels) or asked_levels[i] == "#" or level not in ("+", asked_levels[i]):
            return False
    return len(allowed_levels) == len(asked_levels)
