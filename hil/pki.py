"""Keys, certificates and a trust file for one robot and its people: for the demo and for every rig test.

Three separate things, as in the field: X.509 certificates (ECDSA P-256) say who may talk to the broker;
Ed25519 keys sign what is said end to end (PROTOCOL 3); X25519 keys open the sealed log. The trust file is
signed here with PyJWT, and keys are written with `cryptography`, apart from the agent's own code, so that the
agent reads what it did not write. Nothing here is meant for a robot in service: there the department keeps
its root key elsewhere, and no key that opens a log is ever near the robot.
"""

import base64
import ipaddress
import json
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.errors import WardenError

VALID = timedelta(days=365)
CLOCK_DRIFT = timedelta(hours=1)
"""Certificates begin this much earlier: a robot fresh from a power cut may run behind."""
ROOT_KID = "department-root"
ROLES = ("guardian", "department", "authority", "maintainer")
RECIPIENTS = ("department", "authority")
"""Who can open the log: kids, which are in no trust file."""
WITNESS_KID = "witness-1"
"""The machine that keeps copies of ledgers; it is in no trust file, the plan pins its key."""
WITNESS_ROLE = "witness"
"""What the broker lets it do (`hil.broker_acl`)."""
PRIVATE, PUBLIC = 0o600, 0o644

Jwk = dict[str, str]
PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey | X25519PrivateKey


class PkiError(WardenError):
    """A folder of keys that cannot be made as asked."""

    def __init__(self, where: Path | str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Person:
    """One row of the trust file's `people`. `robots`: ids, or `*`; `trained_until`: an ISO date."""

    kid: str
    name: str
    role: str = "guardian"
    robots: tuple[str, ...] = ("*",)
    trained_until: str = "2099-12-31"
    revoked: bool = False

    def row(self, key: Jwk) -> dict[str, object]:
        """As it stands in the trust file."""
        return {
            "kid": self.kid,
            "name": self.name,
            "role": self.role,
            "key": key,
            "robots": list(self.robots),
            "trained_until": self.trained_until,
            "revoked": self.revoked,
        }


DEFAULT_PEOPLE = (
    Person("guardian-li", "李静"),
    Person("guardian-wang", "王强"),
    Person("department-chen", "陈敏", role="department"),
    Person("authority-zhou", "周平", role="authority"),
    Person("maintainer-he", "何勇", role="maintainer"),
)


class Identity(NamedTuple):
    """The files of one who talks to the broker and signs."""

    cert: Path
    key: Path
    signing_key: Path


# Ed25519 --------------------------------------------------------------------------------------------------


def public_jwk(key: Ed25519PrivateKey | Ed25519PublicKey, kid: str) -> Jwk:
    """The public half as PROTOCOL 3's JWK (RFC 8037)."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return _okp("Ed25519", raw, kid)


def _okp(crv: str, raw: bytes, kid: str) -> Jwk:
    return {
        "kty": "OKP",
        "crv": crv,
        "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode(),
        "kid": kid,
    }


def make_trust(
    root_key: Ed25519PrivateKey,
    root_kid: str,
    people: Sequence[Mapping[str, object]],
    robots: Sequence[Mapping[str, object]],
    groups: Mapping[str, Sequence[str]],
    version: int,
    *,
    iat: int | None = None,
) -> str:
    """The trust file (PROTOCOL 3) as compact JWS. `iat`: seconds since 1970, None for now."""
    claims = {
        "iss": root_kid,
        "aud": "*",
        "iat": int(time.time()) if iat is None else iat,
        "version": version,
        "people": list(people),
        "robots": list(robots),
        "groups": {name: list(members) for name, members in groups.items()},
    }
    headers = {"typ": "warden-trust+jwt", "kid": root_kid}
    return jwt.encode(claims, root_key, algorithm="EdDSA", headers=headers)


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """A PKCS#8 PEM file; raises PkiError when it holds another kind of key."""
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise PkiError(path, "not an Ed25519 key")
    return key


# X.509 ----------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority that lives only as long as this object: its private key is never written."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _certificate(name, name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        self.certificate = _with_key_ids(builder, self._key, self._key).sign(self._key, hashes.SHA256())

    def issue(
        self, name: str, *, server: bool = False
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A leaf with CN `name`, for a client, or for a server on the loopback interface."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.rfc4514_string().removeprefix("CN=")
        builder = _certificate(name, issuer, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if server:
            builder = builder.add_extension(x509.SubjectAlternativeName(_LOOPBACK), critical=False)
        return _with_key_ids(builder, key, self._key).sign(self._key, hashes.SHA256()), key


_LOOPBACK = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


def _certificate(name: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_DRIFT)
        .not_valid_after(now + VALID)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _with_key_ids(
    builder: x509.CertificateBuilder, own: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    """Both key identifiers: without them strict verifiers (Python 3.13's default) refuse the chain."""
    subject_id = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return builder.add_extension(subject_id, critical=False).add_extension(authority_id, critical=False)


# The folder -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pki:
    """A folder laid out for PROTOCOL 8's `[remote]` and `[recorder]`.

    CA, server, robot, department's root, trust, people; those who can open the log, and a witness.
    """

    folder: Path
    robot_id: str
    robot_name: str
    people: tuple[Person, ...]
    groups: Mapping[str, Sequence[str]]
    authority: Authority = field(repr=False)

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        robot_id: str = "FT-2024-0017",
        robot_name: str = "福小安",
        people: Sequence[Person] = DEFAULT_PEOPLE,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> Self:
        """Makes everything, trust version 1. Raises PkiError rather than overwrite a key or mix up names.

        `groups`: name to robot ids; by default `all` and `hall`, each with this robot.
        """
        _check_names(robot_id, people)
        default_groups = {"all": [robot_id], "hall": [robot_id]}
        made = cls(
            folder, robot_id, robot_name, tuple(people), groups or default_groups, Authority("warden rig CA")
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "people").mkdir(exist_ok=True)
        _write_certificate(made.ca, made.authority.certificate)
        made._issue("localhost", made.server_cert, made.server_key, server=True)
        made._issue(robot_id, made.robot.cert, made.robot.key)
        _write(
            made.robot_jwk, json.dumps(_make_signing_key(made.robot.signing_key, robot_id)).encode(), PUBLIC
        )
        _write(made.root_jwk, json.dumps(_make_signing_key(made.root_key, ROOT_KID)).encode(), PUBLIC)
        for kid in (*(person.kid for person in people), WITNESS_KID):
            made.enrol(kid)
        _write(made.witness_jwk, json.dumps(made._jwk(WITNESS_KID)).encode(), PUBLIC)
        for kid in RECIPIENTS:
            _make_recipient(made.recipient_key(kid), made.recipient_jwk(kid), kid)
        made.sign_trust(version=1)
        return made

    @property
    def ca(self) -> Path:
        """The certificate that both sides trust."""
        return self.folder / "ca.crt"

    @property
    def server_cert(self) -> Path:
        """Of the broker, for 127.0.0.1 and localhost."""
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        """Of the broker."""
        return self.folder / "server.key"

    @property
    def robot(self) -> Identity:
        """CN and kid are the robot's id."""
        return Identity(*(self.folder / f"robot.{end}" for end in ("crt", "key", "ed25519.pem")))

    @property
    def robot_jwk(self) -> Path:
        """The public half of what the robot signs with."""
        return self.folder / "robot.ed25519.jwk"

    @property
    def root_jwk(self) -> Path:
        """The department's root key, which the plan pins."""
        return self.folder / "department-root.jwk"

    @property
    def root_key(self) -> Path:
        """The department's root key, private."""
        return self.folder / "department-root.pem"

    @property
    def trust(self) -> Path:
        """The signed trust file."""
        return self.folder / "trust.jwt"

    @property
    def parties(self) -> tuple[tuple[str, str], ...]:
        """(name in the certificate, role) of everyone at the broker but the robot."""
        people = ((person.kid, person.role) for person in self.people)
        return (*people, (WITNESS_KID, WITNESS_ROLE))

    @property
    def witness(self) -> Identity:
        """The files of the machine that witnesses."""
        return self.person(WITNESS_KID)

    @property
    def witness_jwk(self) -> Path:
        """The public half of what the witness signs with, which the plan pins."""
        return self.folder / "witness.ed25519.jwk"

    def recipient_jwk(self, kid: str) -> Path:
        """The public key of one of RECIPIENTS, which the plan names."""
        return self.folder / f"{kid}.x25519.jwk"

    def recipient_key(self, kid: str) -> Path:
        """The private key that opens the log."""
        return self.folder / f"{kid}.x25519.pem"

    def person(self, kid: str) -> Identity:
        """The files of one enrolled person."""
        return Identity(*(self.folder / "people" / f"{kid}.{end}" for end in ("crt", "key", "ed25519.pem")))

    def enrol(self, kid: str) -> Identity:
        """A certificate and a signing key for `kid`; trusted by the robot only once `sign_trust` lists it."""
        files = self.person(kid)
        self._issue(kid, files.cert, files.key)
        _make_signing_key(files.signing_key, kid)
        return files

    def sign_trust(
        self, *, version: int, people: Sequence[Person] | None = None, iat: int | None = None
    ) -> str:
        """Writes and gives a new trust file; `people` (each enrolled) stand in for those of `create`."""
        robot_key = public_jwk(load_signing_key(self.robot.signing_key), self.robot_id)
        token = make_trust(
            load_signing_key(self.root_key),
            ROOT_KID,
            [person.row(self._jwk(person.kid)) for person in (self.people if people is None else people)],
            [{"id": self.robot_id, "name": self.robot_name, "key": robot_key}],
            self.groups,
            version,
            iat=iat,
        )
        self.trust.write_text(token + "\n")
        return token

    def client_tls(self, identity: Identity | None) -> ssl.SSLContext:
        """What a client of the broker uses; None: one that has no certificate to show."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if identity is not None:
            context.load_cert_chain(identity.cert, identity.key)
        return context

    def _issue(self, name: str, cert: Path, key: Path, *, server: bool = False) -> None:
        certificate, private = self.authority.issue(name, server=server)
        _write_private(key, private)
        _write_certificate(cert, certificate)

    def _jwk(self, kid: str) -> Jwk:
        return public_jwk(load_signing_key(self.person(kid).signing_key), kid)


def _check_names(robot_id: str, people: Sequence[Person]) -> None:
    """One name is one right at the broker: a person named like the robot could speak for it there."""
    names = [robot_id, ROOT_KID, WITNESS_KID, *(person.kid for person in people)]
    for name in names:
        if names.count(name) > 1:
            raise PkiError(name, "the name of two parties")
    for person in people:
        if person.role not in ROLES:
            raise PkiError(person.kid, f"role must be one of {', '.join(ROLES)}, not {person.role!r}")


def _make_signing_key(path: Path, kid: str) -> Jwk:
    key = Ed25519PrivateKey.generate()
    _write_private(path, key)
    return public_jwk(key, kid)


def _make_recipient(private: Path, public: Path, kid: str) -> None:
    key = X25519PrivateKey.generate()
    _write_private(private, key)
    jwk = _okp("X25519", key.public_key().public_bytes_raw(), kid)
    _write(public, json.dumps(jwk).encode(), PUBLIC)


def _write_private(path: Path, key: PrivateKey) -> None:
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _write(path, key.private_bytes(*pem), PRIVATE)


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), PUBLIC)


def _write(path: Path, content: bytes, mode: int) -> None:
    """A new file that has its mode from its first moment, whatever the umask; never over an old one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise PkiError(path, "exists already and is not overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
