"""Signed tokens and key files: JWS compact, Ed25519 (`EdDSA`) and nothing else (PROTOCOL 3).

The order of checks is size, header, key known, signature; only then are the claims looked at. No key material
ever enters a message, a repr or the chain of an exception.

* WardenError
    * TokenError      a token that is too large, malformed, of an unknown key or badly signed
    * KeyFileError    a key file that cannot be used, or that others can read
    * TrustFileError  a trust file that cannot be read, verified or accepted
"""

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from agent.core.trust import Trust, TrustError, encode_base64url, is_name, parse_jwk, parse_name, parse_trust
from agent.errors import WardenError

MAX_TOKEN_BYTES: Final = 65536
"""PROTOCOL 3: packets over 64 KiB are dropped."""
MAX_DEPTH: Final = 16
"""Objects and lists inside one another; the deepest message of PROTOCOL has four."""
MAX_KEY_FILE_BYTES: Final = 16384

COMMAND: Final = "warden-cmd+jwt"
REPLY: Final = "warden-reply+jwt"
STATE: Final = "warden-state+jwt"
EVENT: Final = "warden-event+jwt"
PRESENCE: Final = "warden-presence+jwt"
TRUST: Final = "warden-trust+jwt"

_ALGORITHM: Final = "EdDSA"
_HEADER: Final = frozenset({"alg", "kid", "typ"})
# 86 characters are the 64 bytes of an Ed25519 signature. Checked first, because PyJWT also takes padding,
# which makes several spellings of one token, and an empty payload.
_COMPACT: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")
_JWS: Final = PyJWS(algorithms=[_ALGORITHM])


class TokenError(WardenError):
    """A token that is refused.

    `code`: too_large, malformed, unknown_key or bad_signature. `kid`: what its header claims, None when that
    could not be read. `authentic`: True when the signature was good all the same (then `kid` did sign it).
    """

    def __init__(self, code: str, reason: str, *, kid: str | None = None, authentic: bool = False) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.kid = kid
        self.authentic = authentic


class KeyFileError(WardenError):
    """A key file that is refused. `path`: the file; `bound`: what it must be and how to make it so."""

    def __init__(self, path: Path, bound: str) -> None:
        super().__init__(f"{path}: {bound}")
        self.path = path
        self.bound = bound


class TrustFileError(WardenError):
    """A trust file that is refused. `path`: the file; `key`: where in it; `bound`: the rule it breaks."""

    def __init__(self, path: Path, key: str, bound: str) -> None:
        super().__init__(f"{path}: {key}: {bound}")
        self.path = path
        self.key = key
        self.bound = bound


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good token says, and whose key signed it."""

    kid: str
    claims: Mapping[str, Any]


def sign(claims: Mapping[str, object], *, key: Ed25519PrivateKey, kid: str, typ: str) -> str:
    """The token that states these claims; raises ValueError for what JSON cannot carry (NaN, infinity)."""
    payload = json.dumps(claims, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return _JWS.encode(payload, key, algorithm=_ALGORITHM, headers={"kid": kid, "typ": typ})


def verify(
    token: bytes,
    *,
    typ: str,
    key_of: Callable[[str], bytes | None],
    max_bytes: int = MAX_TOKEN_BYTES,
) -> Verified:
    """The claims of a token of this `typ`, once its signature is good; TokenError otherwise.

    `key_of`: the 32-byte Ed25519 public key of a kid, None for one that is not known.
    """
    if len(token) > max_bytes:
        raise TokenError("too_large", f"{len(token)} bytes, at most {max_bytes}")
    kid = _kid(token, typ)
    raw = key_of(kid)
    if raw is None:
        raise TokenError("unknown_key", "this key is not trusted", kid=kid)
    payload = _open(token, _public_key(raw), kid)
    try:
        return Verified(kid, read_object(payload))
    except ValueError as error:
        raise TokenError("malformed", f"claims: {error}", kid=kid, authentic=True) from None


def _kid(token: bytes, typ: str) -> str:
    """The kid in the header, once that is what PROTOCOL 3 says: `alg`, `kid`, `typ` and nothing else."""
    if not _COMPACT.fullmatch(token):
        raise TokenError("malformed", "not a JWS in compact form with a 64-byte signature")
    try:
        header = _JWS.get_unverified_header(token)
    except PyJWTError:
        raise TokenError("malformed", "header: not base64url of a JSON object") from None
    kid = header.get("kid")
    if not isinstance(kid, str) or not is_name(kid):
        raise TokenError("malformed", "header: kid must be 1 to 64 of A-Z a-z 0-9 _ . : -")
    if header.keys() != _HEADER:
        raise TokenError("malformed", "header: must hold alg, kid and typ, and nothing else", kid=kid)
    if header["alg"] != _ALGORITHM or header["typ"] != typ:
        raise TokenError("malformed", f"header: must have alg {_ALGORITHM} and typ {typ}", kid=kid)
    return kid


def _open(token: bytes, key: Ed25519PublicKey, kid: str) -> bytes:
    try:
        payload: bytes = _JWS.decode_complete(token, key, algorithms=[_ALGORITHM])["payload"]
    except PyJWTError:
        raise TokenError("bad_signature", "the signature does not fit", kid=kid) from None
    return payload


@lru_cache(maxsize=1024)
def _public_key(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


def read_object(data: bytes) -> dict[str, Any]:
    """A JSON object read strictly; raises ValueError for all else.

    Refused beyond what JSON itself forbids: a field that stands twice, NaN and infinity (also by overflow),
    nesting deeper than MAX_DEPTH, lone surrogates (which nothing could write out again).
    """
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one kind of error for whatever the bytes hold
    _bound(value, MAX_DEPTH)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number too large")
    return number


def _bound(value: object, depth: int) -> None:
    if isinstance(value, str):
        value.encode()
        return
    if not isinstance(value, dict | list):
        return
    if depth == 0:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    for item in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
        _bound(item, depth - 1)


def new_jti() -> str:
    """128 random bits as 32 hexadecimal characters."""
    return os.urandom(16).hex()


def raw_public_key(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public key that belongs to a private one."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def public_jwk(kid: str, raw: bytes) -> dict[str, str]:
    """The JWK of an Ed25519 public key (PROTOCOL 3, "Key files")."""
    return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(raw), "kid": kid}


def write_key_pair(folder: Path, kid: str, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Makes a key and writes `<kid>.ed25519.pem` (0600) and `<kid>.ed25519.jwk` (0644); returns both paths.

    Raises KeyFileError when one of them is there already and `overwrite` is not given, or cannot be written.
    """
    paths = key_pair_paths(folder, kid, "ed25519", overwrite=overwrite, lost="what it signed for is lost")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_key_files(*paths, pem, public_jwk(kid, raw_public_key(key)))
    return paths


def key_pair_paths(folder: Path, kid: str, kind: str, *, overwrite: bool, lost: str) -> tuple[Path, Path]:
    """Where the two files of a new pair go; KeyFileError for a bad kid, or a file that is there already.

    `kind`: in their names, such as ed25519. `lost`: what replacing an old pair would cost.
    """
    if not is_name(kid):
        raise KeyFileError(folder, "kid must be 1 to 64 of A-Z a-z 0-9 _ . : -")
    private, public = folder / f"{kid}.{kind}.pem", folder / f"{kid}.{kind}.jwk"
    for path in (private, public):
        if not overwrite and path.exists():
            raise KeyFileError(path, f"is there already; --force replaces it, and {lost}")
    return private, public


def write_key_files(private: Path, public: Path, pem: bytes, jwk: Mapping[str, str]) -> None:
    """A pair's two files, 0600 and 0644; KeyFileError when one cannot be written."""
    _write(private, pem, 0o600)
    _write(public, json.dumps(jwk).encode() + b"\n", 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """By a new file and a rename: never with the rights of the file it replaces, and never half there."""
    fresh = path.with_name(f".{path.name}.{new_jti()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise KeyFileError(path, f"cannot be written: {error.strerror}") from None


def read_private(path: Path) -> bytes:
    """What a file holds that only its owner may use, at most 16 KiB; KeyFileError when others may too.

    A symbolic link is followed: the rights that count are those of the file that was opened.
    """
    data, mode = _read(path)
    if mode & 0o077:
        raise KeyFileError(path, f"has mode {mode:04o} and must be 0600 or stricter: chmod 600 {path}")
    return data


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key of a PKCS#8 PEM file that only its owner may use; KeyFileError otherwise."""
    data = read_private(path)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise KeyFileError(path, "is encrypted and must not be: no one is there to type a password") from None
    except (ValueError, UnsupportedAlgorithm):  # the second for curves such as SM2's
        raise KeyFileError(path, "must be an Ed25519 private key in PKCS#8 PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(path, "must be an Ed25519 key, is of another kind")
    return key


def load_public_jwk(path: Path) -> tuple[str, bytes]:
    """The kid and the 32 bytes of an Ed25519 public key in a JWK file; KeyFileError otherwise."""
    kid, jwk = read_jwk(path)
    try:
        return kid, parse_jwk(jwk, "jwk")
    except TrustError as error:
        raise KeyFileError(path, str(error)) from None


def read_jwk(path: Path) -> tuple[str, dict[str, Any]]:
    """The kid and the whole of a JWK file, its key not yet looked at; KeyFileError otherwise."""
    data, _ = _read(path)
    try:
        jwk = read_object(data)
        return parse_name(jwk.get("kid"), "kid"), jwk
    except TrustError as error:
        raise KeyFileError(path, str(error)) from None
    except ValueError as error:
        raise KeyFileError(path, f"must be a JWK, one JSON object: {error}") from None


def load_roots(paths: Iterable[Path]) -> dict[str, bytes]:
    """The root keys that trust is pinned to, kid → 32 bytes; KeyFileError for a bad file or a kid twice."""
    roots: dict[str, bytes] = {}
    for path in paths:
        kid, key = load_public_jwk(path)
        if kid in roots:
            raise KeyFileError(path, f'the kid "{kid}" comes twice among the root keys')
        roots[kid] = key
    return roots


def open_trust(token: bytes, roots: Mapping[str, bytes]) -> Trust:
    """The trust a `warden-trust+jwt` states, signed by one of the roots; else TokenError or TrustError."""
    verified = verify(token, typ=TRUST, key_of=roots.get)
    if verified.claims.get("iss") != verified.kid:
        raise TrustError("iss", "must be the kid of the root key that signed")
    trust = parse_trust(verified.claims)
    for robot in trust.robots.values():
        # Else that robot could name the people who command it.
        if robot.key in roots.values() or robot.id in roots:
            raise TrustError("robots", f'"{robot.id}" has a root\'s key or kid')
    return trust


def load_trust(path: Path, roots: Mapping[str, bytes]) -> Trust:
    """The trust in a file that holds one `warden-trust+jwt`; TrustFileError otherwise."""
    try:
        data, _ = _read(path, MAX_TOKEN_BYTES + 1)
        return open_trust(data.strip(), roots)
    except KeyFileError as error:
        raise TrustFileError(path, "file", error.bound) from None
    except TokenError as error:
        raise TrustFileError(path, "token", str(error)) from None
    except TrustError as error:
        raise TrustFileError(path, error.key, error.bound) from None


def _read(path: Path, max_bytes: int = MAX_KEY_FILE_BYTES) -> tuple[bytes, int]:
    """The content and the permission bits of one regular file, both of the same open file."""
    try:
        # O_NONBLOCK: the open of a FIFO put in a key's place would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(path, "must be a regular file")
            data = os.read(descriptor, max_bytes + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeyFileError(path, f"cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise KeyFileError(path, f"is larger than {max_bytes} bytes")
    return data, stat.S_IMODE(status.st_mode)
