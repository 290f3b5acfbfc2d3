"""`python -m agent.audit`."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.audit.__main__ import USAGE, main
from agent.tokens import public_jwk, sign
from tests.audit.forge import DEPARTMENT, WALL, WITNESS, Forge, b64, key, public, recipient, simple
from tests.audit.judge import recorder


def jwk(path: Path, kid: str) -> str:
    path.write_text(json.dumps(public_jwk(kid, public(kid))))
    return str(path)


def private(path: Path, forge: Forge) -> str:
    own = forge.recipients[0]
    told = {"kty": "OKP", "crv": "X25519", "x": b64(own.public), "d": b64(own.private), "kid": own.kid}
    path.write_text(json.dumps(told))
    path.chmod(0o600)
    return str(path)


def genesis(path: Path, forge: Forge) -> str:
    path.write_bytes(forge.first + b"\n")
    return str(path)


def test_verify_in_its_own_process(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    command = [sys.executable, "-m", "agent.audit", "verify", str(forge.folder), "--json"]
    done = subprocess.run(
        [*command, "--genesis", genesis(tmp_path / "g", forge), "--processes", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["verdict"] == "clean / 完好"


def test_verify_with_keys_and_a_witness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge = simple(tmp_path / "log")
    forge.entry("service.end", {"reason": "retired"})
    forge.ack(12)
    forge.delete(forge.done["safety", 1])
    trust = {"iss": DEPARTMENT, "aud": "*", "iat": 1, "version": 1, "people": [], "robots": [], "groups": {}}
    (tmp_path / "trust").write_text(sign(trust, key=key(DEPARTMENT), kid=DEPARTMENT, typ="warden-trust+jwt"))
    (tmp_path / "w.jsonl").write_bytes(forge.ledger.read_bytes())
    options = ["--genesis", genesis(tmp_path / "g", forge), "--witness", str(tmp_path / "w.jsonl")]
    keys = ["--root", jwk(tmp_path / "r", DEPARTMENT), "--trust", str(tmp_path / "trust")]
    witness = ["--witness-key", jwk(tmp_path / "k", WITNESS)]
    assert main(["verify", str(forge.folder), *options, *keys, *witness]) == 0
    assert "up to entry 14 by record" in capsys.readouterr().out
    assert main(["verify", str(forge.folder), *options]) == 1
    assert main(["verify", str(forge.folder)]) == 3


def test_decrypt_to_standard_output_and_to_a_file(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    forge = simple(tmp_path / "log")
    given = ["decrypt", str(forge.folder), "--key", private(tmp_path / "k", forge)]
    assert (
        main([*given, "--stream", "tele", "--from", "2027-01-15T08:00:00.002", "--to", str(WALL + 10**9)])
        == 0
    )
    told = capfdbinary.readouterr()
    assert [json.loads(line)["seq"] for line in told.out.splitlines()] == [2]
    assert b"1 written" in told.err
    assert main([*given, "--out", str(tmp_path / "out"), "--format", "csv", "--json"]) == 0
    assert json.loads(capfdbinary.readouterr().out)["written"] == 8
    assert len((tmp_path / "out").read_bytes().splitlines()) == 9
    assert main([*given, "--out", str(tmp_path / "out")]) == 3
    assert b"exists" in capfdbinary.readouterr().err
    assert main([*given, "--check"]) == 0
    assert b"0 written" in capfdbinary.readouterr().out


def test_a_wrong_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge = simple(tmp_path / "log")
    forge.recipients = [recipient("dep")]
    assert main(["decrypt", str(forge.folder), "--key", private(tmp_path / "k", forge), "--check"]) == 3
    assert "none of the keys opens this log" in capsys.readouterr().out


def test_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forge = simple(tmp_path / "log")
    with recorder(forge.folder):
        assert main(["export", str(forge.folder), str(tmp_path / "b")]) == 0
    assert "4 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [[], ["verify"], ["burn", "x"], ["decrypt", "x"], ["decrypt", "x", "--key", "k", "--from", "noon"]],
)
def test_wrong_usage_is_no_verdict(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == USAGE
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [["verify"], ["verify", "--genesis", "/none"], ["decrypt", "--key", "/none"]]
)
def test_what_cannot_be_read(tmp_path: Path, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([given[0], str(tmp_path / "none"), *given[1:]]) == 3
    assert capsys.readouterr().err.startswith("audit: ")


def test_progress_where_somebody_looks_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    forge = simple(tmp_path / "log")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    main(["verify", str(forge.folder)])
    assert screen.getvalue().endswith("MB\n")
