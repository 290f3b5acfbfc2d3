"""What `remote` would publish, kept instead of sent; read as any client would read it."""

from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.mqtt import MqttLink, Outgoing

ROBOT = "FT-1"
TOPIC = f"warden/v1/{ROBOT}"


class Line(MqttLink):
    """A link that keeps what it is given."""

    def __init__(self) -> None:
        self.connected = True
        self.round_trip_s = float("inf")
        self.sent: list[Outgoing] = []

    def publish(self, packet: Outgoing) -> None:
        self.sent.append(packet)


def read(packet: Outgoing, key: Ed25519PublicKey, typ: str, audience: str = "*") -> dict[str, Any]:
    """The claims, once PyJWT finds the robot's own signature good."""
    header = jwt.get_unverified_header(packet.payload)
    assert header == {"alg": "EdDSA", "kid": ROBOT, "typ": typ}
    return jwt.decode(packet.payload, key, algorithms=["EdDSA"], audience=audience, issuer=ROBOT)
