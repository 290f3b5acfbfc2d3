"""A recipient's private keys, and the segment keys that they open (README of agent/logformat, "Segment")."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final

from agent.audit import forms
from agent.audit.errors import AuditError, FormatError
from agent.audit.header import Header
from agent.logformat.layout import LABEL_COMMITMENT, LABEL_RATCHET, LABEL_ROOT, LABEL_WRAP, SECRET_BYTES
from agent.logformat.suites import Suite, SuiteError

_SUITES: Final = {("OKP", "X25519"): 1, ("EC", "SM2"): 2}
_BLOCK_BYTES: Final = 64
"""Of SHA-256 and SM3 alike."""
_FIRST: Final = LABEL_RATCHET + b"\1"
_SECOND: Final = LABEL_RATCHET + b"\2"
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_INNER_PAD: Final = b"\x36" * (_BLOCK_BYTES - SECRET_BYTES)
_OUTER_PAD: Final = b"\x5c" * (_BLOCK_BYTES - SECRET_BYTES)
_STEP: Final = 1024
"""Every this many frames the ratchet's state is kept, so that a step back costs no more than so many."""


class ClosedError(AuditError):
    """A segment that these keys do not open."""


class CommitmentError(AuditError):
    """A segment whose recipients were handed different keys, or that was tampered with."""


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A private key. `kid`: "" where the file does not say whose it is; then every wrap is tried."""

    suite: int
    private: bytes = field(repr=False)
    kid: str = ""


def load_recipient_key(path: Path) -> RecipientKey:
    """From PKCS#8 PEM, as `guardian keygen --recipient` writes it, or from a private JWK (X25519 or SM2).

    AuditError for anything else, and for a file that others than its owner may read.
    """
    from agent.tokens import KeyFileError, read_private  # late, as in orders.py

    try:
        data = read_private(path)
    except KeyFileError as error:
        raise AuditError(path, error.bound) from None
    try:
        return _from_pem(path) if data.lstrip().startswith(b"-----") else _from_jwk(data)
    except (FormatError, KeyFileError, ValueError, TypeError):
        # Nothing of what was read may get into the message.
        reason = "must be a recipient's private key: PKCS#8 PEM, or a JWK, of X25519 or SM2"
        raise AuditError(path, reason) from None


def _from_pem(path: Path) -> RecipientKey:
    from agent import recipients

    key = recipients.load_recipient_key(path)
    return RecipientKey(key.suite, key.private)


def _from_jwk(data: bytes) -> RecipientKey:
    jwk = forms.read_object(data)
    private, kid = forms.as_bytes(jwk.get("d")), jwk.get("kid", "")
    suite = _SUITES.get((jwk.get("kty", ""), jwk.get("crv", "")))
    if suite is None or private is None or len(private) != SECRET_BYTES or not isinstance(kid, str):
        raise FormatError("not a private JWK of a recipient")
    return RecipientKey(suite, private, kid)


def open_secret(path: Path, header: Header, keys: Iterable[RecipientKey]) -> bytes:
    """SK of a segment; ClosedError where the keys do not suffice, CommitmentError where SK is not the one."""
    shares = _shares(header, list(keys))
    if header.fields.opening == "any":
        if not shares:
            raise ClosedError(path, f"none of the keys is for it; it is for {_names(header.wraps)}")
        secret = next(iter(shares.values()))
    else:
        missing = header.wraps.keys() - shares.keys()
        if missing:
            raise ClosedError(path, f"it takes all of its keys; missing: {_names(missing)}")
        secret = _joined(shares.values())
    for each in shares.values() if header.fields.opening == "any" else [secret]:
        committed = header.fields.suite.hmac(each, LABEL_COMMITMENT)
        if not compare_digest(committed, header.fields.commitment):
            raise CommitmentError(
                path, "another key than the header commits to: recipients could read different logs"
            )
    return secret


def _shares(header: Header, keys: list[RecipientKey]) -> dict[str, bytes]:
    """Secrets by kid, of the wraps that one of the keys opens."""
    shares: dict[str, bytes] = {}
    suite, info = header.fields.suite, LABEL_WRAP + header.fields.hash
    for kid, wrapped in header.wraps.items():
        for key in keys:
            if key.suite != suite.number or key.kid not in ("", kid):
                continue
            try:
                secret = suite.unwrap(key.private, wrapped, info + kid.encode())
            except SuiteError:
                continue
            if len(secret) == SECRET_BYTES:
                shares[kid] = secret
    return shares


def _joined(shares: Iterable[bytes]) -> bytes:
    joined = 0
    for share in shares:
        joined ^= int.from_bytes(share, "big")
    return joined.to_bytes(SECRET_BYTES, "big")


def _names(kids: Iterable[Any]) -> str:
    return ", ".join(ascii(kid)[1:-1] for kid in sorted(kids))


class Ratchet:
    """The frames' keys by index. Forward is one step a frame; backward at most 1,024."""

    def __init__(self, suite: Suite, secret: bytes, fields_hash: bytes) -> None:
        self._hash = suite.hash
        self._key_bytes = suite.key_bytes
        self._kept = [suite.hkdf(secret, fields_hash, LABEL_ROOT, SECRET_BYTES)]
        self._k = self._kept[0]
        self._index = 0

    def key(self, index: int) -> bytes:
        """E of frame `index`; the caller bounds it by what the file can hold."""
        if index < self._index:
            step = index // _STEP
            self._k, self._index = self._kept[step], step * _STEP
        while True:
            following, key = self._step()
            self._k = following
            self._index += 1
            if self._index % _STEP == 0 and self._index // _STEP == len(self._kept):
                self._kept.append(self._k)
            if self._index > index:
                return key

    def _step(self) -> tuple[bytes, bytes]:
        """HKDF-Expand to two blocks (RFC 5869, 2.3), each an HMAC (RFC 2104) under the same key.

        Spelled out, because so the key is prepared once for both: 2.6 µs a frame, with `hmac` 3.6.
        """
        inner, outer = self._k.translate(_INNER) + _INNER_PAD, self._k.translate(_OUTER) + _OUTER_PAD
        following = self._hash(outer + self._hash(inner + _FIRST))
        return following, self._hash(outer + self._hash(inner + following + _SECOND))[: self._key_bytes]
