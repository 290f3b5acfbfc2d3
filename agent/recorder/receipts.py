"""A witness's receipt, as the recorder reads it (agent/logformat/README.md, "Witness")."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.logformat.layout import WITNESS_TYP
from agent.logformat.suites import SuiteError, suite_by_number
from agent.tokens import TokenError, verify

MAX_RECEIPT_BYTES: Final = 2_048
"""One has about 500."""
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a witness signed: our line `n` has this `hash`; -1 and "": it has nothing yet.

    `iat`, `witness_time`: seconds since 1970, by the witness's clock. `token`: the whole of it.
    """

    kid: str
    n: int
    hash: str
    iat: int
    witness_time: int
    token: str

    def body(self) -> dict[str, object]:
        """Of the ledger's entry `witness.ack`."""
        return {
            "kid": self.kid,
            "n": self.n,
            "hash": self.hash,
            "witness_time": self.witness_time,
            "token": self.token,
        }


def read_receipt(token: str, *, robot_id: str, keys: Mapping[str, bytes]) -> Receipt:
    """The receipt in a token; TokenError for any other, in size, form, key, signature or claims.

    `keys`: the pinned witnesses, kid -> Ed25519 public key.
    """
    data = token.encode("utf-8", "replace")
    verified = verify(data, typ=WITNESS_TYP, key_of=keys.get, max_bytes=MAX_RECEIPT_BYTES)
    claims = verified.claims
    numbers = [claims.get(name) for name in ("n", "iat", "witness_time")]
    n, iat, witness_time = (number if type(number) is int else None for number in numbers)
    digest = claims.get("hash")
    named = claims.get("iss") == verified.kid and claims.get("aud") == robot_id
    if not named or n is None or iat is None or witness_time is None or not _fits(n, digest):
        raise TokenError("malformed", "claims", kid=verified.kid, authentic=True)
    return Receipt(verified.kid, n, str(digest), iat, witness_time, token)


def _fits(n: int, digest: object) -> bool:
    if n < 0:
        return n == -1 and digest == ""
    return isinstance(digest, str) and _HASH.fullmatch(digest) is not None


def is_hash_of(line: bytes, digest: str) -> bool:
    """Whether it is the line's in any suite: where the suite changes the old and the new have a claim."""
    return any(_hash(line, number) == digest for number in (1, 2))


def _hash(line: bytes, suite: int) -> str:
    try:
        return suite_by_number(suite).hash(line).hex()
    except SuiteError:
        return ""
