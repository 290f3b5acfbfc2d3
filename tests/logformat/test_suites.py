"""What both suites promise: they open what they closed, refuse all else, and raise nothing but SuiteError."""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from agent.logformat.suites import Suite, SuiteError, suite_by_number

NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class Ends:
    """A suite, and one key of each kind."""

    suite: Suite
    signing: bytes
    signed_by: bytes
    private: bytes
    public: bytes

    @property
    def key(self) -> bytes:
        return b"k" * self.suite.key_bytes


def ends(number: int) -> Ends:
    suite = suite_by_number(number)
    signing, signed_by = suite.new_signing_key()
    if number == 2:
        return Ends(suite, signing, signed_by, *suite.new_signing_key())
    key = X25519PrivateKey.generate()
    return Ends(suite, signing, signed_by, key.private_bytes_raw(), key.public_key().public_bytes_raw())


BOTH = tuple(ends(number) for number in (1, 2))


@pytest.fixture(params=BOTH, ids=["suite 1", "suite 2"])
def e(request: pytest.FixtureRequest) -> Ends:
    chosen: Ends = request.param
    return chosen


either = st.sampled_from(BOTH)
noise = st.binary(max_size=200)


@dataclass(frozen=True, slots=True)
class Damage:
    """A piece cut out and another put in its place. The start in thousandths: signatures differ in length."""

    start: int
    cut: int
    put: bytes

    def done_to(self, whole: bytes) -> bytes:
        """Never the same again."""
        start = len(whole) * self.start // 1000
        changed = whole[:start] + self.put + whole[start + self.cut :]
        return changed if changed != whole else whole[:-1]


damages = st.builds(Damage, st.integers(0, 1000), st.integers(0, 100), st.binary(max_size=80))


@contextlib.contextmanager
def nothing_worse_than_refused() -> Iterator[None]:
    with contextlib.suppress(SuiteError):
        yield


def flips(data: bytes, seed: int) -> Iterator[bytes]:
    """One bit flipped in each byte."""
    seeded = random.Random(seed)
    for index in range(len(data)):
        changed = bytearray(data)
        changed[index] ^= 1 << seeded.randrange(8)
        yield bytes(changed)


def test_suites_by_number() -> None:
    for number in (1, 2):
        assert suite_by_number(number).number == number
        assert suite_by_number(number) is suite_by_number(number)
    for number in (0, 3, 255):
        with pytest.raises(SuiteError, match=f"no suite {number}"):
            suite_by_number(number)


def test_a_hash_over_parts_is_the_hash_over_the_whole(e: Ends) -> None:
    hasher = e.suite.hasher()
    for part in (b"one", bytearray(b"two"), memoryview(b"three")):
        hasher.update(part)
    parts = (b"one", bytearray(b"two"), memoryview(b"three"))
    assert hasher.digest() == e.suite.hash(*parts) == e.suite.hash(b"onetwothree")
    assert len(e.suite.hash()) == 32


def test_a_ratchet_step_is_long_enough(e: Ends) -> None:
    length = 32 + e.suite.key_bytes
    assert len(e.suite.expand(bytearray(32), b"ratchet", length)) == length
    for bad in (-1, 255 * 32 + 1):
        with pytest.raises(SuiteError):
            e.suite.expand(bytes(32), b"", bad)
        with pytest.raises(SuiteError):
            e.suite.hkdf(bytes(32), b"", b"", bad)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
def test_what_is_sealed_is_opened(e: Ends, size: int) -> None:
    plain = random.Random(size).randbytes(size)
    sealed = e.suite.seal(bytearray(e.key), NONCE, bytearray(plain), b"frame header")
    assert len(sealed) == size + 16
    assert e.suite.open(bytearray(e.key), NONCE, memoryview(sealed), b"frame header") == plain


def test_every_flip_of_what_was_sealed_is_refused(e: Ends) -> None:
    sealed = e.suite.seal(e.key, NONCE, b"records" * 9, b"frame header")
    for changed in flips(sealed, 1):
        with pytest.raises(SuiteError):
            e.suite.open(e.key, NONCE, changed, b"frame header")
    for key, nonce, associated in (
        (bytes(len(e.key)), NONCE, b"frame header"),
        (e.key, b"\1" + NONCE[1:], b"frame header"),
        (e.key, NONCE, b"frame headeR"),
    ):
        with pytest.raises(SuiteError):
            e.suite.open(key, nonce, sealed, associated)


@pytest.mark.parametrize(("key_bytes", "nonce"), [(-1, NONCE), (8, NONCE), (0, bytes(11)), (0, bytes(16))])
def test_sizes_that_the_format_does_not_have(e: Ends, key_bytes: int, nonce: bytes) -> None:
    key = bytes(e.suite.key_bytes + key_bytes)
    with pytest.raises(SuiteError):
        e.suite.seal(key, nonce, b"records", b"")
    with pytest.raises(SuiteError):
        e.suite.open(key, nonce, bytes(40), b"")


def test_every_flip_of_a_signature_a_key_or_a_message_is_refused(e: Ends) -> None:
    message = b'{"v":1,"robot":"FT-2024-0017","n":7}'
    signature = e.suite.sign(bytearray(e.signing), message)
    assert e.suite.verify(e.signed_by, message, signature)
    assert not any(e.suite.verify(e.signed_by, message, changed) for changed in flips(signature, 1))
    assert not any(e.suite.verify(e.signed_by, changed, signature) for changed in flips(message, 2))
    assert not any(e.suite.verify(changed, message, signature) for changed in flips(e.signed_by, 3))
    for longer in (signature + b"\0", b"\0" + signature):
        assert not e.suite.verify(e.signed_by, message, longer)


def test_keys_are_fresh(e: Ends) -> None:
    keys = [e.suite.new_signing_key() for _ in range(20)]
    assert len({private for private, _ in keys}) == len({public for _, public in keys}) == 20
    assert {len(private) for private, _ in keys} == {32}
    assert {len(public) for _, public in keys} == {len(e.signed_by)}


def test_what_is_wrapped_is_unwrapped_by_its_owner_alone(e: Ends) -> None:
    secret = bytes(range(32))
    wrapped = e.suite.wrap(e.public, bytearray(secret), b"header")
    assert e.suite.wrap(e.public, secret, b"header") != wrapped
    assert e.suite.unwrap(bytearray(e.private), wrapped, b"header") == secret
    for private, info in ((e.private, b"headeR"), (e.private, b""), (e.signing, b"header")):
        with pytest.raises(SuiteError):
            e.suite.unwrap(private, wrapped, info)


def test_every_flip_of_what_was_wrapped_is_refused(e: Ends) -> None:
    wrapped = e.suite.wrap(e.public, bytes(32), b"header")
    for changed in flips(wrapped, 1):
        with pytest.raises(SuiteError):
            e.suite.unwrap(e.private, changed, b"header")


def test_a_key_that_gives_everyone_the_same_secret_is_refused() -> None:
    for low_order in (bytes(32), b"\1" + bytes(31)):
        with pytest.raises(SuiteError):
            BOTH[0].suite.wrap(low_order, bytes(32), b"")


@given(either, noise, noise, noise)
def test_no_bytes_for_a_key_raise_anything_else(e: Ends, key: bytes, message: bytes, more: bytes) -> None:
    assert e.suite.verify(key, message, more) is False
    attempts: tuple[Callable[[], object], ...] = (
        lambda: e.suite.sign(key, message),
        lambda: e.suite.wrap(key, message, more),
        lambda: e.suite.unwrap(key, message, more),
        lambda: e.suite.seal(key, more, message, more),
        lambda: e.suite.open(key, more, message, more),
    )
    for attempt in attempts:
        with nothing_worse_than_refused():
            attempt()


@given(either, noise, noise)
def test_no_noise_opens_or_verifies(e: Ends, noise: bytes, message: bytes) -> None:
    assert not e.suite.verify(e.signed_by, message, noise)
    with pytest.raises(SuiteError):
        e.suite.open(e.key, NONCE, noise, message)
    with pytest.raises(SuiteError):
        e.suite.unwrap(e.private, noise, message)


@given(either, damages)
@example(BOTH[1], Damage(1000, 0, b"\0"))
def test_no_damage_opens_or_verifies(e: Ends, damage: Damage) -> None:
    signature = e.suite.sign(e.signing, b"entry")
    assert not e.suite.verify(e.signed_by, b"entry", damage.done_to(signature))
    assert not e.suite.verify(damage.done_to(e.signed_by), b"entry", signature)
    with pytest.raises(SuiteError):
        e.suite.unwrap(e.private, damage.done_to(e.suite.wrap(e.public, bytes(32), b"")), b"")
    with pytest.raises(SuiteError):
        e.suite.open(e.key, NONCE, damage.done_to(e.suite.seal(e.key, NONCE, bytes(40), b"")), b"")
