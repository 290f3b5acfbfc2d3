"""What a witness answers with: a signed token that says which hash line n has (README, "Witness")."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.logformat.layout import WITNESS_TYP
from agent.tokens import sign
from console.belief import PREFIX
from console.witness.record import Receipt

LEVELS: Final = 4
"""`warden/v1/<robot_id>/ledger`."""


def ledger_topic(robot_id: str) -> str:
    """Where a robot publishes its entries; `+` for every robot."""
    return f"{PREFIX}/{robot_id}/ledger"


def robot_of(topic: str) -> str:
    """Whose ledger a topic is; "" for another topic."""
    levels = topic.split("/")
    return levels[2] if len(levels) == LEVELS and topic == ledger_topic(levels[2]) else ""


def ack_topic(robot_id: str) -> str:
    """Where it is answered."""
    return f"{PREFIX}/{robot_id}/ledger/ack"


def token(receipt: Receipt, *, kid: str, key: Ed25519PrivateKey, now_s: float) -> str:
    """The receipt, signed. `now_s`: seconds since 1970."""
    claims = {
        "iss": kid,
        "aud": receipt.robot,
        "iat": int(now_s),
        "n": receipt.n,
        "hash": receipt.hash,
        "witness_time": int(now_s),
    }
    return sign(claims, key=key, kid=kid, typ=WITNESS_TYP)
