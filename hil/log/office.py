"""The people and machines outside the robot: the department that orders, the witness that signs."""

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.audit import OrderKeys
from agent.logformat.layout import ORDER_TYP
from agent.recorder.sealed.ledger import Entry
from agent.recorder.sealed.orders import Named, Office
from agent.tokens import new_jti, raw_public_key, sign
from console.witness.receipts import token
from console.witness.record import Receipt

ROOT, WITNESS = "root-1", "witness-1"


class Department:
    """Holds a root key. `office`: how the robot knows it; `keys`: how an auditor does."""

    def __init__(self, robot: str) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._robot = robot
        roots = {ROOT: raw_public_key(self._key)}
        self.office = Office(robot, roots, None)
        self.keys = OrderKeys(roots)

    def order(self, segments: Sequence[Named], iat: int = 1_800_000_000) -> str:
        """A signed order to delete; at most 200 segments. `iat`: seconds since 1970."""
        claims = {
            "iss": ROOT,
            "aud": self._robot,
            "iat": iat,
            "jti": new_jti(),
            "order": "delete",
            "segments": [named.as_dict() for named in segments],
            "reason": "past its time / 保存期满",
        }
        return sign(claims, key=self._key, kid=ROOT, typ=ORDER_TYP)


class Witness:
    """Signs that it took an entry, as `guardian witness` does. `keys`: kid -> Ed25519 public key."""

    def __init__(self, robot: str) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._robot = robot
        self.keys: Mapping[str, bytes] = {WITNESS: raw_public_key(self._key)}

    def receipt(self, entry: Entry, now_s: float) -> dict[str, object]:
        """Body of `witness.ack` for an entry. `now_s`: the witness's own clock, seconds since 1970."""
        taken = Receipt(self._robot, entry.n, entry.hash)
        signed = token(taken, kid=WITNESS, key=self._key, now_s=now_s)
        return {
            "kid": WITNESS,
            "n": entry.n,
            "hash": entry.hash,
            "witness_time": int(now_s),
            "token": signed,
        }
