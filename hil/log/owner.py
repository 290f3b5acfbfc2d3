"""Whose log a campaign writes: the robot, a recipient with both keys, and what its modules send."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.audit import RecipientKey
from agent.logformat.suites import suite_by_number
from agent.recorder.log import Record

BOOT = "5e" * 16
"""Of the modules; they outlive the recorder that is killed."""
SOURCE = "remote"
BATCH_STEP = 8
"""Numbers that one batch may use, so that a batch can be made again from its own number alone."""
_STREAMS = ("safety", "safety", "net", "tele")
_WALL_NS = 1_800_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Owner:
    """`kid`: of the recipient; its private key is here only because the same program plays the auditor."""

    robot: str
    suite: int
    kid: str
    private: bytes = field(repr=False)
    public: bytes

    @property
    def key(self) -> RecipientKey:
        """For `agent.audit.decrypt`."""
        return RecipientKey(self.suite, self.private, self.kid)


def new_owner(robot: str = "rw-log", suite: int = 1) -> Owner:
    """With a fresh recipient; SuiteError where the suite is not to be had here."""
    if suite == 1:
        own = X25519PrivateKey.generate()
        return Owner(robot, suite, "department", own.private_bytes_raw(), own.public_key().public_bytes_raw())
    return Owner(robot, suite, "department", *suite_by_number(suite).new_signing_key())


def batch(seed: int, number: int) -> list[Record]:
    """What the modules send together as batch `number`, from 0: the same for the same seed, 1 to 5 records.

    Texts of random letters, 8 to 600 of them, so that compression does not keep segments from filling.
    """
    dice = random.Random(f"{seed} {number}")
    first = number * BATCH_STEP + 1
    return [_record(dice, first + index) for index in range(dice.randint(1, 5))]


def batches(seed: int, first: int, end: int) -> Iterator[Record]:
    """All records of the batches `first` to `end` - 1."""
    for number in range(first, end):
        yield from batch(seed, number)


def last_seq(seed: int, number: int) -> int:
    """The largest number in a batch: acknowledged, it acknowledges the batch."""
    return batch(seed, number)[-1].seq


def _record(dice: random.Random, seq: int) -> Record:
    text = "".join(dice.choices("0123456789abcdefghijklmnopqrstuvwxyz", k=dice.choice((8, 40, 200, 600))))
    stream = dice.choice(_STREAMS)
    return Record(SOURCE, BOOT, seq, stream, "command_stage", _WALL_NS + seq, seq, {"text": text}, "s")
