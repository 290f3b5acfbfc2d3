"""People who give commands: signed with PyJWT, apart from the agent's own code."""

import json
import time
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil.pki import Pki, load_signing_key


class Giver:
    """One person of a `Pki`."""

    def __init__(self, pki: Pki, kid: str) -> None:
        self.kid = kid
        self.robot_id = pki.robot_id
        self.key = load_signing_key(pki.person(kid).signing_key)

    def claims(self, cmd: str, args: object = None, **changes: object) -> dict[str, object]:
        now = int(time.time())
        head = {"iss": self.kid, "aud": self.robot_id, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
        return {**head, "cmd": cmd, "args": args or {}, **changes}

    def sign(
        self,
        claims: object,
        key: Ed25519PrivateKey | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        headers = {"kid": self.kid, "typ": "warden-cmd+jwt", **(headers or {})}
        return jwt.api_jws.encode(
            json.dumps(claims).encode(), key or self.key, algorithm="EdDSA", headers=headers
        ).encode()

    def give(self, cmd: str, args: object = None, **changes: object) -> bytes:
        return self.sign(self.claims(cmd, args, **changes))
