"""CI's guard against a session that met no real broker."""

from collections import Counter
from pathlib import Path

import pytest

from hil.broker import Broker
from hil.pki import Pki
from tests.evidence import Evidence, main


def written(tmp_path: Path, **starts: dict[str, int]) -> str:
    evidence = Evidence()
    evidence.starts.update({program: Counter(files) for program, files in starts.items()})
    evidence.write(tmp_path / "evidence.json")
    return str(tmp_path / "evidence.json")


@pytest.mark.parametrize(
    "starts",
    [
        {},
        {"python3.11": {"tests/test_main_job.py": 3}},
        {"mosquitto": {"tests/hil/test_broker.py": 3}},
    ],
)
def test_no_real_broker_beyond_its_own_tests_is_a_failure(
    tmp_path: Path, starts: dict[str, dict[str, int]]
) -> None:
    assert main([written(tmp_path, **starts)]) == 1


def test_no_file_is_a_failure(tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.json")]) == 1


def test_a_real_broker_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(tmp_path, mosquitto={"tests/test_main_job.py": 2})]) == 0
    assert "2 starts of a real mosquitto for tests/test_main_job.py" in capsys.readouterr().out


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki"))


def test_a_mosquitto_is_known_by_what_the_kernel_runs(tmp_path: Path, pki: Pki) -> None:
    evidence = Evidence()
    with Broker("mosquitto", tmp_path, pki) as broker:
        evidence.note(broker)
    assert evidence.starts == {"mosquitto": {"tests/test_evidence.py": 1}}
    assert evidence.version.startswith("mosquitto version ")


def test_the_embedded_broker_is_no_mosquitto(tmp_path: Path, pki: Pki) -> None:
    evidence = Evidence()
    with Broker("embedded", tmp_path, pki) as broker:
        evidence.note(broker)
    assert "mosquitto" not in evidence.starts
    assert evidence.version == ""


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = Path(written(tmp_path, mosquitto={"tests/test_main_job.py": 2}))
    assert Evidence.read(path).starts == {"mosquitto": {"tests/test_main_job.py": 2}}
