"""Who may read the figures: TLS from a certificate and key, and basic authentication from a file of one hash.

The password file is one line, `user:scrypt:n:r:p:salt:hash` (salt and hash base64), as `hash_password` makes
it.
"""

import base64
import hashlib
import hmac
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.monitor.errors import MonitorError

SCRYPT_N: Final = 16_384
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
"""RFC 7914: about 50 ms and 16 MiB for one guess."""
MAX_SCRYPT_BYTES: Final = 64 * 1024 * 1024
GUESS_EVERY_NS: Final = 250_000_000
"""Between two passwords that have to be computed; a flood of guesses costs the host a fifth of a core."""
MAX_FILE_BYTES: Final = 4096

_LINE = re.compile(
    r"([^:\s][^:\n]*):scrypt:([0-9]{1,8}):([0-9]{1,2}):([0-9]{1,2}):([A-Za-z0-9+/=]+):([A-Za-z0-9+/]{43}=)\n?"
)


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate chain and private key, both PEM."""

    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer; raises MonitorError naming the file."""
        _refuse_if_others_read(self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # An empty password: an encrypted key is an error here, not a question on a terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except OSError as error:  # ssl.SSLError is one
            raise MonitorError(str(self.cert), f"not a certificate that fits {self.key}: {error}") from error
        return context


def hash_password(user: str, password: str, *, salt: bytes | None = None) -> str:
    """The line of a password file. Raises ValueError for a user name with a colon or a line end."""
    if not user or not user.isprintable() or ":" in user:
        raise ValueError("a user name is printable, not empty, and has no colon")
    salt = os.urandom(16) if salt is None else salt
    digest = _scrypt(password.encode(), salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)
    parts = (user, "scrypt", str(SCRYPT_N), str(SCRYPT_R), str(SCRYPT_P), _b64(salt), _b64(digest))
    return ":".join(parts) + "\n"


class BasicAuth:
    """One user and password (RFC 7617), compared in constant time.

    A header that was right once is remembered (as a hash under a key of this process), so that a scrape
    costs no scrypt; any other one is computed at most four times a second.
    """

    def __init__(self, path: Path, now_ns: Callable[[], int]) -> None:
        """Reads the file; raises MonitorError naming it."""
        self._user, self._cost, self._salt, self._digest = _read(path)
        self._now_ns = now_ns
        self._process_key = os.urandom(32)
        self._known = b""
        self._next_guess_ns = 0

    def allows(self, header: str | None) -> bool:
        """True for a right `Authorization` header; False also for a right one in a flood of guesses."""
        if header is None:
            return False
        mark = hmac.digest(self._process_key, header.encode("latin-1", "replace"), "sha256")
        if hmac.compare_digest(mark, self._known):
            return True
        if self._now_ns() < self._next_guess_ns:
            return False
        self._next_guess_ns = self._now_ns() + GUESS_EVERY_NS
        if not self._right(_credentials(header)):
            return False
        self._known = mark
        return True

    def _right(self, credentials: tuple[bytes, bytes] | None) -> bool:
        if credentials is None:
            return False
        user, password = credentials
        digest = _scrypt(password, self._salt, *self._cost)
        # Both are always compared: a wrong name takes as long as a wrong password.
        return hmac.compare_digest(user, self._user) & hmac.compare_digest(digest, self._digest)


def _credentials(header: str) -> tuple[bytes, bytes] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:  # binascii.Error is one
        return None
    return (user, password) if colon else None


def _read(path: Path) -> tuple[bytes, tuple[int, int, int], bytes, bytes]:
    """User, cost, salt and hash; a cost that cannot be computed is found now and not at a scrape."""
    _refuse_if_others_read(path)
    try:
        with path.open("rb") as file:
            line = file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise MonitorError(str(path), f"cannot be read: {error.strerror}") from error
    try:
        return _parse(line.decode())
    except ValueError as error:  # UnicodeDecodeError and binascii.Error are two
        raise MonitorError(str(path), "is not one line user:scrypt:n:r:p:salt:hash") from error


def _parse(line: str) -> tuple[bytes, tuple[int, int, int], bytes, bytes]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(line)
    user, n, r, p, salt, digest = match.groups()
    cost = (int(n), int(r), int(p))
    parsed = (
        user.encode(),
        cost,
        base64.b64decode(salt, validate=True),
        base64.b64decode(digest, validate=True),
    )
    _scrypt(b"", parsed[2], *cost)
    return parsed


def _refuse_if_others_read(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise MonitorError(str(path), f"cannot be read: {error.strerror}") from error
    if mode & 0o007:
        raise MonitorError(str(path), f"others may use it (mode {mode & 0o777:04o}): chmod o= it")


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=MAX_SCRYPT_BYTES, dklen=32)


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
