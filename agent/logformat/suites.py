"""The primitives of the two suites behind one interface (README.md, "Suites").

    suite_by_number(1).seal(key, nonce, plaintext, associated)

Every failure of cryptography is a `SuiteError`; nothing else is raised for any bytes.
"""

from functools import cache
from typing import Protocol

from agent.errors import WardenError


class SuiteError(WardenError):
    """A suite is not to be had here, or what was given does not open, verify or parse. `reason`: in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Hasher(Protocol):
    """An incremental hash."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Takes more."""
        ...

    def digest(self) -> bytes:
        """32 bytes; called once, at the end."""
        ...


class Suite(Protocol):
    """One suite. All hashes are 32 bytes; `key_bytes`: of a frame's cipher key."""

    number: int
    key_bytes: int

    def hash(self, *parts: bytes | bytearray | memoryview) -> bytes:
        """H over the parts, one after the other."""
        ...

    def hasher(self) -> Hasher:
        """H, incrementally."""
        ...

    def hmac(self, key: bytes | bytearray, data: bytes) -> bytes:
        """HMAC with H."""
        ...

    def hkdf(self, ikm: bytes | bytearray, salt: bytes, info: bytes, length: int) -> bytes:
        """HKDF (RFC 5869): extract, then expand."""
        ...

    def expand(self, key: bytes | bytearray, info: bytes, length: int) -> bytes:
        """HKDF-Expand alone."""
        ...

    def seal(
        self, key: bytes | bytearray, nonce: bytes, plaintext: bytes | bytearray, associated: bytes
    ) -> bytes:
        """Ciphertext ‖ 16 bytes of tag. `nonce`: 12 bytes, never twice under one key."""
        ...

    def open(
        self, key: bytes | bytearray, nonce: bytes, sealed: bytes | memoryview, associated: bytes
    ) -> bytes:
        """The plaintext; SuiteError when the tag does not fit."""
        ...

    def new_signing_key(self) -> tuple[bytes, bytes]:
        """A fresh private key (32 bytes) and its public half as the format writes it."""
        ...

    def sign(self, private: bytes | bytearray, message: bytes) -> bytes:
        """A signature by a private key of `new_signing_key`."""
        ...

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """True for a good one; False for anything else, whatever the bytes are."""
        ...

    def wrap(self, public: bytes, secret: bytes | bytearray, info: bytes) -> bytes:
        """`secret` for a recipient's public key: X25519, 32 bytes; SM2, 65 bytes uncompressed."""
        ...

    def unwrap(self, private: bytes | bytearray, wrapped: bytes, info: bytes) -> bytes:
        """The inverse with the private key (32 bytes); SuiteError when it does not open or `info` differs."""
        ...


@cache
def suite_by_number(number: int) -> Suite:
    """The suite of that number; SuiteError for an unknown one, and for one that this machine has not got."""
    if number == 1:
        from agent.logformat.suite1 import Suite1

        return Suite1()
    if number == 2:
        from agent.logformat.suite2 import Suite2

        return Suite2()
    raise SuiteError(f"there is no suite {number}")
