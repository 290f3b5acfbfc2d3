"""Key files and trust files: what is refused, and that nothing secret is said (PROTOCOL 3, "Key files")."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from agent import tokens
from agent.core.trust import TrustError, encode_base64url
from agent.tokens import KeyFileError, TokenError, TrustFileError

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
KEYS = {"g.li": tokens.raw_public_key(KEY)}

SM2 = b"""-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqBHM9VAYItBG0wawIBAQQgOUUgj3shRLE/NuOK
xtOflYiTk2koYLUaQvuB7033xbihRANCAAQJ+d8xHlQhoVDdfRYeS8XGchefrRgz
/AdrsI/zVvNQIMzqSQziZ3WlLcbqcYzBqmAK7QX7814ISmYy9gctqa0T
-----END PRIVATE KEY-----
"""
"""On a curve that `cryptography` has not got: GB/T 32918.5, appendix A."""


def refused_file(load: Callable[[Path], object], path: Path) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        load(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.bound}"
    assert caught.value.__cause__ is None
    return caught.value


def write(path: Path, data: bytes | str, mode: int = 0o600) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)
    return path


def pem(key: Ed25519PrivateKey | X25519PrivateKey = KEY, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_a_key_pair_is_written_and_read(tmp_path: Path) -> None:
    private, public = tokens.write_key_pair(tmp_path, "g.li")

    assert (private.name, public.name) == ("g.li.ed25519.pem", "g.li.ed25519.jwk")
    assert private.stat().st_mode & 0o777 == 0o600
    kid, raw = tokens.load_public_jwk(public)
    assert (kid, raw) == ("g.li", tokens.raw_public_key(tokens.load_private_key(private)))
    assert json.loads(public.read_text("utf-8")) == tokens.public_jwk(kid, raw)
    assert {path.name for path in tmp_path.iterdir()} == {private.name, public.name}


@pytest.mark.parametrize("taken", ["g.li.ed25519.pem", "g.li.ed25519.jwk"])
def test_a_key_is_not_overwritten_unless_asked(tmp_path: Path, taken: str) -> None:
    old = write(tmp_path / taken, "old", 0o644)

    assert refused_file(lambda _: tokens.write_key_pair(tmp_path, "g.li"), old).path == old
    assert old.read_text("utf-8") == "old"
    private, public = tokens.write_key_pair(tmp_path, "g.li", overwrite=True)
    assert tokens.raw_public_key(tokens.load_private_key(private)) == tokens.load_public_jwk(public)[1]
    assert private.stat().st_mode & 0o777 == 0o600


def test_a_key_pair_needs_a_kid_and_a_folder(tmp_path: Path) -> None:
    assert "kid" in refused_file(lambda folder: tokens.write_key_pair(folder, "../evil"), tmp_path).bound
    away = tmp_path / "away" / "g.li.ed25519.pem"
    assert "No such" in refused_file(lambda path: tokens.write_key_pair(path.parent, "g.li"), away).bound


def test_a_written_file_takes_no_ones_place_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "g.li.ed25519.pem").mkdir()

    private = tmp_path / "g.li.ed25519.pem"
    refused_file(lambda _: tokens.write_key_pair(tmp_path, "g.li", overwrite=True), private)
    assert [path.name for path in tmp_path.iterdir()] == [private.name]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o700 | 0o010, 0o644])
def test_a_private_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    bound = refused_file(tokens.load_private_key, write(tmp_path / "k.pem", pem(), mode)).bound

    assert f"{mode:04o}" in bound
    assert f"chmod 600 {tmp_path / 'k.pem'}" in bound


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_key_of_its_owner_is_read(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "k.pem", pem(), mode)

    assert tokens.raw_public_key(tokens.load_private_key(path)) == KEYS["g.li"]


def test_a_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    link = tmp_path / "link.pem"
    link.symlink_to(write(tmp_path / "k.pem", pem(), 0o600))
    assert tokens.raw_public_key(tokens.load_private_key(link)) == KEYS["g.li"]

    (tmp_path / "k.pem").chmod(0o644)
    assert "0644" in refused_file(tokens.load_private_key, link).bound


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "PKCS#8"),
        (b"\xff" * 100, "PKCS#8"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PKCS#8"),
        (pem(X25519PrivateKey.from_private_bytes(b"\x01" * 32)), "another kind"),
        (SM2, "PKCS#8"),
        (pem(password=b"sesame"), "encrypted"),
        (b"x" * (tokens.MAX_KEY_FILE_BYTES + 1), "larger"),
    ],
)
def test_what_is_not_a_private_key_is_refused(tmp_path: Path, data: bytes, word: str) -> None:
    assert word in refused_file(tokens.load_private_key, write(tmp_path / "k.pem", data)).bound


@pytest.mark.parametrize("load", [tokens.load_private_key, tokens.load_public_jwk])
def test_what_is_not_a_file_is_refused(tmp_path: Path, load: Callable[[Path], object]) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)

    assert "No such file" in refused_file(load, tmp_path / "away").bound
    assert "regular file" in refused_file(load, fifo).bound
    assert "regular file" in refused_file(load, tmp_path).bound


JWK = tokens.public_jwk("g.li", KEYS["g.li"])


@pytest.mark.parametrize(
    ("jwk", "word"),
    [
        ("", "JSON"),
        ("[]", "JSON object"),
        ('{"kid": "a", "kid": "b"}', "twice"),
        ({**JWK, "kid": "a b"}, "kid"),
        ({**JWK, "kid": None}, "kid"),
        ({"kty": "OKP", "crv": "Ed25519", "x": JWK["x"]}, "kid"),
        ({**JWK, "crv": "X25519"}, "Ed25519"),
        ({**JWK, "x": "AAAA"}, "32 bytes"),
        ({**JWK, "d": "c2VjcmV0"}, "private key"),
    ],
)
def test_what_is_not_a_public_key_is_refused(tmp_path: Path, jwk: object, word: str) -> None:
    data = jwk if isinstance(jwk, str) else json.dumps(jwk)

    bound = refused_file(tokens.load_public_jwk, write(tmp_path / "k.jwk", data)).bound

    assert word in bound
    assert "c2VjcmV0" not in bound


def test_root_keys_are_told_apart_by_kid(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jwk", json.dumps(JWK))
    same_kid = write(tmp_path / "two.jwk", json.dumps({**JWK, "x": encode_base64url(b"\x02" * 32)}))

    assert tokens.load_roots([one]) == KEYS
    assert "twice" in refused_file(lambda _: tokens.load_roots([one, same_kid]), same_kid).bound


# ------------------------------------------------------------------------------------------------ trust files

ROOT = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
ROOTS = {"root": tokens.raw_public_key(ROOT)}


def trust_claims(**changes: object) -> dict[str, object]:
    robot = tokens.raw_public_key(OTHER)
    return {
        "iss": "root",
        "aud": "*",
        "iat": 1,
        "version": 1,
        "people": [],
        "robots": [{"id": "R1", "name": "福小安", "key": tokens.public_jwk("R1", robot)}],
        "groups": {},
        **changes,
    }


def trust_token(**changes: object) -> bytes:
    return tokens.sign(trust_claims(**changes), key=ROOT, kid="root", typ=tokens.TRUST).encode()


def test_trust_is_taken_from_a_root_key(tmp_path: Path) -> None:
    path = write(tmp_path / "trust.jwt", trust_token() + b"\n", 0o644)

    trust = tokens.load_trust(path, ROOTS)

    assert trust.version == 1
    assert trust.robot_key("R1") == tokens.raw_public_key(OTHER)
    assert tokens.open_trust(trust_token(), ROOTS) == trust


def test_trust_is_not_taken_from_anyone_else() -> None:
    by_other = tokens.sign(trust_claims(), key=OTHER, kid="root", typ=tokens.TRUST).encode()
    as_command = tokens.sign(trust_claims(), key=ROOT, kid="root", typ=tokens.COMMAND).encode()

    for token, code in ((by_other, "bad_signature"), (as_command, "malformed")):
        with pytest.raises(TokenError) as caught:
            tokens.open_trust(token, ROOTS)
        assert caught.value.code == code
    with pytest.raises(TokenError, match="unknown_key"):
        tokens.open_trust(trust_token(), {})


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"iss": "someone"}, "iss"),
        ({"version": 0}, "version"),
        ({"robots": [{"id": "R1", "name": "n", "key": tokens.public_jwk("R1", ROOTS["root"])}]}, "robots"),
        ({"robots": [{"id": "root", "name": "n", "key": tokens.public_jwk("root", b"1" * 32)}]}, "robots"),
    ],
)
def test_trust_must_be_in_order(tmp_path: Path, changes: dict[str, object], key: str) -> None:
    with pytest.raises(TrustError) as caught:
        tokens.open_trust(trust_token(**changes), ROOTS)
    assert caught.value.key == key

    path = write(tmp_path / "trust.jwt", trust_token(**changes))
    with pytest.raises(TrustFileError) as in_file:
        tokens.load_trust(path, ROOTS)
    assert (in_file.value.path, in_file.value.key) == (path, key)
    assert str(in_file.value) == f"{path}: {key}: {in_file.value.bound}"


@pytest.mark.parametrize(
    ("data", "key"), [(b"", "token"), (b"x" * 70000, "file"), (trust_token()[:-4], "token")]
)
def test_a_trust_file_that_cannot_be_taken_names_the_file(tmp_path: Path, data: bytes, key: str) -> None:
    path = write(tmp_path / "trust.jwt", data)

    with pytest.raises(TrustFileError) as caught:
        tokens.load_trust(path, ROOTS)
    assert (caught.value.path, caught.value.key) == (path, key)


def test_a_trust_file_that_is_not_there_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(TrustFileError, match="No such file"):
        tokens.load_trust(tmp_path / "trust.jwt", ROOTS)


def test_no_secret_is_ever_said(tmp_path: Path) -> None:
    secret = KEY.private_bytes_raw()
    private = write(tmp_path / "k.pem", pem(), 0o644)
    token = tokens.sign({}, key=KEY, kid="g.li", typ=tokens.COMMAND)

    said = [
        repr(refused_file(tokens.load_private_key, private)),
        repr(tokens.verify(token.encode(), typ=tokens.COMMAND, key_of=KEYS.get)),
        repr(tokens.load_private_key(write(private, pem()))),
    ]
    for text in said:
        assert secret.hex() not in text
        assert encode_base64url(secret) not in text
        assert pem().decode().split("\n")[1] not in text
