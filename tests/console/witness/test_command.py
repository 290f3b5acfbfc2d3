"""`guardian witness` on the command line: what is wrong is said before anything begins."""

from pathlib import Path

import pytest

from console.errors import DONE, FAILED, WRONG_USAGE
from console.witness.command import read_genesis
from console.witness.errors import WitnessStateError
from console.witness.store import Store
from tests.console.robots import Site
from tests.console.running import run
from tests.console.witness.conftest import genesis_file
from tests.console.witness.ledgers import Chain


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--state"],
        ["--state", "w", "a/b"],
        ["--state", "w", "--silence-s", "0"],
        ["--state", "w", "--silence-s", "soon"],
        ["--state", "w", "--metrics", "9477"],
        ["--state", "w", "--metrics", "127.0.0.1:"],
        ["--state", "w", "--metrics", "127.0.0.1:70000"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    assert run("witness", *args).exit_code == WRONG_USAGE


def test_help() -> None:
    ran = run("witness", "--help")
    assert ran.exit_code == DONE
    assert "见证" in ran.out
    assert "--genesis" in ran.out


def test_a_state_that_another_witness_has_is_refused(site: Site, tmp_path: Path) -> None:
    store = Store(tmp_path / "w")
    profile = site.profile_file(tmp_path)
    ran = run("witness", "--state", str(tmp_path / "w"), "--profile", str(profile))
    store.close()
    assert ran.exit_code == FAILED
    assert ran.err == f"guardian: {tmp_path}/w: 已被占用 another witness keeps its state here\n"


def test_a_key_that_others_can_read_is_refused(site: Site, tmp_path: Path) -> None:
    loose = tmp_path / "loose.pem"
    loose.write_bytes(site.pki.person("guardian-li").signing_key.read_bytes())
    loose.chmod(0o644)
    profile = site.profile_file(tmp_path, signing_key=str(loose))
    ran = run("witness", "--state", str(tmp_path / "w"), "--profile", str(profile))
    assert ran.exit_code == FAILED
    assert "must be 0600 or stricter" in ran.err


def test_an_address_in_use_is_refused(site: Site, tmp_path: Path) -> None:
    profile, port = site.profile_file(tmp_path), site.broker.port
    arguments = ("--state", str(tmp_path / "w"), "--metrics", f"127.0.0.1:{port}", "--profile", str(profile))
    ran = run("witness", *arguments)
    assert ran.exit_code == FAILED
    assert f"127.0.0.1:{port}: cannot be listened on" in ran.err


def test_genesis_files_are_read_by_robot(tmp_path: Path) -> None:
    one, two = Chain("R1"), Chain("R2")
    paths = [genesis_file(tmp_path, one), genesis_file(tmp_path, two)]
    (tmp_path / "again").write_bytes(one.lines[0])
    found = read_genesis([*paths, tmp_path / "again"])
    assert found == {"R1": one.lines[0], "R2": two.lines[0]}


@pytest.mark.parametrize(
    "content",
    [b"", b"rubbish\n", Chain().grow(1).lines[1], Chain().lines[0].replace(b'"boottime":0', b'"boottime":1')],
    ids=["empty", "rubbish", "a later entry", "forged"],
)
def test_a_file_that_holds_no_genesis_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "g"
    path.write_bytes(content)
    with pytest.raises(WitnessStateError, match="must hold a genesis on its first line"):
        read_genesis([path])


def test_a_genesis_that_is_not_there_or_contradicts_another_is_named(tmp_path: Path) -> None:
    with pytest.raises(WitnessStateError, match="cannot be read: No such file"):
        read_genesis([tmp_path / "g"])
    (tmp_path / "other").write_bytes(Chain(seed="other").lines[0])
    with pytest.raises(WitnessStateError, match="a second, different genesis of R1"):
        read_genesis([genesis_file(tmp_path, Chain()), tmp_path / "other"])
