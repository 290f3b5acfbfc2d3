"""Recipients' key files: what is written is read, all else is refused, and nothing secret is said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from agent.core.trust import encode_base64url
from agent.logformat import sm2
from agent.logformat.suites import SuiteError, suite_by_number
from agent.recipients import (
    Recipient,
    RecipientKey,
    load_recipient,
    load_recipient_key,
    recipient_jwk,
    write_recipient_pair,
)
from agent.tokens import KeyFileError, load_private_key, load_public_jwk, write_key_pair

KINDS = {1: "x25519", 2: "sm2"}
X25519 = X25519PrivateKey.from_private_bytes(b"\x01" * 32)
ONE = recipient_jwk(Recipient("department", 1, X25519.public_key().public_bytes_raw()))
SM2_PUBLIC = bytes.fromhex(
    "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
    "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
)
"""GB/T 32918.5, appendix A."""
TWO = recipient_jwk(Recipient("department", 2, SM2_PUBLIC))
OPENSSL = b"""-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqBHM9VAYItBG0wawIBAQQgOUUgj3shRLE/NuOK
xtOflYiTk2koYLUaQvuB7033xbihRANCAAQJ+d8xHlQhoVDdfRYeS8XGchefrRgz
/AdrsI/zVvNQIMzqSQziZ3WlLcbqcYzBqmAK7QX7814ISmYy9gctqa0T
-----END PRIVATE KEY-----
"""
"""What `openssl pkcs8 -topk8 -nocrypt` (3.0) writes for the private key beside it in that appendix."""


def refused(load: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(KeyFileError) as caught:
        load(path)
    assert caught.value.path == path
    assert caught.value.__cause__ is None
    return caught.value.bound


def write(path: Path, data: bytes | str, mode: int = 0o600) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)
    return path


def pem(
    key: X25519PrivateKey | Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b""
) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("suite", [1, 2])
def test_a_pair_is_written_and_read_and_belongs_together(tmp_path: Path, suite: int) -> None:
    private, public = write_recipient_pair(tmp_path, "department", suite)

    kind = KINDS[suite]
    assert (private.name, public.name) == (f"department.{kind}.pem", f"department.{kind}.jwk")
    assert [path.stat().st_mode & 0o777 for path in (private, public)] == [0o600, 0o644]
    recipient, key = load_recipient(public), load_recipient_key(private)
    assert (recipient.kid, recipient.suite, key.suite) == ("department", suite, suite)
    assert recipient_jwk(recipient) == json.loads(public.read_text("utf-8"))
    wrapped = suite_by_number(suite).wrap(recipient.public, b"secret", b"header")
    assert suite_by_number(suite).unwrap(key.private, wrapped, b"header") == b"secret"
    assert {path.name for path in tmp_path.iterdir()} == {private.name, public.name}


@pytest.mark.parametrize("suite", [1, 2])
@pytest.mark.parametrize("end", ["pem", "jwk"])
def test_a_pair_is_not_overwritten_unless_asked(tmp_path: Path, suite: int, end: str) -> None:
    old = write(tmp_path / f"department.{KINDS[suite]}.{end}", "old")

    assert "cannot be opened" in refused(lambda _: write_recipient_pair(tmp_path, "department", suite), old)
    assert old.read_text("utf-8") == "old"
    private, public = write_recipient_pair(tmp_path, "department", suite, overwrite=True)
    assert load_recipient(public).suite == load_recipient_key(private).suite == suite


def test_a_pair_needs_a_kid_and_a_folder(tmp_path: Path) -> None:
    assert "kid" in refused(lambda folder: write_recipient_pair(folder, "../evil", 1), tmp_path)
    away = tmp_path / "away" / "department.x25519.pem"
    assert "No such" in refused(lambda path: write_recipient_pair(path.parent, "department", 1), away)


def test_jwks_of_both_kinds(tmp_path: Path) -> None:
    assert ONE.keys() == {"kty", "crv", "x", "kid"}
    assert load_recipient(write(tmp_path / "1.jwk", json.dumps(ONE))).suite == 1
    assert TWO.keys() == {"kty", "crv", "x", "y", "kid"}
    assert load_recipient(write(tmp_path / "2.jwk", json.dumps(TWO))) == Recipient(
        "department", 2, SM2_PUBLIC
    )


@pytest.mark.parametrize(
    ("jwk", "word"),
    [
        ("", "JSON"),
        ("[]", "JSON object"),
        ({**ONE, "kid": "a b"}, "kid"),
        ({name: value for name, value in ONE.items() if name != "kid"}, "kid"),
        ({**ONE, "crv": "Ed25519"}, "X25519"),
        ({**ONE, "kty": "EC"}, "SM2"),
        ({**ONE, "x": "AAAA"}, "32 bytes"),
        ({**ONE, "d": "c2VjcmV0"}, "private key"),
        ({**ONE, "x": encode_base64url(bytes(32))}, "cannot be sealed for"),
        ({**TWO, "d": "c2VjcmV0"}, "private key"),
        ({**TWO, "crv": "P-256"}, "SM2"),
        ({**TWO, "use": "enc"}, "nothing else"),
        ({**TWO, "x": "AAAA"}, "32 bytes"),
        ({**TWO, "y": 7}, "32 bytes"),
        ({**TWO, "y": TWO["x"]}, "cannot be sealed for"),
        ({name: value for name, value in TWO.items() if name != "y"}, "x, y"),
    ],
)
def test_what_is_no_recipient_is_refused(tmp_path: Path, jwk: object, word: str) -> None:
    data = jwk if isinstance(jwk, str) else json.dumps(jwk)

    bound = refused(load_recipient, write(tmp_path / "k.jwk", data))

    assert word in bound
    assert "c2VjcmV0" not in bound


def test_a_signing_key_is_no_recipient(tmp_path: Path) -> None:
    private, public = write_key_pair(tmp_path, "guardian-li")
    assert "X25519" in refused(load_recipient, public)
    assert "another kind" in refused(load_recipient_key, private)


@pytest.mark.parametrize("suite", [1, 2])
def test_a_recipient_signs_nothing(tmp_path: Path, suite: int) -> None:
    private, public = write_recipient_pair(tmp_path, "department", suite)
    refused(load_public_jwk, public)
    assert "Ed25519" in refused(load_private_key, private)


def test_the_private_key_that_openssl_writes(tmp_path: Path) -> None:
    key = load_recipient_key(write(tmp_path / "k.pem", OPENSSL.replace(b"\n", b"\r\n")))
    assert key.suite == 2
    assert sm2.Sm2().public_of(key.private) == SM2_PUBLIC
    assert load_recipient_key(write(tmp_path / "k.pem", pem(X25519))) == RecipientKey(1, b"\x01" * 32)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601, 0o644])
def test_a_private_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    assert f"{mode:04o}" in refused(load_recipient_key, write(tmp_path / "k.pem", OPENSSL, mode))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "PKCS#8"),
        (b"\xff" * 100, "PKCS#8"),
        (OPENSSL[:60], "PKCS#8"),
        (OPENSSL[:-60], "PKCS#8"),
        (OPENSSL + OPENSSL, "PKCS#8"),
        (OPENSSL.replace(b"MIGH", b"MIGG"), "PKCS#8"),
        (OPENSSL.replace(b"OUUgj3sh", b"////////"), "n - 2"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "another kind"),
        (pem(X25519, b"password"), "encrypted"),
        (b"x" * 20_000, "larger"),
    ],
)
def test_what_is_no_private_key_of_a_recipient_is_refused(tmp_path: Path, data: bytes, word: str) -> None:
    assert word in refused(load_recipient_key, write(tmp_path / "k.pem", data))


def test_private_keys_are_in_no_repr() -> None:
    assert "private" not in repr(RecipientKey(1, b"\x01" * 32))


def test_suite_2_without_libcrypto_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sm2._library.cache_clear()
    suite_by_number.cache_clear()
    monkeypatch.setattr(sm2, "_SONAME", "libcrypto.so.nowhere")
    with pytest.raises(SuiteError, match="apt install openssl"):
        write_recipient_pair(tmp_path, "department", 2)
    assert not list(tmp_path.iterdir())
    assert "apt install" in refused(load_recipient, write(tmp_path / "k.jwk", json.dumps(TWO)))
    assert "apt install" in refused(load_recipient_key, write(tmp_path / "k.pem", OPENSSL))
