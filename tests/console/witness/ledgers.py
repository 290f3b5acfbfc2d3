"""Ledgers as a robot would write them, signed here with `cryptography` and `hashlib` and none of our code."""

import base64
import hashlib
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LABEL = b"robot-warden ledger v1\0"
BOOT = "ab" * 16


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public(key: Ed25519PrivateKey) -> str:
    return b64(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def sha(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def key_from(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())


def signed(key: Ed25519PrivateKey, fields: Mapping[str, object]) -> bytes:
    """The line of these fields."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    return text + b',"sig":"' + b64(key.sign(LABEL + text)).encode() + b'"}'


class Chain:
    """One robot's ledger; the same `robot` and `seed` give the same lines."""

    def __init__(self, robot: str = "R1", seed: str = "") -> None:
        self.robot = robot
        self.seed = seed or robot
        self.lines: list[bytes] = []
        self.keys = [key_from(f"{self.seed} 0")]
        self.add("genesis", {"suite": 1, "pk": public(self.keys[0]), "recipients": [], "previous": None})

    def fork(self) -> "Chain":
        """A copy that can go another way, with the same keys."""
        copy = object.__new__(Chain)
        copy.robot, copy.seed = self.robot, self.seed
        copy.lines, copy.keys = list(self.lines), list(self.keys)
        return copy

    def fields(self, kind: str, body: Mapping[str, object], **changes: object) -> dict[str, object]:
        """Of the next entry, all but its signature."""
        n = len(self.lines)
        whole = {
            "v": 1,
            "robot": self.robot,
            "n": n,
            "prev_hash": sha(self.lines[-1]) if self.lines else "0" * 64,
            "boot_id": BOOT,
            "wall": 1_700_000_000_000_000_000 + n,
            "boottime": n,
            "kind": kind,
            "body": dict(body),
            "next_pk": public(self.next_key()),
        }
        return {**whole, **changes}

    def next_key(self) -> Ed25519PrivateKey:
        return key_from(f"{self.seed} {len(self.lines) + 1}")

    def make(
        self,
        kind: str = "checkpoint",
        body: Mapping[str, object] | None = None,
        key: Ed25519PrivateKey | None = None,
        **changes: object,
    ) -> bytes:
        """What the next line could be; it is not added."""
        return signed(
            key or self.keys[-1], self.fields(kind, {"streams": {}} if body is None else body, **changes)
        )

    def add(self, kind: str = "checkpoint", body: Mapping[str, object] | None = None) -> bytes:
        line = self.make(kind, body)
        self.keys.append(self.next_key())
        self.lines.append(line)
        return line

    def grow(self, count: int) -> "Chain":
        for _ in range(count):
            self.add()
        return self
