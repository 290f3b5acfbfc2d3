"""Imports go one way (DESIGN): the contracts in pyproject.toml, and what a contract cannot say."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agent", "console", "drivers", "hil", "sdk")

# Standard library only: what a robot's maker copies, what every module starts with, what decides.
STANDARD_ONLY = ("agent/core", "agent/errors.py", "agent/permit.py", "sdk")

# What touches the world. The core is handed the time and the readings, and yields decisions.
IMPURE = frozenset(
    "asyncio builtins concurrent fcntl http io logging mmap multiprocessing os pathlib pickle pty random"
    " secrets select selectors shutil signal socket socketserver sqlite3 ssl subprocess sys syslog tempfile"
    " termios threading time urllib uuid".split()
)
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__"})
CLOCK_CALLS = frozenset({"now", "today", "utcnow"})


def sources(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that the tree imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def top(module: str) -> str:
    return module.partition(".")[0]


def foreign(source: str) -> set[str]:
    """The imports of `source` that are neither ours nor the standard library's."""
    ours_or_standard = sys.stdlib_module_names | set(PACKAGES)
    return {name for name in imported(ast.parse(source)) if top(name) not in ours_or_standard}


def impurities(source: str) -> set[str]:
    """What in `source` reads a clock, does I/O, or brings in something that could."""
    tree = ast.parse(source)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return (
        {name for name in imported(tree) if top(name) in IMPURE}
        | {call.id for call in calls if isinstance(call, ast.Name) and call.id in IMPURE_CALLS}
        | {
            f"{call.value.id}.{call.attr}"
            for call in calls
            if isinstance(call, ast.Attribute)
            and isinstance(call.value, ast.Name)
            and call.value.id in {"datetime", "date"}
            and call.attr in CLOCK_CALLS
        }
    )


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-logo", "--no-cache"], cwd=root, capture_output=True, text=True, check=False
    )


def module_file(root: Path, module: str) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("place", STANDARD_ONLY)
def test_third_party_imports_stay_out(place: str) -> None:
    assert sources(place), f"{place} has moved: this test checks nothing"
    assert {path: found for path in sources(place) if (found := foreign(path.read_text("utf-8")))} == {}


def test_the_core_reads_no_clock_and_does_no_io() -> None:
    core = sources("agent/core")
    assert core
    assert {path: found for path in core if (found := impurities(path.read_text("utf-8")))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pydantic", {"pydantic"}),
        ("def late():\n    from jwt.exceptions import PyJWTError", {"jwt.exceptions"}),
        ("import agent.core.readings, json", set()),
    ],
)
def test_foreign_sees(source: str, found: set[str]) -> None:
    assert foreign(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", {"time"}),
        ("from os import environ", {"os"}),
        ("def late():\n    import logging.config", {"logging.config"}),
        ("x = open('latch')", {"open"}),
        ("x = datetime.now(UTC)", {"datetime.now"}),
        ("x = inputs.now(3)\nimport math", set()),
    ],
)
def test_impurities_sees(source: str, found: set[str]) -> None:
    assert impurities(source) == found


def test_contracts_are_kept() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to plant forbidden imports in."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.mark.parametrize(
    ("contract", "module", "forbidden"),
    [
        ("the core imports nothing of ours", "agent.core.responses", "agent.permit"),
        ("the four modules never import each other", "agent.remote", "agent.reflex"),
        ("drivers import the core and the errors", "drivers.base", "agent.link"),
        ("the guardian's side imports no module", "console.cli", "agent.remote"),
        ("the robot's side imports nothing of ours", "sdk.python.robot_warden", "agent.permit"),
        ("the simulated node shares nothing with the driver", "hil.node", "drivers.serial_node"),
        ("the log's format imports nothing of ours", "agent.logformat.suites", "agent.tokens"),
        (
            "the log's reader shares the format with its writer, and nothing else",
            "agent.audit.errors",
            "agent.recorder.log",
        ),
        ("the log's writer does not use its reader", "agent.recorder.log", "agent.audit.errors"),
        ("reflex needs no network, no pydantic, no command line", "agent.reflex", "aiomqtt"),
        ("the agent runs without the rig and without the guardian's side", "agent.permit", "hil.node"),
    ],
)
def test_each_contract_sees_a_forbidden_import(
    tree: Path, contract: str, module: str, forbidden: str
) -> None:
    path = module_file(tree, module)
    clean = path.read_text("utf-8")
    path.write_text(f"{clean}\n\ndef late() -> None:\n    import {forbidden}\n", "utf-8")
    try:
        result = lint_imports(tree)
    finally:
        path.write_text(clean, "utf-8")
    assert f"{contract} BROKEN" in " ".join(result.stdout.split())
