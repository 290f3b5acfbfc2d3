"""Keys, certificates and rights: they open, they fit together, and the robot is one that is trusted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from agent.config.rights import RightsError, check_rights
from agent.core.plan import Plan, Remote
from agent.errors import WardenError
from hil.pki import Person, Pki
from tests.core.factories import but, small_plan

ROBOT_ID = "FT-1"
PEOPLE = (Person("g.li", "李静"),)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki"), robot_id=ROBOT_ID, people=PEOPLE)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The keys of another department."""
    return Pki.create(tmp_path_factory.mktemp("stranger"), robot_id="FT-2", people=PEOPLE)


@pytest.fixture
def remote(pki: Pki) -> Remote:
    return Remote(
        host="broker",
        port=8883,
        tls=True,
        protocol="5",
        ca=str(pki.ca),
        cert=str(pki.robot.cert),
        key=str(pki.robot.key),
        signing_key=str(pki.robot.signing_key),
        root_keys=(str(pki.root_jwk),),
        trust=str(pki.trust),
        groups=(),
        link_lost_ns=1,
    )


def plan(remote: Remote | None, robot_id: str = ROBOT_ID) -> Plan:
    base = small_plan()
    return replace(base, remote=remote, robot=replace(base.robot, id=robot_id))


def refused(remote: Remote, robot_id: str = ROBOT_ID) -> WardenError:
    with pytest.raises(WardenError) as caught:
        check_rights(plan(remote, robot_id))
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_fits_together_is_good(remote: Remote) -> None:
    check_rights(plan(remote))


def test_without_a_link_to_guardians_there_is_nothing_to_check() -> None:
    check_rights(plan(None))


def test_a_robot_the_department_does_not_know(remote: Remote) -> None:
    error = refused(remote, robot_id="FT-9")
    assert isinstance(error, RightsError)
    assert error.path == remote.trust
    assert error.bound.startswith("names no robot 'FT-9'")
    assert str(error) == f"{error.path}: {error.bound}"


def test_a_signing_key_that_is_another_robot_s(remote: Remote, stranger: Pki) -> None:
    theirs = str(stranger.robot.signing_key)
    error = refused(replace(remote, signing_key=theirs))
    assert isinstance(error, RightsError)
    assert error.path == theirs
    assert error.bound == "is not the key the trust file names for 'FT-1'"


def test_a_trust_file_of_another_department(remote: Remote, stranger: Pki) -> None:
    assert str(stranger.trust) in str(refused(replace(remote, trust=str(stranger.trust))))


NONSENSE = b"no key, no certificate, no token"


@pytest.mark.parametrize("field", ["trust", "signing_key", "ca", "cert", "key"])
def test_a_file_that_holds_something_else_is_named(remote: Remote, tmp_path: Path, field: str) -> None:
    path = tmp_path / field
    path.write_bytes(NONSENSE)
    path.chmod(0o600)
    assert str(path) in str(refused(but(remote, {field: str(path)})))


def test_a_root_key_that_holds_something_else_is_named(remote: Remote, tmp_path: Path) -> None:
    path = tmp_path / "root.jwk"
    path.write_bytes(NONSENSE)
    assert str(path) in str(refused(replace(remote, root_keys=(str(path),))))


def test_a_certificate_and_a_key_that_are_not_a_pair(remote: Remote, stranger: Pki) -> None:
    error = refused(replace(remote, key=str(stranger.robot.key)))
    assert isinstance(error, RightsError)
    assert error.path == remote.cert


def encrypted(pki: Pki, path: Path) -> None:
    key = serialization.load_pem_private_key(pki.robot.key.read_bytes(), password=None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


def test_a_key_behind_a_password_is_refused_and_nobody_is_asked_for_it(
    remote: Remote, pki: Pki, tmp_path: Path
) -> None:
    path = tmp_path / "encrypted.key"
    encrypted(pki, path)
    error = refused(replace(remote, key=str(path)))
    assert isinstance(error, RightsError)
    assert error.path == remote.cert


@pytest.mark.parametrize(
    "change",
    [
        lambda remote: replace(remote, tls=False, ca="", cert="", key=""),
        lambda remote: replace(remote, cert="", key=""),
    ],
    ids=["loopback", "no client certificate"],
)
def test_what_the_plan_does_not_use_is_not_looked_at(
    remote: Remote, change: Callable[[Remote], Remote]
) -> None:
    check_rights(plan(change(remote)))
