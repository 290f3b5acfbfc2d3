"""Recipients of the sealed log: whose keys open it (README of agent/logformat, "Suites").

Public keys are JWKs, `kty` OKP and `crv` X25519 (suite 1) or `kty` EC and `crv` SM2 (suite 2); private ones
PKCS#8 PEM that only their owner may read. X25519's PKCS#8 is `cryptography`'s; SM2's is written by a template
of ours and read by libcrypto 3, for `cryptography` knows no SM2. Errors are `agent.tokens.KeyFileError`.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from agent.core.trust import TrustError, decode_base64url, encode_base64url, parse_jwk
from agent.logformat.sm2 import Sm2
from agent.logformat.suites import SuiteError, suite_by_number
from agent.tokens import KeyFileError, key_pair_paths, read_jwk, read_private, write_key_files

SUITES: Final = (1, 2)
_KINDS: Final = {1: "x25519", 2: "sm2"}
"""In the names of key files."""
_LOST: Final = "what was sealed for it cannot be opened with it again"
_SM2_FIELDS: Final = frozenset({"kty", "crv", "x", "y", "kid"})
_COORDINATE_BYTES: Final = 32
_PRIVATE: Final = "an X25519 or SM2 private key in PKCS#8 PEM"
_PEM: Final = re.compile(rb"\s*-----BEGIN PRIVATE KEY-----\s([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*")


@dataclass(frozen=True, slots=True)
class Recipient:
    """One who can open the log. `public`: as `Suite.wrap` takes it, X25519 32 bytes, SM2 65 bytes."""

    kid: str
    suite: int
    public: bytes


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A private key, 32 bytes, as `Suite.unwrap` takes it."""

    suite: int
    private: bytes = field(repr=False)


def load_recipient(path: Path) -> Recipient:
    """A recipient's public key from a JWK file; KeyFileError for all else, a private key included.

    Something is wrapped for it at once: what passes can be sealed for.
    """
    kid, jwk = read_jwk(path)
    try:
        recipient = Recipient(kid, *_public_of(jwk))
        suite_by_number(recipient.suite).wrap(recipient.public, b"", b"")
    except TrustError as error:
        raise KeyFileError(path, str(error)) from None
    except SuiteError as error:
        raise KeyFileError(path, f"cannot be sealed for: {error.reason}") from None
    return recipient


def _public_of(jwk: Mapping[str, object]) -> tuple[int, bytes]:
    """The suite and the public key; TrustError."""
    if jwk.get("kty") != "EC":
        return 1, parse_jwk(jwk, "jwk", crv="X25519")
    if "d" in jwk:
        raise TrustError("jwk.d", "is a private key: make a new pair, this one is exposed")
    if jwk.keys() != _SM2_FIELDS or jwk["crv"] != "SM2":
        raise TrustError("jwk", 'must have kty "EC", crv "SM2", x, y and kid, and nothing else')
    coordinates = [decode_base64url(jwk[name]) or b"" for name in ("x", "y")]
    if any(len(coordinate) != _COORDINATE_BYTES for coordinate in coordinates):
        raise TrustError("jwk", f"x and y must be base64url of {_COORDINATE_BYTES} bytes")
    return 2, b"\x04" + b"".join(coordinates)


def recipient_jwk(recipient: Recipient) -> dict[str, str]:
    """The JWK that `load_recipient` reads."""
    public = recipient.public
    if recipient.suite == 1:
        return {"kty": "OKP", "crv": "X25519", "x": encode_base64url(public), "kid": recipient.kid}
    x, y = (encode_base64url(part) for part in (public[1:33], public[33:]))
    return {"kty": "EC", "crv": "SM2", "x": x, "y": y, "kid": recipient.kid}


def load_recipient_key(path: Path) -> RecipientKey:
    """The private key in a PKCS#8 PEM file that only its owner may use; KeyFileError otherwise."""
    data = read_private(path)
    try:
        key = load_pem_private_key(data, password=None)
    except UnsupportedAlgorithm:
        return RecipientKey(2, _sm2_private(path, data))
    except TypeError:
        raise KeyFileError(path, "is encrypted and must not be: this program asks for no password") from None
    except ValueError:
        raise KeyFileError(path, f"must be {_PRIVATE}") from None
    if not isinstance(key, X25519PrivateKey):
        raise KeyFileError(path, f"must be {_PRIVATE}, is of another kind")
    return RecipientKey(1, key.private_bytes_raw())


def _sm2_private(path: Path, data: bytes) -> bytes:
    """From what `cryptography` took for a key on a curve that it has not got."""
    found = _PEM.fullmatch(data)
    try:
        der = base64.b64decode(b"".join(found[1].split()), validate=True) if found else b""
        return Sm2().from_pkcs8(der)
    except binascii.Error:
        raise KeyFileError(path, f"must be {_PRIVATE}") from None
    except SuiteError as error:
        raise KeyFileError(path, f"must be {_PRIVATE}: {error.reason}") from None


def write_recipient_pair(folder: Path, kid: str, suite: int, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Makes a key and writes `<kid>.x25519.pem` and `.jwk`, or for suite 2 `<kid>.sm2.pem` and `.jwk`.

    The first 0600, the second 0644. KeyFileError when one of them is there already and `overwrite` is not
    given, or cannot be written; SuiteError where the suite is not to be had.
    """
    paths = key_pair_paths(folder, kid, _KINDS[suite], overwrite=overwrite, lost=_LOST)
    pem, public = _new_x25519() if suite == 1 else _new_sm2()
    write_key_files(*paths, pem, recipient_jwk(Recipient(kid, suite, public)))
    return paths


def _new_x25519() -> tuple[bytes, bytes]:
    key = X25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, key.public_key().public_bytes_raw()


def _new_sm2() -> tuple[bytes, bytes]:
    sm2 = Sm2()
    private, public = sm2.generate()
    text = base64.b64encode(sm2.pkcs8(private))
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN PRIVATE KEY-----\n" + lines + b"\n-----END PRIVATE KEY-----\n", public
