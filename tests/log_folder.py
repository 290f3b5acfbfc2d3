"""A plan with a log that `tests/audit/forge.py` wrote, its keys as files, and a recorder that stands in."""

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from agent.core.trust import encode_base64url
from agent.logformat.layout import ORDER_TYP
from agent.tokens import public_jwk, sign
from hil.pki import load_signing_key
from tests.audit.forge import DEPARTMENT, WITNESS, Forge, public, simple
from tests.bare import ROBOT, Bare

Answer = Mapping[str, object] | bytes | None
"""What the stand-in says: a message, raw bytes, or nothing."""


class Robot(Bare):
    """Its plan pins the forge's own root key and witness; its log is simple and clean."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, witnessed)
        self.log = folder / "log"
        self.forge: Forge = simple(self.log, robot=ROBOT)
        self.genesis = folder / "genesis.json"
        self.genesis.write_bytes(self.forge.lines[0] + b"\n")
        self.root = self._jwk(DEPARTMENT)
        self.witness = self._jwk(WITNESS)

    def _jwk(self, kid: str) -> Path:
        path = self.folder / f"{kid}.jwk"
        path.write_text(json.dumps(public_jwk(kid, public(kid))), "utf-8")
        return path

    def key(self, number: int = 0) -> Path:
        """The private JWK of a recipient (suite 1)."""
        recipient = self.forge.recipients[number]
        path = self.folder / f"{recipient.kid}.x25519.jwk"
        jwk = {
            "kty": "OKP",
            "crv": "X25519",
            "kid": recipient.kid,
            "x": encode_base64url(recipient.public),
            "d": encode_base64url(recipient.private),
        }
        path.write_text(json.dumps(jwk), "utf-8")
        path.chmod(0o600)
        return path

    def order(self, kid: str) -> str:
        """For the first segment of `tele`, by a person of the trust file."""
        token = load_signing_key(self.pki.person(kid).signing_key)
        claims = {
            "iss": kid,
            "aud": ROBOT,
            "iat": 1_800_000_000,
            "jti": "j-2",
            "order": "delete",
            "segments": [self.forge.named(self.forge.done["tele", 1])],
            "reason": "due",
        }
        return sign(claims, key=token, kid=kid, typ=ORDER_TYP)

    def recorder(self, answer: Callable[[dict[str, Any]], Answer]) -> "StandIn":
        """What answers on this robot's recorder.sock, in a with statement."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        return StandIn(self.run_folder / "recorder.sock", answer)


def witnessed(plan: str) -> str:
    return re.sub(r"(?m)^witnesses = .*$", 'witnesses = ["wit-1.jwk"]', plan)


class StandIn:
    """One socket with the recorder's manners: hello, a question, an answer. `heard`: all it was asked."""

    def __init__(self, path: Path, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.heard: list[dict[str, Any]] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, name="recorder stand-in")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        hello = json.loads(connection.recv(1 << 17))
        assert (hello["type"], hello["role"]) == ("hello", "status")
        question = json.loads(connection.recv(1 << 17))
        self.heard.append(question)
        answer = self._answer(question)
        if answer is not None:
            connection.send(answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def damage(path: Path, offset: int) -> None:
    """One bit of a file, the other way."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
