"""SM2 through libcrypto 3: what a machine may lack, what a key may be, and that nothing is left behind."""

import ctypes
import gc
from collections.abc import Callable, Iterator

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import example, given
from hypothesis import strategies as st

from agent.logformat import sm2, suites
from agent.logformat.sm2 import ORDER, Sm2
from agent.logformat.suites import SuiteError, suite_by_number
from tests.logformat import plain_sm

SM2 = Sm2()
PRIVATE, PUBLIC = SM2.generate()
DER = SM2.pkcs8(PRIVATE)

OPENSSL = bytes.fromhex(
    "308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420"
    "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8a144034200"
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
"""What `openssl pkcs8 -topk8 -nocrypt -outform DER` (3.0) makes of GB/T 32918.5's key."""
CALLS = 200
LEAST_LEAK = 16
"""Bytes: malloc's smallest piece is 32 with its header."""
GREW_BYTES = 1 << 20
"""Under 55 bytes in each of 20,000 calls."""


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Nothing is kept of the library or the suites that were found before, nor of what a test finds."""
    caches = (sm2._library, suites.suite_by_number)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def queued_errors() -> int:
    """What this thread's error queue holds."""
    count = 0
    while SM2._lib.ERR_get_error():
        count += 1
    return count


class Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def allocated_bytes() -> int:
    """What malloc has given out and not got back. Python's own small objects are not among it."""
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def test_a_machine_without_libcrypto_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    monkeypatch.setattr(sm2, "_SONAME", "libcrypto.so.nowhere")
    with pytest.raises(SuiteError, match="apt install openssl"):
        suite_by_number(2)
    assert suite_by_number(1).number == 1


def test_a_libcrypto_that_is_too_old_is_told_apart(monkeypatch: pytest.MonkeyPatch, forgotten: None) -> None:
    older = (("EVP_PKEY_that_is_not_there", ctypes.c_int, ()),)
    monkeypatch.setattr(sm2, "_PROTOTYPES", older)
    with pytest.raises(SuiteError, match=r"OpenSSL 3"):
        suite_by_number(2)


def test_a_libcrypto_without_sm2_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sm2, "_ALGORITHM", b"SM2-left-out")
    with pytest.raises(SuiteError, match="built without SM2"):
        Sm2()
    assert queued_errors() == 0


def test_a_pair_belongs_together() -> None:
    assert SM2.public_of(bytearray(PRIVATE)) == PUBLIC
    assert plain_sm.on_curve(plain_sm.decoded(PUBLIC))


def test_pkcs8_is_what_openssl_writes() -> None:
    key = OPENSSL[36:68]
    assert SM2.pkcs8(key) == OPENSSL
    assert SM2.from_pkcs8(OPENSSL) == key
    assert SM2.from_pkcs8(DER) == PRIVATE


def test_pkcs8_without_the_public_key() -> None:
    without = plain_sm.wrapped(0x30, b"\x02\x01\x01\x04\x20" + PRIVATE)
    head = bytes.fromhex("020100301306072a8648ce3d020106082a811ccf5501822d")
    assert SM2.from_pkcs8(plain_sm.wrapped(0x30, head + plain_sm.wrapped(0x04, without))) == PRIVATE


def foreign(password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30\x00",
        DER[:-1],
        DER + b"\0",
        foreign(),
        foreign(b"password"),
        DER[:36] + bytes(32) + DER[68:],
        DER[:36] + b"\xff" * 32 + DER[68:],
        bytes((1 << 20) + 1),
    ],
    ids=["nothing", "empty", "cut", "more", "P-256", "encrypted", "zero", "past n", "too long"],
)
def test_other_private_keys_are_refused(der: bytes) -> None:
    with pytest.raises(SuiteError):
        SM2.from_pkcs8(der)
    assert queued_errors() == 0


@pytest.mark.parametrize("number", [0, ORDER - 1, ORDER, (1 << 256) - 1])
def test_private_keys_end_at_n_minus_2(number: int) -> None:
    private = number.to_bytes(32, "big")
    uses: tuple[Callable[[], object], ...] = (
        lambda: SM2.public_of(private),
        lambda: SM2.sign(private, b""),
        lambda: SM2.decrypt(private, b"\x30\x00"),
    )
    for use in uses:
        with pytest.raises(SuiteError, match="n - 2"):
            use()
    assert SM2.public_of((ORDER - 2).to_bytes(32, "big"))


def not_a_point() -> bytes:
    point = plain_sm.decoded(PUBLIC)
    return plain_sm.encoded(plain_sm.Point(point.x, point.y ^ 1))


@pytest.mark.parametrize(
    "public",
    [
        b"",
        PUBLIC[:-1],
        PUBLIC + b"\0",
        b"\x02" + PUBLIC[1:33],
        b"\x06" + PUBLIC[1:],
        not_a_point(),
        b"\x04" + b"\xff" * 64,
        b"\x04" + bytes(64),
        b"\x00" * 65,
    ],
    ids=["nothing", "short", "long", "compressed", "hybrid", "off the curve", "past p", "origin", "infinity"],
)
def test_what_is_no_public_key(public: bytes) -> None:
    with pytest.raises(SuiteError):
        SM2.encrypt(public, b"secret")
    with pytest.raises(SuiteError):
        SM2.verify(public, b"", SM2.sign(PRIVATE, b""))
    assert queued_errors() == 0


def test_a_ciphertext_whose_point_is_off_the_curve() -> None:
    c1, c3, c2 = plain_sm.read_ciphertext(SM2.encrypt(PUBLIC, b"secret"))
    assert SM2.decrypt(PRIVATE, plain_sm.ciphertext_der(c1, c3, c2)) == b"secret"
    with pytest.raises(SuiteError):
        SM2.decrypt(PRIVATE, plain_sm.ciphertext_der(plain_sm.Point(c1.x, c1.y ^ 1), c3, c2))
    assert queued_errors() == 0


@pytest.mark.parametrize("size", [1, 31, 32, 64, 65, 126, 127, 128, 255, 256, 70_000])
def test_lengths_at_the_edges_of_der(size: int) -> None:
    plain = bytes(i % 251 for i in range(size))
    assert SM2.decrypt(PRIVATE, SM2.encrypt(PUBLIC, plain)) == plain


@pytest.mark.parametrize("plain", [b"", bytes((1 << 20) + 1)], ids=["nothing", "too much"])
def test_what_is_not_encrypted(plain: bytes) -> None:
    with pytest.raises(SuiteError):
        SM2.encrypt(PUBLIC, plain)


@pytest.mark.parametrize(
    "forged",
    [
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80" + bytes(40) + b"\0\0",
        plain_sm.wrapped(
            0x30, plain_sm.integer(1) * 2 + b"\x04\x20" + bytes(32) + b"\x04\x84\x7f\xff\xff\xff"
        ),
        plain_sm.wrapped(0x30, plain_sm.integer(1 << 4000) * 2 + b"\x04\x00\x04\x00"),
        plain_sm.ciphertext_der(plain_sm.G, b"", b""),
        plain_sm.ciphertext_der(plain_sm.G, bytes(32), b""),
        plain_sm.ciphertext_der(plain_sm.G, bytes(31), bytes(40)),
    ],
    ids=["4 GiB", "indefinite", "2 GiB inside", "a long number", "empty", "no C2", "short C3"],
)
def test_forged_ciphertexts(forged: bytes) -> None:
    with pytest.raises(SuiteError):
        SM2.decrypt(PRIVATE, forged)
    assert queued_errors() == 0


@given(st.binary(max_size=300))
@example(b"\x30")
@example(b"\x30\x81")
def test_no_bytes_leave_anything_on_the_error_queue(data: bytes) -> None:
    assert not SM2.verify(PUBLIC, b"entry", data)
    uses: tuple[Callable[[], object], ...] = (
        lambda: SM2.verify(data, b"entry", bytes(70)),
        lambda: SM2.decrypt(PRIVATE, data),
        lambda: SM2.from_pkcs8(data),
        lambda: SM2.encrypt(data, b"secret"),
    )
    for use in uses:
        with pytest.raises(SuiteError):
            use()
        assert queued_errors() == 0


def grown_bytes(work: Callable[[], None]) -> int:
    before = allocated_bytes()
    for _ in range(CALLS):
        work()
    return allocated_bytes() - before


def refusals() -> None:
    """Each a way out of the middle of a call. Without `pytest.raises`, which allocates as it likes."""
    forged = plain_sm.ciphertext_der(plain_sm.G, bytes(32), bytes(40))
    uses: tuple[Callable[[], object], ...] = (
        lambda: SM2.encrypt(not_a_point(), b"secret"),
        lambda: SM2.decrypt(PRIVATE, forged),
        lambda: SM2.from_pkcs8(DER[:-1]),
    )
    refused = 0
    for use in uses:
        try:
            use()
        except SuiteError:
            refused += 1
    assert refused == len(uses)
    assert not SM2.verify(PUBLIC, b"entry", b"\x30\x06\x02\x01\x01\x02\x01\x01")


def everything() -> None:
    private, public = SM2.generate()
    assert SM2.decrypt(private, SM2.encrypt(public, b"secret")) == b"secret"
    assert SM2.from_pkcs8(SM2.pkcs8(private)) == private


def signed_and_verified() -> None:
    assert SM2.verify(PUBLIC, b"entry", SM2.sign(PRIVATE, b"entry"))


@pytest.mark.parametrize("work", [signed_and_verified, everything, refusals])
def test_nothing_that_was_allocated_is_left(work: Callable[[], None]) -> None:
    # The least of five: caches that fill for once are no leak, and a leak shows each time.
    assert min(grown_bytes(work) for _ in range(5)) < CALLS * LEAST_LEAK


@pytest.mark.timeout(300)
def test_memory_does_not_grow_over_20_000_signatures_and_verifications() -> None:
    for _ in range(500):
        signed_and_verified()
    before = psutil.Process().memory_info().rss
    for _ in range(10_000):
        signed_and_verified()
    assert psutil.Process().memory_info().rss - before < GREW_BYTES
