"""The suites against the standards' published values and against second implementations."""

import hashlib
import hmac
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.logformat.sm2 import IDENTITY, ORDER, Sm2
from agent.logformat.suites import suite_by_number
from tests.logformat import plain_hpke, plain_sm
from tests.logformat import vectors as v

ONE, TWO = suite_by_number(1), suite_by_number(2)
SM2 = Sm2()
PRIVATE = plain_sm.octets(v.SM2_PRIVATE)
PUBLIC = plain_sm.encoded(v.SM2_PUBLIC)
AES_256_GCM = 2


def scalars(count: int) -> list[int]:
    """Seeded, and the smallest and the greatest that there are."""
    seeded = random.Random(4)
    return [1, 2, plain_sm.N - 2, *(seeded.randrange(1, plain_sm.N - 1) for _ in range(count))]


@pytest.mark.parametrize(("ikm", "salt", "info", "out"), v.HKDF_SHA256)
def test_hkdf_of_rfc_5869(ikm: bytes, salt: bytes, info: bytes, out: str) -> None:
    wanted = bytes.fromhex(out)
    assert ONE.hkdf(ikm, salt, info, len(wanted)) == wanted
    assert ONE.expand(ONE.hmac(salt, ikm), info, len(wanted)) == wanted


def test_hkdf_with_sm3_is_rfc_5869_over_another_hash() -> None:
    def hmac_sm3(key: bytes, data: bytes) -> bytes:
        padded = key.ljust(64, b"\0")
        inner = plain_sm.sm3(bytes(b ^ 0x36 for b in padded) + data)
        return plain_sm.sm3(bytes(b ^ 0x5C for b in padded) + inner)

    prk = hmac_sm3(b"salt", b"ikm")
    first = hmac_sm3(prk, b"info\x01")
    both = first + hmac_sm3(prk, first + b"info\x02")
    assert TWO.hmac(b"salt", b"ikm") == prk
    assert TWO.hkdf(b"ikm", b"salt", b"info", 48) == TWO.expand(prk, b"info", 48) == both[:48]


def test_sm3_of_gbt_32905() -> None:
    for data, wanted in ((b"abc", v.SM3_ABC), (b"abcd" * 16, v.SM3_64)):
        assert TWO.hash(data) == plain_sm.sm3(data) == wanted


@pytest.mark.parametrize("size", [0, 1, 54, 55, 56, 63, 64, 65, 200])
def test_hashes_at_the_edges_of_their_blocks(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert TWO.hash(data) == plain_sm.sm3(data)
    assert ONE.hash(data) == hashlib.sha256(data).digest()
    assert ONE.hmac(b"key", data) == hmac.digest(b"key", data, "sha256")


def test_sm4_gcm_of_rfc_8998() -> None:
    assert TWO.seal(v.SM4_KEY, v.SM4_NONCE, v.SM4_PLAIN, v.SM4_ASSOCIATED) == v.SM4_SEALED
    assert TWO.open(v.SM4_KEY, v.SM4_NONCE, v.SM4_SEALED, v.SM4_ASSOCIATED) == v.SM4_PLAIN


def test_aes_256_gcm_of_its_specification() -> None:
    assert ONE.seal(v.AES_KEY, v.AES_NONCE, v.AES_PLAIN, v.AES_ASSOCIATED) == v.AES_SEALED
    assert ONE.open(v.AES_KEY, v.AES_NONCE, v.AES_SEALED, v.AES_ASSOCIATED) == v.AES_PLAIN


def test_ed25519_of_rfc_8032() -> None:
    assert ONE.sign(v.ED25519_PRIVATE, v.ED25519_MESSAGE) == v.ED25519_SIGNATURE
    assert ONE.verify(v.ED25519_PUBLIC, v.ED25519_MESSAGE, v.ED25519_SIGNATURE)


def test_sm2_signature_of_gbt_32918() -> None:
    assert (IDENTITY, ORDER) == (plain_sm.IDENTITY, plain_sm.N)
    assert plain_sm.sign(v.SM2_PRIVATE, v.SM2_MESSAGE, v.SM2_K) == v.SM2_SIGNATURE
    assert SM2.public_of(PRIVATE) == PUBLIC
    assert TWO.verify(PUBLIC, v.SM2_MESSAGE, plain_sm.signature_der(*v.SM2_SIGNATURE))


def test_sm2_encryption_of_gbt_32918() -> None:
    published = (v.SM2_C1, v.SM2_C3, v.SM2_C2)
    assert plain_sm.encrypt(v.SM2_PUBLIC, v.SM2_PLAIN, v.SM2_K) == published
    assert SM2.decrypt(PRIVATE, plain_sm.ciphertext_der(*published)) == v.SM2_PLAIN


@pytest.mark.parametrize("private", scalars(5))
def test_sm2_and_the_plain_implementation_verify_each_other(private: int) -> None:
    point = plain_sm.times(private, plain_sm.G)
    raw, public = plain_sm.octets(private), plain_sm.encoded(point)
    message = f"entry {private}".encode()
    assert SM2.public_of(raw) == public
    assert plain_sm.verify(point, message, plain_sm.read_signature(TWO.sign(raw, message)))
    assert TWO.verify(public, message, plain_sm.signature_der(*plain_sm.sign(private, message, v.SM2_K)))


@pytest.mark.parametrize("private", scalars(5))
def test_sm2_and_the_plain_implementation_open_each_other(private: int) -> None:
    point = plain_sm.times(private, plain_sm.G)
    raw, public = plain_sm.octets(private), plain_sm.encoded(point)
    secret, info = random.Random(private).randbytes(32), b"header"
    plain = secret + plain_sm.sm3(info)
    wrapped = TWO.wrap(public, secret, info)
    assert plain_sm.decrypt(private, *plain_sm.read_ciphertext(wrapped)) == plain
    foreign = plain_sm.ciphertext_der(*plain_sm.encrypt(point, plain, v.SM2_K))
    assert TWO.unwrap(raw, foreign, info) == secret


def test_the_plain_hpke_of_rfc_9180() -> None:
    opened = plain_hpke.receive(v.HPKE_PRIVATE, v.HPKE_ENC, v.HPKE_INFO, aead=1, key_bytes=16)
    assert (opened.key, opened.nonce) == (v.HPKE_KEY, v.HPKE_NONCE)


def test_what_suite_1_wraps_is_rfc_9180s_enc_and_ciphertext() -> None:
    key = X25519PrivateKey.generate()
    wrapped = ONE.wrap(key.public_key().public_bytes_raw(), b"s" * 32, b"header")
    enc, ciphertext = wrapped[:32], wrapped[32:]
    opened = plain_hpke.receive(key.private_bytes_raw(), enc, b"header", AES_256_GCM, key_bytes=32)
    assert AESGCM(opened.key).decrypt(opened.nonce, ciphertext, b"") == b"s" * 32
