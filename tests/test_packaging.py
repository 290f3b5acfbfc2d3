"""What `pip install .` gives: the wheel, its commands, its types; and locks that say what is installed."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from configparser import ConfigParser
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

import agent

ROOT = Path(__file__).parents[1]
PACKAGES = ("agent", "console", "drivers", "hil", "sdk")
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==(\S+)", re.MULTILINE)


@pytest.fixture(scope="module")
def project() -> Mapping[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with what is installed: nothing is fetched."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*command, folder], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> frozenset[str]:
    with zipfile.ZipFile(wheel) as archive:
        return frozenset(archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into a folder of its own, dependencies taken from this environment."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", folder, wheel], check=True, capture_output=True)
    return folder


def dist_info(wheel: Path, name: str) -> str:
    """A file of the wheel's dist-info folder."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


def metadata(wheel: Path) -> Message:
    return Parser().parsestr(dist_info(wheel, "METADATA"))


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / "requirements" / lock).read_text("utf-8")))


def run_installed(installed: Path, cwd: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """`command`, outside this tree, with the installed copy before everything else on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_typed_and_whole(package: str, names: frozenset[str]) -> None:
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
    assert sources
    assert sources | {f"{package}/py.typed"} <= names


def test_the_c_reader_is_in(names: frozenset[str]) -> None:
    assert "sdk/c/robot_warden.h" in names


def test_nothing_else_is_in(names: frozenset[str]) -> None:
    strangers = {name for name in names if name.partition("/")[0] not in PACKAGES}
    assert {Path(name).parts[0] for name in strangers} == {f"robot_warden-{agent.__version__}.dist-info"}


def test_the_version_is_the_one_the_agent_states(wheel: Path) -> None:
    assert metadata(wheel)["Version"] == agent.__version__


def test_the_licence_is_in(wheel: Path) -> None:
    assert dist_info(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"


def test_the_commands_are_in(wheel: Path) -> None:
    points = ConfigParser()
    points.read_string(dist_info(wheel, "entry_points.txt"))
    assert dict(points["console_scripts"]) == {"warden": "agent.cli:main", "guardian": "console.cli:main"}


@pytest.mark.parametrize("command", ["warden", "guardian"])
def test_an_installed_command_answers(command: str, installed: Path, tmp_path: Path) -> None:
    result = run_installed(installed, tmp_path, installed / "bin" / command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert command in result.stdout


@pytest.mark.parametrize("package", ["agent", "console"])
def test_an_installed_package_runs_as_a_module(package: str, installed: Path, tmp_path: Path) -> None:
    result = run_installed(installed, tmp_path, sys.executable, "-m", package, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage" in result.stdout


def test_the_installed_copy_is_what_those_two_ran(installed: Path, tmp_path: Path) -> None:
    code = "import agent, console; print(agent.__file__, console.__file__, sep='\\n')"
    found = run_installed(installed, tmp_path, sys.executable, "-c", code).stdout.splitlines()
    assert [Path(path).parents[1] for path in found] == [installed, installed]


def test_python_and_dependencies_are_declared(wheel: Path, project: Mapping[str, Any]) -> None:
    assert metadata(wheel)["Requires-Python"] == ">=3.11"
    declared = [each for each in metadata(wheel).get_all("Requires-Dist", []) if "extra ==" not in each]
    assert len(declared) == len(project["project"]["dependencies"])


@pytest.mark.parametrize("lock", ["run.txt", "dev.txt", "lock.txt"])
def test_every_pin_has_a_hash_and_no_lock_names_a_place(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert entries
    assert [entry for entry in entries if not PIN.match(entry) or "--hash=sha256:" not in entry] == []
    assert re.findall(r"(?m)^-|://|file:", text) == []


def test_what_is_tested_is_what_is_shipped() -> None:
    assert pins("run.txt").items() <= pins("dev.txt").items()


def test_the_build_backend_is_locked(project: Mapping[str, Any]) -> None:
    (backend,) = project["build-system"]["requires"]
    assert project["dependency-groups"]["build"] == [backend]
    assert PIN.match(backend)
    assert dict(PIN.findall(backend)).items() <= pins("run.txt").items()
