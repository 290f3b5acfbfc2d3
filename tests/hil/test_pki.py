"""The rig's keys: who they are for, who may read them, and that the trust file is what PROTOCOL 3 says."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from agent.recipients import load_recipient, load_recipient_key
from agent.tokens import load_public_jwk
from hil.broker_acl import rules_of
from hil.pki import (
    DEFAULT_PEOPLE,
    RECIPIENTS,
    ROOT_KID,
    WITNESS_KID,
    Person,
    Pki,
    PkiError,
    load_signing_key,
    make_trust,
    public_jwk,
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki") / "made")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def name(path: Path) -> str:
    (attribute,) = certificate(path).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def trust(pki: Pki, token: str | None = None) -> dict[str, Any]:
    """The claims, verified against the root key as it stands in its JWK."""
    key = jwt.PyJWK(json.loads(pki.root_jwk.read_text()))
    text = token or pki.trust.read_text().strip()
    return jwt.decode(text, key, algorithms=["EdDSA"], audience="*", issuer=ROOT_KID)


# The folder -----------------------------------------------------------------------------------------------


def test_the_folder_is_laid_out_for_a_plan(pki: Pki) -> None:
    found = {path.relative_to(pki.folder).as_posix() for path in pki.folder.rglob("*") if path.is_file()}
    kids = (*(person.kid for person in DEFAULT_PEOPLE), WITNESS_KID)
    people = {f"people/{kid}.{end}" for kid in kids for end in ("crt", "key", "ed25519.pem")}
    recipients = {f"{kid}.x25519.{end}" for kid in RECIPIENTS for end in ("pem", "jwk")}
    assert found == people | recipients | {
        "ca.crt",
        "server.crt",
        "server.key",
        "robot.crt",
        "robot.key",
        "robot.ed25519.pem",
        "robot.ed25519.jwk",
        "department-root.jwk",
        "department-root.pem",
        "trust.jwt",
        "witness.ed25519.jwk",
    }


def test_private_keys_are_their_owners_alone(pki: Pki) -> None:
    private = [path for path in pki.folder.rglob("*") if path.suffix in (".key", ".pem")]
    assert len(private) == 4 + 2 * (len(DEFAULT_PEOPLE) + 1) + len(RECIPIENTS)
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert all(b"BEGIN PRIVATE KEY" in path.read_bytes() for path in private), "PKCS#8"


def test_what_is_not_private_holds_no_private_key(pki: Pki) -> None:
    public = [path for path in pki.folder.rglob("*") if path.suffix in (".crt", ".jwk", ".jwt")]
    assert public
    for path in public:
        text = path.read_text()
        assert "PRIVATE" not in text
        assert '"d"' not in text


def test_a_key_is_never_overwritten(pki: Pki) -> None:
    before = pki.robot.key.read_bytes()
    with pytest.raises(PkiError, match="exists already") as caught:
        Pki.create(pki.folder)
    assert caught.value.where == pki.ca
    assert pki.robot.key.read_bytes() == before


@pytest.mark.parametrize(
    ("people", "reason"),
    [
        ([Person("FT-2024-0017", "机器人")], "two parties"),
        ([Person(ROOT_KID, "李静")], "two parties"),
        ([Person(WITNESS_KID, "李静")], "two parties"),
        ([Person("li", "李静"), Person("li", "李强")], "two parties"),
        ([Person("li", "李静", role="boss")], "role must be one of"),
    ],
)
def test_mixed_up_names_are_refused_before_anything_is_written(
    tmp_path: Path, people: list[Person], reason: str
) -> None:
    with pytest.raises(PkiError, match=reason):
        Pki.create(tmp_path / "pki", people=people)
    assert not (tmp_path / "pki").exists()


@pytest.mark.parametrize("kid", RECIPIENTS)
def test_a_recipient_s_two_files_belong_together_and_are_read_by_the_agent(pki: Pki, kid: str) -> None:
    recipient, key = load_recipient(pki.recipient_jwk(kid)), load_recipient_key(pki.recipient_key(kid))
    assert (recipient.kid, recipient.suite, key.suite) == (kid, 1, 1)
    assert (
        X25519PrivateKey.from_private_bytes(key.private).public_key().public_bytes_raw() == recipient.public
    )


def test_the_witness_is_a_party_at_the_broker_and_nobody_to_the_robot(pki: Pki) -> None:
    kid, public = load_public_jwk(pki.witness_jwk)
    signing = load_signing_key(pki.witness.signing_key)
    assert (kid, public) == (WITNESS_KID, signing.public_key().public_bytes_raw())
    assert name(pki.witness.cert) == WITNESS_KID
    assert WITNESS_KID not in {person["kid"] for person in trust(pki)["people"]}
    assert dict(pki.parties)[WITNESS_KID] == "witness"
    assert all(rules_of(role) for _, role in pki.parties)


# Certificates ---------------------------------------------------------------------------------------------


def test_the_name_in_a_certificate_is_the_id_or_the_kid(pki: Pki) -> None:
    assert name(pki.robot.cert) == pki.robot_id
    assert [name(pki.person(person.kid).cert) for person in pki.people] == [p.kid for p in pki.people]


def test_each_certificate_belongs_to_its_key(pki: Pki) -> None:
    pairs = [(pki.server_cert, pki.server_key), (pki.robot.cert, pki.robot.key)]
    for cert, key in pairs:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        assert private.curve.name == "secp256r1"
        assert private.public_key() == certificate(cert).public_key()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_server_is_valid_for_the_loopback_interface(pki: Pki, host: str) -> None:
    import ipaddress

    subject = x509.DNSName(host) if host == "localhost" else x509.IPAddress(ipaddress.ip_address(host))
    verifier = PolicyBuilder().store(Store([certificate(pki.ca)])).build_server_verifier(subject)
    assert verifier.verify(certificate(pki.server_cert), [])


def test_clients_may_be_clients_and_the_server_a_server_and_nothing_more(pki: Pki) -> None:
    wanted = {
        pki.server_cert: ExtendedKeyUsageOID.SERVER_AUTH,
        pki.robot.cert: ExtendedKeyUsageOID.CLIENT_AUTH,
        pki.person("guardian-li").cert: ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    for path, purpose in wanted.items():
        extensions = certificate(path).extensions
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_another_authority_of_the_same_name_is_another(pki: Pki, tmp_path: Path) -> None:
    other = Pki.create(tmp_path / "other")
    certificate(pki.robot.cert).verify_directly_issued_by(certificate(pki.ca))
    with pytest.raises(Exception, match=r".*") as caught:
        certificate(other.robot.cert).verify_directly_issued_by(certificate(pki.ca))
    assert type(caught.value).__name__ == "InvalidSignature"


# Trust ----------------------------------------------------------------------------------------------------


def test_the_trust_file_says_what_protocol_3_wants(pki: Pki) -> None:
    token = pki.trust.read_text().strip()
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "warden-trust+jwt", "kid": ROOT_KID}
    claims = trust(pki)
    assert set(claims) == {"iss", "aud", "iat", "version", "people", "robots", "groups"}
    assert (claims["iss"], claims["aud"], claims["version"]) == (ROOT_KID, "*", 1)
    assert claims["groups"] == {"all": [pki.robot_id], "hall": [pki.robot_id]}
    assert [(p["kid"], p["role"], p["revoked"]) for p in claims["people"]] == [
        (person.kid, person.role, False) for person in pki.people
    ]
    assert set(claims["people"][0]) == {"kid", "name", "role", "key", "robots", "trained_until", "revoked"}


def test_the_keys_in_the_trust_file_are_those_in_the_folder(pki: Pki) -> None:
    claims = trust(pki)
    (robot,) = claims["robots"]
    assert robot == {"id": pki.robot_id, "name": "福小安", "key": json.loads(pki.robot_jwk.read_text())}
    for row in claims["people"]:
        key = load_signing_key(pki.person(row["kid"]).signing_key)
        assert row["key"] == public_jwk(key, row["kid"])


def test_a_jwk_by_the_vector_of_rfc_8037() -> None:
    private = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    assert public_jwk(Ed25519PrivateKey.from_private_bytes(private), "k") == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid": "k",
    }


def test_a_later_trust_file_can_revoke_and_add(tmp_path: Path) -> None:
    pki = Pki.create(tmp_path / "pki", people=[Person("li", "李静"), Person("wang", "王强")])
    pki.enrol("he")
    people = [Person("li", "李静", revoked=True), Person("he", "何勇", role="maintainer", robots=("R-1",))]
    token = pki.sign_trust(version=2, people=people, iat=1_700_000_000)
    claims = trust(pki)
    assert trust(pki, token) == claims
    assert (claims["version"], claims["iat"]) == (2, 1_700_000_000)
    assert [(p["kid"], p["revoked"], p["robots"]) for p in claims["people"]] == [
        ("li", True, ["*"]),
        ("he", False, ["R-1"]),
    ]


def test_make_trust_is_the_same_for_the_same_arguments() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    tokens = {make_trust(key, "root", [], [], {"all": ()}, 3, iat=5) for _ in range(3)}
    assert len(tokens) == 1
    assert tokens.pop().count(".") == 2


def test_a_key_of_another_kind_is_refused(pki: Pki) -> None:
    with pytest.raises(PkiError, match="not an Ed25519 key"):
        load_signing_key(pki.robot.key)
