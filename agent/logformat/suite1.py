"""Suite 1: SHA-256, AES-256-GCM, Ed25519 and HPKE over X25519 (README.md, "Suites")."""

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM
from cryptography.hazmat.primitives.hpke import Suite as Hpke
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from agent.logformat.suites import Hasher, SuiteError

_HPKE: Final = Hpke(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SHA256: Final = SHA256()
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_BAD: Final = (ValueError, OverflowError)
"""What `cryptography` raises for sizes and values that it does not take."""


class Suite1:
    """Suite 1 behind the interface of `suites.Suite`; holds no state."""

    number: int = 1
    key_bytes: int = _KEY_BYTES

    def hash(self, *parts: bytes | bytearray | memoryview) -> bytes:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return digest.digest()

    def hasher(self) -> Hasher:
        return hashlib.sha256()

    def hmac(self, key: bytes | bytearray, data: bytes) -> bytes:
        return hmac.digest(key, data, "sha256")

    def hkdf(self, ikm: bytes | bytearray, salt: bytes, info: bytes, length: int) -> bytes:
        try:
            return HKDF(_SHA256, length, salt, info).derive(ikm)
        except _BAD as error:
            raise SuiteError(f"HKDF: {error}") from None

    def expand(self, key: bytes | bytearray, info: bytes, length: int) -> bytes:
        try:
            return HKDFExpand(_SHA256, length, info).derive(key)
        except _BAD as error:
            raise SuiteError(f"HKDF-Expand: {error}") from None

    def seal(
        self, key: bytes | bytearray, nonce: bytes, plaintext: bytes | bytearray, associated: bytes
    ) -> bytes:
        _sizes(key, nonce)
        try:
            return AESGCM(key).encrypt(nonce, plaintext, associated)
        except _BAD as error:
            raise SuiteError(f"AES-256-GCM: {error}") from None

    def open(
        self, key: bytes | bytearray, nonce: bytes, sealed: bytes | memoryview, associated: bytes
    ) -> bytes:
        _sizes(key, nonce)
        try:
            return AESGCM(key).decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise SuiteError("the tag does not fit: damaged, or another key") from None
        except _BAD as error:
            raise SuiteError(f"AES-256-GCM: {error}") from None

    def new_signing_key(self) -> tuple[bytes, bytes]:
        key = Ed25519PrivateKey.generate()
        return key.private_bytes_raw(), key.public_key().public_bytes_raw()

    def sign(self, private: bytes | bytearray, message: bytes) -> bytes:
        try:
            return Ed25519PrivateKey.from_private_bytes(private).sign(message)
        except _BAD:
            raise SuiteError("an Ed25519 private key is 32 bytes") from None

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (*_BAD, InvalidSignature):
            return False
        return True

    def wrap(self, public: bytes, secret: bytes | bytearray, info: bytes) -> bytes:
        try:
            return _HPKE.encrypt(secret, X25519PublicKey.from_public_bytes(public), info)
        except _BAD:
            # Also a point of low order, with which everyone would share the same secret.
            raise SuiteError("not an X25519 public key to wrap for") from None

    def unwrap(self, private: bytes | bytearray, wrapped: bytes, info: bytes) -> bytes:
        try:
            return _HPKE.decrypt(wrapped, X25519PrivateKey.from_private_bytes(private), info)
        except (*_BAD, InvalidTag):
            raise SuiteError("does not open: damaged, for another key or another header") from None


def _sizes(key: bytes | bytearray, nonce: bytes) -> None:
    """AESGCM would also take shorter keys and other nonces, which the format does not have."""
    if len(key) != _KEY_BYTES or len(nonce) != _NONCE_BYTES:
        raise SuiteError(f"a frame's key is {_KEY_BYTES} bytes, its nonce {_NONCE_BYTES}")
