"""HPKE's base mode over X25519 and HKDF-SHA256, written from RFC 9180: suite 1 is checked against it."""

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

KEM = b"KEM" + (0x0020).to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Opened:
    """What both ends come to share."""

    key: bytes
    nonce: bytes


def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + labeled + bytes([number]), "sha256")
        out, number = out + block, number + 1
    return out[:length]


def receive(private: bytes, enc: bytes, info: bytes, aead: int, key_bytes: int) -> Opened:
    """SetupBaseR, as far as the first message needs it."""
    own = X25519PrivateKey.from_private_bytes(private)
    shared_point = own.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + own.public_key().public_bytes_raw()
    prk = extract(KEM, b"", b"eae_prk", shared_point)
    shared = expand(KEM, prk, b"shared_secret", context, hashlib.sha256().digest_size)
    suite = b"HPKE" + b"".join(part.to_bytes(2, "big") for part in (0x0020, 0x0001, aead))
    ids = (extract(suite, b"", b"psk_id_hash", b""), extract(suite, b"", b"info_hash", info))
    schedule = b"\x00" + b"".join(ids)
    secret = extract(suite, shared, b"secret", b"")
    key = expand(suite, secret, b"key", schedule, key_bytes)
    return Opened(key, expand(suite, secret, b"base_nonce", schedule, 12))
