"""Suite 2: SM3, SM4-GCM and SM2 (README.md, "Suites"): SM2 from `sm2`, the rest from `cryptography`."""

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SM3, Hash
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from agent.logformat.sm2 import Sm2
from agent.logformat.suites import Hasher, SuiteError

_SM3: Final = SM3()
_HASH_BYTES: Final = 32
_KEY_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_BAD: Final = (ValueError, OverflowError)
"""What `cryptography` raises for sizes and values that it does not take."""


class _Sm3:
    """SM3, incrementally."""

    __slots__ = ("_hash", "update")

    def __init__(self) -> None:
        self._hash = Hash(_SM3)
        self.update = self._hash.update

    def digest(self) -> bytes:
        return self._hash.finalize()


class Suite2:
    """Suite 2 behind the interface of `suites.Suite`; SuiteError where OpenSSL 3 is missing."""

    number: int = 2
    key_bytes: int = _KEY_BYTES

    def __init__(self) -> None:
        self._sm2 = Sm2()

    def hash(self, *parts: bytes | bytearray | memoryview) -> bytes:
        digest = Hash(_SM3)
        for part in parts:
            digest.update(part)
        return digest.finalize()

    def hasher(self) -> Hasher:
        return _Sm3()

    def hmac(self, key: bytes | bytearray, data: bytes) -> bytes:
        code = HMAC(key, _SM3)
        code.update(data)
        return code.finalize()

    def hkdf(self, ikm: bytes | bytearray, salt: bytes, info: bytes, length: int) -> bytes:
        try:
            return HKDF(_SM3, length, salt, info).derive(ikm)
        except _BAD as error:
            raise SuiteError(f"HKDF: {error}") from None

    def expand(self, key: bytes | bytearray, info: bytes, length: int) -> bytes:
        try:
            return HKDFExpand(_SM3, length, info).derive(key)
        except _BAD as error:
            raise SuiteError(f"HKDF-Expand: {error}") from None

    def seal(
        self, key: bytes | bytearray, nonce: bytes, plaintext: bytes | bytearray, associated: bytes
    ) -> bytes:
        _sizes(key, nonce)
        try:
            context = Cipher(_cipher(key), GCM(nonce)).encryptor()
            context.authenticate_additional_data(associated)
            sealed = context.update(plaintext)
            context.finalize()
        except _BAD as error:
            raise SuiteError(f"SM4-GCM: {error}") from None
        return sealed + context.tag

    def open(
        self, key: bytes | bytearray, nonce: bytes, sealed: bytes | memoryview, associated: bytes
    ) -> bytes:
        _sizes(key, nonce)
        try:
            context = Cipher(_cipher(key), GCM(nonce, bytes(sealed[-_TAG_BYTES:]))).decryptor()
            context.authenticate_additional_data(associated)
            plain = context.update(sealed[:-_TAG_BYTES])
            context.finalize()
        except InvalidTag:
            raise SuiteError("the tag does not fit: damaged, or another key") from None
        except _BAD as error:
            raise SuiteError(f"SM4-GCM: {error}") from None
        return plain

    def new_signing_key(self) -> tuple[bytes, bytes]:
        return self._sm2.generate()

    def sign(self, private: bytes | bytearray, message: bytes) -> bytes:
        return self._sm2.sign(private, message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        try:
            return self._sm2.verify(public, message, signature)
        except SuiteError:
            return False

    def wrap(self, public: bytes, secret: bytes | bytearray, info: bytes) -> bytes:
        plain = bytearray(secret)
        plain += self.hash(info)
        try:
            return self._sm2.encrypt(public, plain)
        finally:
            plain[:] = bytes(len(plain))

    def unwrap(self, private: bytes | bytearray, wrapped: bytes, info: bytes) -> bytes:
        plain = self._sm2.decrypt(private, wrapped)
        if not hmac.compare_digest(plain[-_HASH_BYTES:], self.hash(info)):
            raise SuiteError("does not open: wrapped for another header")
        return plain[:-_HASH_BYTES]


def _cipher(key: bytes | bytearray) -> SM4:
    # Its annotation says bytes, and it takes any buffer; a copy as bytes could not be wiped.
    return SM4(key)  # type: ignore[arg-type]


def _sizes(key: bytes | bytearray, nonce: bytes) -> None:
    """GCM would also take other nonces, which the format does not have."""
    if len(key) != _KEY_BYTES or len(nonce) != _NONCE_BYTES:
        raise SuiteError(f"a frame's key is {_KEY_BYTES} bytes, its nonce {_NONCE_BYTES}")
